import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

import changedet
from changedet.cli import cli
from changedet.config import PretrainConfig
from changedet.errors import ConfigError, ModelError
from changedet.learn import card
from changedet.learn.datasets import LabelledScene, open_dataset
from changedet.learn.pretrain import centred, learn, learned_from, pretrain_models
from changedet.learn.train import train
from changedet.network.calibration import probability_of
from changedet.network.package import load_model
from changedet.stats.urban import joined

BANDS = ("B02", "B03", "B04", "B08")
_CITIES = ("a", "b", "c")
MakeOscd = Callable[..., Path]


@pytest.fixture(autouse=True)
def _memory_unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring memory starts two processes; it has a test of its own."""
    monkeypatch.setattr(card, "measure_memory", lambda architecture, arguments: 500.0)


def _fields(data: object, out: Path) -> dict[str, Any]:
    return {
        "data": data,
        "out": str(out),
        "models": {"tiny-free": {"summary": "For tests.", "bands": list(BANDS)}},
        "network": {"architecture": "fc_siam_diff", "arguments": {"width": 4}},
        "made": {"largest_px": 16},
        "pseudo": {"changed_from": 1.6, "unchanged_to": 1.2},
        "places": {"samples": 16, "apart_px": 16},
        "steps": 4,
        "batch": 2,
        "chip_px": 48,
        "precision": "float32",
        "augment": {"crop_px": 32},
        "licence": "Apache-2.0",
        "licence_note": "random numbers",
        "commercial_use": True,
        "description": "made by a test",
    }


@pytest.fixture
def config(tmp_path: Path, make_oscd: MakeOscd) -> PretrainConfig:
    return PretrainConfig.model_validate(_fields(str(make_oscd(tmp_path / "oscd", _CITIES, 160)), tmp_path / "runs"))


def _packaged(config: PretrainConfig) -> Path:
    (path,) = pretrain_models(config, command="changedet pretrain it", report=lambda line: None)
    return path


def _learned(config: PretrainConfig) -> dict[str, torch.Tensor]:
    return learn("tiny-free", config, learned_from(config, BANDS)).state_dict()


def test_a_package_that_run_uses_comes_of_pairs_without_labels(
    tmp_path: Path, config: PretrainConfig, make_oscd: MakeOscd
) -> None:
    """By the command, on the imagery alone: the folder of labels is gone."""
    root = config.data.root
    for city in _CITIES:
        (source,) = root.glob(f"*Images/{city}")
        for date, name in (("imgs_1", "before"), ("imgs_2", "after")):
            shutil.copytree(source / date, tmp_path / "pairs" / city / name)
    file = tmp_path / "pretrain.yaml"
    pairs = {"kind": "pairs", "root": str(tmp_path / "pairs"), "coregister": True}
    file.write_text(yaml.safe_dump({"pretrain": _fields(pairs, tmp_path / "runs")}))
    result = CliRunner().invoke(cli, ["pretrain", str(file)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "learned from 3 pairs without labels" in result.output.replace("\n", " ")
    model = tmp_path / "runs" / "tiny-free.safetensors"
    found = load_model(model).card
    assert (found.licence, found.commercial_use, found.threshold) == ("Apache-2.0", True, 0.5)
    assert found.urban_weight == 2.0, "half of 4, as the logits of both are halved"
    assert [place.name for place in found.places] == list(_CITIES)
    assert "without labels" in str(found.figures["protocol"])
    city = tmp_path / "pairs" / "a"
    done = changedet.run(
        city / "before", city / "after", tmp_path / "out", model=str(model), free_only=True, report=False, halo=32
    )
    assert done.record["model"]["name"] == "tiny-free"
    assert (tmp_path / "out" / "mask.tif").exists()


def test_the_labels_are_not_opened(config: PretrainConfig) -> None:
    labelled = _learned(config)
    for path in config.data.root.glob("*Labels/*/cm/*.tif"):
        path.write_bytes(b"no raster")
    other = config.model_copy(update={"out": config.out / "again"})
    again = _learned(other)
    assert all(torch.equal(value, again[name]) for name, value in labelled.items())


@pytest.mark.parametrize("left", [("made", "places"), ("pseudo", "places"), ("places",)])
def test_each_source_of_targets_can_be_left_out(config: PretrainConfig, left: tuple[str, ...]) -> None:
    alone = config.model_copy(update=dict.fromkeys(left))
    other = config.model_copy(update={"out": config.out / "all"})
    one, every = _learned(alone), _learned(other)
    assert any(not torch.equal(value, every[name]) for name, value in one.items())


def test_the_calibrated_and_joined_grade_is_half_where_the_joined_probability_is_the_threshold() -> None:
    """With a statistic that moves the logit by 4 for a unit, and by 2 after calibration."""
    answer, statistic = np.array([0.1, 0.6, 0.9], np.float32), np.array([2.0, 1.7, 1.4], np.float32)
    whole = joined(answer, statistic, 4.0)
    for threshold in map(float, whole):
        calibration = centred(threshold)
        halved = probability_of(torch.logit(torch.from_numpy(answer)).view(1, 1, 1, -1), calibration).numpy().ravel()
        grade = joined(halved, statistic, 4.0 * calibration.slope)
        np.testing.assert_array_equal(grade >= 0.5 - 1e-6, whole >= threshold - 1e-6)
        assert np.abs(grade - 0.5).min() < 1e-5


def test_the_highest_byte_is_a_threshold_too() -> None:
    calibration = centred(1.0)
    logits = torch.logit(torch.tensor([253 / 254, 253.5 / 254])).view(1, 1, 1, -1)
    lower, at = probability_of(logits, calibration).ravel().tolist()
    assert lower < 0.5 - 1e-3
    assert at == pytest.approx(0.5, abs=1e-5)


def test_places_alone_are_no_model_to_ship(config: PretrainConfig) -> None:
    with pytest.raises(ConfigError, match="teach an encoder and no map"):
        pretrain_models(config.model_copy(update={"made": None, "pseudo": None}), command="", report=lambda line: None)


def test_scenes_that_are_left_out_are_not_learned_from(config: PretrainConfig) -> None:
    apart = config.model_copy(update={"leave_out": ("b",)})
    card = load_model(_packaged(apart)).card
    assert [place.name for place in card.places] == ["a", "c"]
    with pytest.raises(ConfigError, match="leave_out names nowhere"):
        _learned(config.model_copy(update={"leave_out": ("nowhere",)}))


def test_interrupted_it_goes_on_to_the_same_weights(config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config.model_copy(update={"checkpoint_every": 2})
    expected = _learned(config)
    other = config.model_copy(update={"out": config.out / "resumed"})

    def stop(step: int, loss: float) -> None:
        if step == 2:
            raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr("changedet.learn.pretrain.progress_to", lambda folder: stop)
        with pytest.raises(InterruptedError):
            _learned(other)
    resumed = _learned(other)
    assert all(torch.equal(value, resumed[name]) for name, value in expected.items())


def test_training_with_labels_begins_with_the_weights_of_a_model(
    config: PretrainConfig, tmp_path: Path, make_scene: Callable[..., LabelledScene], make_config: Callable[..., Any]
) -> None:
    model = _packaged(config)
    still = make_config(steps=2, learning_rate=1e-12, start=str(model), candidates={"diff": config.network})
    network = train([make_scene()], BANDS, still.candidates["diff"], still, tmp_path / "run", lambda step, loss: None)
    assert network.initial_weights == "tiny-free"
    begun = load_model(model).network.state_dict()
    assert all(torch.allclose(value, begun[name], atol=1e-6) for name, value in network.named_parameters())
    with pytest.raises(ModelError, match="weights of tiny-free do not fit"):
        train(
            [make_scene()],
            BANDS,
            still.candidates["diff"].model_copy(update={"arguments": {"width": 8}}),
            still,
            tmp_path / "other",
            lambda step, loss: None,
        )


def test_pairs_have_no_labels_to_train_with(config: PretrainConfig) -> None:
    with pytest.raises(ConfigError, match="kind pairs has no labels"):
        open_dataset(config.data.model_copy(update={"kind": "pairs", "split": None}))
    with pytest.raises(ConfigError, match="holds no pair"):
        open_dataset(config.data.model_copy(update={"kind": "pairs", "split": None}), labelled=False)


def test_learning_needs_nothing_but_images(config: PretrainConfig, make_scene: Callable[..., LabelledScene]) -> None:
    """What a scene says is true is not looked at."""
    scene = make_scene(96)
    lying = LabelledScene(scene.name, scene.before, scene.after, 1 - scene.truth, scene.valid)
    one, other = (
        learn("tiny-free", config.model_copy(update={"out": config.out / name}), {"x": each}).state_dict()
        for name, each in (("true", scene), ("lying", lying))
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())
