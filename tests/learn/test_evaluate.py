import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from changedet.config import EvaluateConfig
from changedet.detect.ensemble import EnsembleDetector
from changedet.detect.torch_detector import TorchDetector
from changedet.errors import ConfigError
from changedet.grid import Window
from changedet.grid.quantise import quantise
from changedet.learn.counts import ChangeCounts, ProbabilityHistogram
from changedet.learn.datasets import LabelledDataset, dataset_of, open_dataset
from changedet.learn.evaluate import Evaluation, ModelScore, evaluate
from changedet.learn.figures import markdown, write_evaluation
from changedet.learn.objects import ObjectCounts
from changedet.learn.score import SceneScore
from changedet.network.card import Calibration, Card, Place
from changedet.network.package import load_model
from changedet.network.shipped import read_card
from tests.commands import call
from tests.pairs import tiny_model

BANDS = ("B02", "B03", "B04", "B08")
MakeOscd = Callable[..., Path]


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return read_card(tiny_model(tmp_path / "tiny.safetensors", bands=BANDS))


def _scene(name: str, *, tp: int, fp: int, fn: int, tn: int) -> SceneScore:
    changed, unchanged = np.zeros(255, np.int64), np.zeros(255, np.int64)
    changed[[254, 0]], unchanged[[254, 0]] = (tp, fn), (fp, tn)
    return SceneScore(name, ProbabilityHistogram(changed, unchanged), ObjectCounts.empty())


def _evaluation(card: Card, *models: list[SceneScore], draws: int = 500) -> Evaluation:
    scores = tuple(ModelScore(card, "0", 0.5, tuple(scenes)) for scenes in models)
    return Evaluation("drawn", "valid", scores, (), draws, 0)


def test_figures_are_pooled_not_averaged_over_scenes(card: Card) -> None:
    scenes = [_scene("small", tp=1, fp=0, fn=0, tn=9), _scene("large", tp=10, fp=30, fn=30, tn=30)]
    evaluation = _evaluation(card, scenes)
    pooled = evaluation.as_json()["models"][0]["pooled"]
    assert pooled == ChangeCounts(tp=11, fp=30, fn=30, tn=39).figures()
    assert evaluation.as_json()["models"][0]["scenes"]["small"]["f1"] == 1


def test_mean_and_deviation_over_seeds(card: Card) -> None:
    models = [[_scene("a", tp=tp, fp=10 - tp, fn=10 - tp, tn=9)] for tp in (4, 6, 8)]
    mean, deviation = _evaluation(card, *models).mean_and_deviation()["f1"]
    assert (mean, deviation) == (pytest.approx(0.6), pytest.approx(0.2))
    assert math.isnan(_evaluation(card, models[0]).mean_and_deviation()["f1"][1])


def test_the_interval_is_seeded_and_that_of_draws_of_scenes(card: Card) -> None:
    scenes = [_scene(str(i), tp=i, fp=10 - i, fn=10 - i, tn=100) for i in range(1, 10)]
    low, high = _evaluation(card, scenes, draws=4000).intervals()["precision"]
    assert (low, high) == _evaluation(card, scenes, draws=4000).intervals()["precision"]
    # The mean of nine draws of 0.1 to 0.9 has the standard deviation 0.258 / 3.
    assert (low, high) == (pytest.approx(0.5 - 1.96 * 0.086, abs=0.02), pytest.approx(0.5 + 1.96 * 0.086, abs=0.02))
    alike = [_scene(str(i), tp=6, fp=2, fn=4, tn=100) for i in range(4)]
    assert _evaluation(card, alike).intervals()["recall"] == (0.6, 0.6)
    assert all(map(math.isnan, _evaluation(card, alike[:1]).intervals()["recall"]))


def test_undefined_figures_are_null_in_json_and_dashes_in_the_table(card: Card) -> None:
    evaluation = _evaluation(card, [_scene("calm", tp=0, fp=0, fn=0, tn=50)] * 2)
    content = json.loads(json.dumps(evaluation.as_json(), allow_nan=False))
    assert content["models"][0]["pooled"]["f1"] is None
    assert content["models"][0]["best"] is None
    assert "| calm | – | – | – | – | – |" in markdown(evaluation)


def test_a_name_cannot_break_the_table(card: Card) -> None:
    table = markdown(_evaluation(card, [_scene("a|b\n<b>x", tp=1, fp=1, fn=1, tn=1)]))
    assert "| a\\|b \\<b\\>x | 0.500 |" in table


@pytest.fixture
def cities(tmp_path: Path, make_oscd: MakeOscd) -> LabelledDataset:
    return open_dataset(dataset_of(str(make_oscd(tmp_path / "oscd", ("a", "b"), 64))))


def _evaluated(models: list[Path], cities: LabelledDataset, lines: list[str], **options: object) -> Evaluation:
    config = EvaluateConfig.model_validate({"device": "cpu", **options})
    return evaluate([str(path) for path in models], cities, config, lines.append)


