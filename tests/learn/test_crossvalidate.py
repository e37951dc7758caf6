import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from changedet.config import Candidate, LossConfig, ModelPlan, TrainConfig
from changedet.errors import ConfigError
from changedet.learn import card, packaging
from changedet.learn.crossvalidate import best_candidate, train_models
from changedet.learn.datasets import LabelledScene, load_scene, open_dataset
from changedet.learn.evaluate import evaluate_scene
from changedet.learn.held_out import HeldOut
from changedet.learn.scene_term import fit_scene_term
from changedet.learn.task import Task, run_task
from changedet.network.base import ChangeNetwork
from changedet.network.calibration import probability_of
from changedet.network.metric import SiameseMetric
from changedet.network.package import build_network, load_model

BANDS = ("B02", "B03", "B04", "B08")
_CITIES = ("a", "b", "c")
_SIZE = 160  # px, large enough for a halo to be measured
MakeOscd = Callable[..., Path]
MakeConfig = Callable[..., TrainConfig]


_WEIGHT = 0.5


@dataclass(frozen=True)
class _Trained:
    config: TrainConfig
    model: Path
    lines: list[str]
    scenes: dict[str, LabelledScene]


@pytest.fixture(scope="module", autouse=True)
def _memory_unmeasured() -> Iterator[None]:
    """Measuring memory starts two processes; it has a test of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "measure_memory", lambda architecture, arguments: 500.0)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_oscd: MakeOscd, make_config: MakeConfig) -> _Trained:
    root = tmp_path_factory.mktemp("learn")
    data = make_oscd(root / "oscd", _CITIES, _SIZE)
    config = make_config(data=data, out=root / "runs", folds=[["a"], ["b", "c"]], urban_weight=_WEIGHT)
    lines: list[str] = []
    (model,) = train_models(config, jobs=1, command="changedet train it", report=lines.append)
    scenes = {source.name: load_scene(source, BANDS) for source in open_dataset(config.data).scenes}
    return _Trained(config, model, lines, scenes)


def _recomputed(trained: _Trained, candidate: str) -> HeldOut:
    """Score the networks in the folds' checkpoints again, loaded by hand."""
    folds = []
    for fold, cities in enumerate(trained.config.folds):
        network = _loaded(trained, Task("tiny", candidate, fold, trained.config))
        scenes = [trained.scenes[city] for city in cities]
        terms = [fit_scene_term(scene, BANDS, _WEIGHT) for scene in scenes]
        folds.append({s.name: evaluate_scene(network, s, term=t) for s, t in zip(scenes, terms, strict=True)})
    return HeldOut(tuple(folds))


def _loaded(trained: _Trained, task: Task) -> ChangeNetwork:
    """Load the averaged weights in a finished task's checkpoint, as float16 holds them."""
    candidate, prefix = trained.config.candidates[task.candidate], "average.module."
    network = build_network(candidate.architecture, {"in_channels": len(BANDS), **candidate.arguments})
    saved = load_file(task.folder / "checkpoint.safetensors")
    network.load_state_dict({n.removeprefix(prefix): v for n, v in saved.items() if n.startswith(prefix)})
    return network.half().float().eval()


@pytest.mark.parametrize("candidate", ["diff", "early"])
def test_stated_figures_are_those_of_the_folds_networks(trained: _Trained, candidate: str) -> None:
    stated = json.loads((trained.config.out / "tiny.json").read_text())[candidate]
    own = _recomputed(trained, candidate)
    scores = own.calibrated("platt")
    best = scores.pooled.best_threshold()
    assert stated["threshold"] == round(best, 4)
    assert stated["pooled"] == scores.pooled.counts(best).figures()
    assert stated["pooled_at_0.5"] == own.pooled.counts(0.5).figures()
    assert stated["calibration"]["method"] == "platt"
    assert [fold["cities"] for fold in stated["folds"]] == [["a"], ["b", "c"]]
    assert sum(fold["tp"] for fold in stated["folds"]) == stated["pooled"]["tp"]
    assert sum(city["fp"] for city in stated["cities"].values()) == stated["pooled"]["fp"]
    assert sum(stated["pooled"][name] for name in ("tp", "fp", "fn", "tn")) == len(_CITIES) * _SIZE**2


def test_the_best_candidate_is_shipped_with_its_card(trained: _Trained) -> None:
    model, every = load_model(trained.model), json.loads((trained.config.out / "tiny.json").read_text())
    best = max(every, key=lambda name: every[name]["pooled"]["f1"])
    assert model.card.figures == every[best]
    assert model.card.threshold == every[best]["threshold"]
    calibration = _recomputed(trained, best).calibrated("platt").calibration
    assert calibration is not None
    assert model.card.calibration == calibration
    assert model.card.urban_weight == pytest.approx(_WEIGHT * calibration.slope)
    assert model.card.architecture == {"diff": "fc_siam_diff", "early": "fc_ef"}[best]
    assert (model.card.name, model.card.bands, model.card.command) == ("tiny", BANDS, "changedet train it")
    assert len(trained.lines) == 2 * 2 + 1 + 1
    assert model.card.initial_weights == "random"
    assert all("from random weights" in line for line in trained.lines[:-1])


def test_the_model_file_holds_the_network_trained_on_all_cities(trained: _Trained) -> None:
    network = _loaded(trained, Task("tiny", best_candidate("tiny", trained.config), None, trained.config))
    loaded = load_model(trained.model).network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())


def test_a_second_call_with_another_recipe_is_refused(trained: _Trained) -> None:
    other = trained.config.model_copy(update={"urban_weight": 2 * _WEIGHT})
    with pytest.raises(ConfigError, match=r"begun with urban_weight .* now[\s\S]*another out"):
        train_models(other, jobs=1, command="changedet train it", report=lambda line: None)