def test_two_models_on_two_cities(tmp_path: Path, cities: LabelledDataset) -> None:
    models = [tiny_model(tmp_path / f"{name}.safetensors", bands=BANDS, threshold=0.45) for name in ("one", "two")]
    lines: list[str] = []
    evaluation = _evaluated(models, cities, lines)
    assert [line.split(":")[0] for line in lines] == ["one · a", "one · b", "two · a", "two · b"]
    for score in evaluation.models:
        assert score.threshold == 0.45
        total = score.counts
        assert total.tp + total.fn == 240
        assert total.tp + total.fn + total.fp + total.tn == 2 * 64 * 64
    assert "does not say what it learned from" in evaluation.warnings[0]
    assert len(evaluation.warnings) == 2
    write_evaluation(evaluation, tmp_path)
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content == json.loads(json.dumps(evaluation.as_json()))
    assert content["over_models"]["f1"]["sd"] == 0  # equal weights
    assert (tmp_path / "evaluation.png").read_bytes()[:4] == b"\x89PNG"
    assert "mean ± sd over models" in (tmp_path / "evaluation.md").read_text()


@pytest.mark.parametrize("tta", [False, True])
def test_the_mean_of_models_is_scored_as_one(tmp_path: Path, cities: LabelledDataset, tta: bool) -> None:
    """Against the mean by hand, on each scene in one chip."""
    brisk = Calibration(method="platt", slope=3, offset=1, data="drawn")
    paths = [
        tiny_model(tmp_path / "one.safetensors", bands=BANDS, threshold=0.4),
        tiny_model(tmp_path / "two.safetensors", bands=BANDS, threshold=0.6, calibration=brisk),
    ]
    lines: list[str] = []
    evaluation = _evaluated(paths, cities, lines, ensemble=True, tta=tta)
    (score,) = evaluation.models
    assert (score.card.name, score.threshold) == ("one+two", 0.5)
    assert [line.split(":")[0] for line in lines] == ["one+two · a", "one+two · b"]
    expected = ProbabilityHistogram.empty()
    for source in cities.scenes:
        with source.open(BANDS) as opened:
            chip = opened.pair.read(Window(0, 0, 64, 64))
            truth, known = opened.labels.read(Window(0, 0, 64, 64))
        members = [TorchDetector(load_model(path), "cpu") for path in paths]
        mean = EnsembleDetector(members, turned=tta).predict(chip.before[None], chip.after[None])[0, 0]
        expected = expected + ProbabilityHistogram.of(quantise(mean, chip.valid), truth > 0, known & chip.valid)
    assert score.pixels.as_json() == expected.as_json()


def test_the_protocol_of_oscd_has_its_threshold(tmp_path: Path, cities: LabelledDataset) -> None:
    own = tiny_model(tmp_path / "own.safetensors", bands=BANDS)
    calibration = Calibration(method="platt", offset=-3, data="drawn")
    model = tiny_model(tmp_path / "one.safetensors", bands=BANDS, threshold=0.45, calibration=calibration)
    score, other = _evaluated([model, own], cities, [], protocol="oscd").models
    assert score.threshold == 0.5
    assert score.counts == other.counts, "the network's own probability, whatever the card makes of it"
    with pytest.raises(ValueError, match=r"protocol oscd has the threshold 0\.5"):
        EvaluateConfig(protocol="oscd", threshold=0.4)


def test_a_model_is_not_scored_on_what_it_learned_from_unless_told_so(tmp_path: Path, cities: LabelledDataset) -> None:
    places = (cities.scenes[1].place(), Place(name="elsewhere", bounds=(0, 0, 1, 1)))
    model = tiny_model(tmp_path / "one.safetensors", bands=BANDS, places=places)
    with pytest.raises(ConfigError, match=r"show the same pixels: b \(learned\) and b \(tested\)"):
        _evaluated([model], cities, [])
    assert _evaluated([model], cities, [], allow_overlap=True).warnings == ()


def test_pixels_of_another_size_are_warned_of(tmp_path: Path, cities: LabelledDataset) -> None:
    model = tiny_model(tmp_path / "one.safetensors", bands=BANDS, resolution_m=0.5)
    assert any("learned from 0.5 m: expect poorer figures" in told for told in _evaluated([model], cities, []).warnings)


def test_the_command_prints_the_table_and_writes_the_files(tmp_path: Path, make_oscd: MakeOscd) -> None:
    root = make_oscd(tmp_path / "oscd", ("a",), 64)
    model = tiny_model(tmp_path / "one.safetensors", bands=BANDS)
    result = call("evaluate", model, root, "--split", "train", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "| one | 0.500 |" in result.stdout
    assert "one · a: F1" in result.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"evaluation.json", "evaluation.md", "evaluation.png"}
    again = call("evaluate", model, root, "-o", tmp_path / "out")
    assert (again.exit_code, "--overwrite" in again.stderr) == (7, True)
    assert "F1" not in again.stderr, "refused before anything is scored"
    assert call("-q", "evaluate", model, root, "--split", "test").exit_code == 2


def test_a_scene_without_a_valid_pixel_counts_for_nothing(tmp_path: Path, cities: LabelledDataset) -> None:
    """Of a model that is joined with a statistic of the pair, which cannot be fitted there."""
    model = tiny_model(tmp_path / "joined.safetensors", urban_weight=2.0)
    alone = _evaluated([model], cities, [])
    for file in cities.scenes[0].after.iterdir():  # type: ignore[attr-defined]
        with rasterio.open(file, "r+") as dataset:
            dataset.write(np.zeros((1, *dataset.shape), np.uint16))
    first, second = _evaluated([model], cities, []).models[0].scenes
    assert first.pixels.changed.sum() + first.pixels.unchanged.sum() == 0
    assert np.array_equal(second.pixels.changed, alone.models[0].scenes[1].pixels.changed)