def test_a_second_call_trains_and_measures_nothing(trained: _Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def stamps() -> dict[Path, int]:
        kept = ("checkpoint.safetensors", "log.csv", "result.json")
        return {path: path.stat().st_mtime_ns for path in trained.config.out.rglob("*") if path.name in kept}

    def measured(*arguments: object) -> None:
        pytest.fail("what was measured of the same checkpoint is measured again")

    monkeypatch.setattr(packaging, "measure", measured)
    before, weights, lines = stamps(), load_model(trained.model).network.state_dict(), []
    (model,) = train_models(trained.config, jobs=1, command="changedet train it", report=lines.append)
    assert len(before) == 3 * (2 * 2 + 1)
    assert stamps() == before
    assert len(lines) == 1
    assert all(torch.equal(value, weights[name]) for name, value in load_model(model).network.state_dict().items())


@pytest.mark.parametrize(
    "folds", [[["a"], ["b"]], [["a", "b"], ["b", "c"]], [["a"], ["b", "c", "d"]]], ids=["too few", "twice", "unknown"]
)
def test_refuses_folds_that_are_no_partition(
    folds: list[list[str]], tmp_path: Path, make_oscd: MakeOscd, make_config: MakeConfig
) -> None:
    config = make_config(data=make_oscd(tmp_path / "oscd", _CITIES, 32), out=tmp_path / "runs", folds=folds)
    with pytest.raises(ConfigError, match=r"(?s)folds of .*expected: each scene once: a, b, c"):
        train_models(config, jobs=1, command="", report=print)
    assert not config.out.exists()


def test_refuses_folds_that_share_ground(tmp_path: Path, make_oscd: MakeOscd, make_config: MakeConfig) -> None:
    root = make_oscd(tmp_path / "oscd", ("a", "b"), 64)
    for date in ("imgs_1", "imgs_2"):
        for file in (root / "Set - Images" / "a" / date).iterdir():
            shutil.copy(file, root / "Set - Images" / "b" / date / file.name)
    config = make_config(data=root, out=tmp_path / "runs")
    with pytest.raises(ConfigError, match=r"show the same pixels: b \(learned\) and a \(tested\)"):
        train_models(config, jobs=1, command="", report=print)


def _write_result(task: Task, right: int) -> None:
    """Leave the result of a training whose network finds `right` of ten changed pixels."""
    changed, unchanged = [0] * 255, [0] * 255
    changed[254], changed[0], unchanged[0] = right, 10 - right, 90
    record = {"cities": {city: {"changed": changed, "unchanged": unchanged} for city in task.held_out}}
    task.folder.mkdir(parents=True)
    (task.folder / "result.json").write_text(json.dumps(record))


def test_only_a_models_own_candidates_compete(tmp_path: Path, make_config: MakeConfig) -> None:
    candidates = {name: Candidate(architecture="fc_ef") for name in ("poor", "fair", "good")}
    plans = {
        "all": ModelPlan(summary="", bands=BANDS),
        "some": ModelPlan(summary="", bands=BANDS, candidates=("poor", "fair")),
    }
    config = make_config(out=tmp_path, candidates=candidates, models=plans)
    for model in plans:
        for name, right in zip(candidates, (2, 5, 8), strict=True):
            for fold in range(2):
                _write_result(Task(model, name, fold, config), right)
    assert {model: best_candidate(model, config) for model in plans} == {"all": "good", "some": "fair"}


def test_refuses_a_model_with_an_unknown_candidate(make_config: MakeConfig) -> None:
    plan = ModelPlan(summary="", bands=BANDS, candidates=("diff", "late"))
    with pytest.raises(ValueError, match="'late' is none of diff, early"):
        make_config(models={"tiny": plan})


def test_a_distance_is_calibrated_and_stated_on_the_card(
    tmp_path: Path, make_oscd: MakeOscd, make_config: MakeConfig
) -> None:
    arguments = {"encoder_depth": 2, "decoder_channels": [8, 8], "embedding": 4}
    metric = Candidate(architecture="siamese_metric", arguments=arguments, loss=LossConfig(contrastive=1))
    config = make_config(
        data=make_oscd(tmp_path / "oscd", (*_CITIES, "d"), _SIZE),
        out=tmp_path / "runs",
        folds=[["a", "b"], ["c", "d"]],
        candidates={"metric": metric},
        early_stop={"scenes": ["a", "c"], "every": 2},
        steps=4,
    )
    assert [Task("tiny", "metric", fold, config).validation for fold in (0, 1, None)] == [("c",), ("a",), ("a", "c")]
    (path,) = train_models(config, jobs=1, command="changedet train it", report=lambda line: None)
    model = load_model(path)
    network, stated = model.network, model.card.figures["distance"]
    assert isinstance(network, SiameseMetric)
    assert isinstance(stated, dict)
    # The distance from which a pixel is changed is the one whose calibrated probability is the card's threshold.
    changed_from = torch.tensor(stated["changed_from"])
    logits = ((changed_from - network.threshold) * network.scale).view(1, 1, 1, 1)
    assert float(probability_of(logits, model.card.calibration)) == pytest.approx(model.card.threshold, abs=1e-5)
    assert path.with_suffix(".png").stat().st_size > 10_000
    with (Task("tiny", "metric", None, config).folder / "log.csv").open() as file:
        assert file.readline().strip().endswith(",validation_f1")


def test_refuses_to_validate_on_a_scene_that_is_not_there(
    tmp_path: Path, make_oscd: MakeOscd, make_config: MakeConfig
) -> None:
    stop = {"scenes": ["a", "c", "z"]}
    root = make_oscd(tmp_path / "oscd", _CITIES, 32)
    config = make_config(data=root, out=tmp_path / "runs", folds=[["a"], ["b", "c"]], early_stop=stop)
    with pytest.raises(ConfigError, match=r"(?s)early_stop.scenes names z.*some of a, b, c"):
        train_models(config, jobs=1, command="", report=print)


def test_refuses_to_hold_out_all_that_is_validated_on(make_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match="leaves nothing to validate on beside the fold a"):
        make_config(early_stop={"scenes": ["a"]})


def test_a_set_larger_than_its_budget_is_learned_and_scored_the_same_from_disk(
    tmp_path: Path, make_oscd: MakeOscd, make_config: MakeConfig
) -> None:
    data = make_oscd(tmp_path / "oscd", _CITIES, 96)
    results, weights = [], []
    for memory in (10**9, 200_000):
        config = make_config(
            data=data, out=tmp_path / str(memory), folds=[["a"], ["b", "c"]], scene_memory=memory, steps=2
        )
        task = Task("tiny", "diff", 0, config)
        run_task(task)
        results.append(json.loads((task.folder / "result.json").read_text()))
        weights.append(load_file(task.folder / "checkpoint.safetensors"))
    assert results[0] == results[1]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.slow
def test_torchrun_shares_every_training_of_the_command(
    tmp_path: Path, make_oscd: MakeOscd, make_config: MakeConfig
) -> None:
    config = make_config(
        data=make_oscd(tmp_path / "oscd", _CITIES, _SIZE), out=tmp_path / "runs", folds=[["a"], ["b", "c"]], steps=2
    )
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump({"train": config.model_dump(mode="json")}))
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*run, "-m", "changedet", "train", str(file)], check=False, timeout=280, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[:3000]
    assert load_model(config.out / "tiny.safetensors").card.name == "tiny"
    assert done.stdout.count("fold 0") == 2, "one process speaks"
