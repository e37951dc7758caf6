import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from changedet.config import Candidate, LossConfig, TrainConfig
from changedet.errors import ConfigError, ModelError
from changedet.learn import train as training
from changedet.learn.augment import augment
from changedet.learn.datasets import LabelledScene
from changedet.learn.evaluate import evaluate_scene
from changedet.learn.sample import ChipSampler
from changedet.learn.train import half_type, train
from changedet.network.base import ChangeNetwork
from changedet.network.losses import ChangeLoss
from changedet.network.normalise import LogReflectance
from changedet.network.package import build_network

BANDS = ("B02", "B03", "B04", "B08")
MakeScene = Callable[..., LabelledScene]
MakeConfig = Callable[..., TrainConfig]


def _ignore(step: int, loss: float) -> None:
    pass


def _train(
    scene: LabelledScene,
    config: TrainConfig,
    folder: Path,
    progress: Callable[[int, float], None] = _ignore,
    candidate: str = "diff",
) -> ChangeNetwork:
    aside = [_validation_scene(scene)] if config.early_stop else []
    return train([scene], BANDS, config.candidates[candidate], config, folder, progress, aside)


def _validation_scene(scene: LabelledScene) -> LabelledScene:
    """Return the scene turned by half: another place."""
    turned = {name: getattr(scene, name)[..., ::-1, ::-1].copy() for name in ("before", "after", "truth", "valid")}
    return LabelledScene("place1", **turned)


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_overfits_one_chip(tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig) -> None:
    still = dict.fromkeys(("warp_share", "gain", "band_gain", "haze", "noise"), 0) | {"crop_px": 48}
    plain = Candidate(architecture="fc_siam_diff", arguments={"width": 4, "dropout": 0})
    config = make_config(
        steps=40,
        candidates={"diff": plain},
        changed_share=1,
        learning_rate=0.02,
        ema=0.5,
        augment=still,
    )
    losses: list[float] = []
    network = _train(make_scene(), config, tmp_path, lambda step, loss: losses.append(loss))
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
    assert not network.training


class _InterruptedError(Exception):
    pass


def _interrupt_at(last: int) -> Callable[[int, float], None]:
    def progress(step: int, loss: float) -> None:
        if step == last:
            raise _InterruptedError

    return progress


# Everything a checkpoint has to hold, together; the validation scene is another place.
_ALL_STATES: dict[str, Any] = {
    "schedule": "cosine",
    "accumulate": 2,
    "hard_share": 0.5,
    "loss": {"bce": 1, "dice": 1, "hard_negatives": 0.5, "border": "soft"},
    "early_stop": {"scenes": ["place1"], "every": 2, "patience": 9},
    "folds": [["a"], ["b"]],
}
_METRIC = Candidate(
    architecture="siamese_metric",
    arguments={"encoder_depth": 2, "decoder_channels": [8, 8], "embedding": 4},
    loss=LossConfig(triplet=1, contrastive=0.5),
)


@pytest.mark.parametrize(
    ("last", "candidate", "changes"),
    [
        (3, "diff", {}),
        (4, "diff", {"precision": "bfloat16"}),
        (4, "diff", _ALL_STATES),
        (3, "diff", {**_ALL_STATES, "precision": "bfloat16"}),
        (3, "metric", {}),
    ],
)
def test_resumed_is_bit_identical_to_uninterrupted(
    last: int, candidate: str, changes: dict[str, Any], tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig
) -> None:
    """Interrupted in the step after a checkpoint, and in one between."""
    plain = make_config(**changes)
    config = plain.model_copy(update={"candidates": {**plain.candidates, "metric": _METRIC}})
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    expected = _train(make_scene(), config, whole, candidate=candidate)
    with pytest.raises(_InterruptedError):
        _train(make_scene(), config, resumed, _interrupt_at(last), candidate)
    steps: list[int] = []
    network = _train(make_scene(), config, resumed, lambda step, loss: steps.append(step), candidate)
    assert steps == list(range(last // 2 * 2, 6))
    assert _equal(network.state_dict(), expected.state_dict())
    assert _equal(*(load_file(folder / "checkpoint.safetensors") for folder in (whole, resumed)))
    assert (resumed / "log.csv").read_text() == (whole / "log.csv").read_text()


def _log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_batches_accumulated_are_one_step_of_their_mean_gradient(
    tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig
) -> None:
    """Against a loop by hand over the same two batches."""
    config = make_config(steps=2, accumulate=2, ema=0, augment={"crop_px": 48})
    scene = make_scene()
    norms = [float(row["gradient_norm"]) for row in _log_of_training(scene, config, tmp_path)]
    torch.manual_seed(config.seed)
    network = build_network("fc_siam_diff", {"in_channels": len(BANDS), "width": 4})
    sampler = ChipSampler([scene], size=48, batch=2, changed_share=config.changed_share, seed=config.seed)
    loss = ChangeLoss(config.loss)
    for index in range(2):
        torch.manual_seed(config.seed * 1_000_003 + index)
        batch = augment(sampler.draw(index), BANDS, config.augment, config.seed, index)
        logits = network(LogReflectance()(batch.before), LogReflectance()(batch.after))
        torch.autograd.backward(loss(logits, batch.target, batch.valid).total / 2)
    expected = torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
    assert norms[0] == pytest.approx(float(expected), rel=1e-4)


def _log_of_training(scene: LabelledScene, config: TrainConfig, folder: Path) -> list[dict[str, str]]:
    _train(scene, config, folder)
    return _log_of(folder)


def test_schedules_are_those_they_are_called(tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig) -> None:
    rates = {}
    for schedule in ("cosine", "one_cycle"):
        config = make_config(steps=10, schedule=schedule, learning_rate=0.01)
        rows = _log_of_training(make_scene(), config, tmp_path / schedule)
        rates[schedule] = [float(row["learning_rate"]) for row in rows]
    cosine = [0.01 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)]
    assert rates["cosine"] == pytest.approx(cosine, rel=1e-4)
    assert rates["one_cycle"][0] == pytest.approx(0.01 / 25, rel=1e-4)
    assert max(rates["one_cycle"]) == pytest.approx(rates["one_cycle"][2], rel=0.05)


def test_stops_when_validation_gains_no_more_and_keeps_the_best_weights(
    tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score rises once, then never again: the weights are those of the second validation."""
    scores = iter([0.1, 0.4, 0.4, 0.3, 0.9])
    seen: list[dict[str, Any]] = []

    def score(self: Any) -> float:
        f1 = next(scores)
        seen.append({name: value.clone() for name, value in self.state.average.module.state_dict().items()})
        self.state.best.update(f1, self.state.average.module)
        return f1

    monkeypatch.setattr(training._Training, "_validate", score)
    stop = {"scenes": ["place1"], "every": 2, "patience": 2}
    network = _train(make_scene(), make_config(steps=20, early_stop=stop), tmp_path)
    rows = _log_of(tmp_path)
    assert [row["step"] for row in rows if row["validation_f1"]] == ["1", "3", "5", "7"]
    assert len(rows) == 8
    assert _equal(network.state_dict(), seen[1])
    again = _train(make_scene(), make_config(steps=20, early_stop=stop), tmp_path, _interrupt_at(0))
    assert _equal(again.state_dict(), seen[1])


def test_validation_scores_the_averaged_weights_on_the_scenes_set_aside(
    tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig
) -> None:
    config = make_config(steps=2, early_stop={"scenes": ["place1"], "every": 2})
    aside = make_scene(seed=1)
    network = train([make_scene()], BANDS, config.candidates["diff"], config, tmp_path, _ignore, [aside])
    pooled = evaluate_scene(network, aside)
    expected = pooled.counts(pooled.best_threshold()).f1
    assert float(_log_of(tmp_path)[-1]["validation_f1"]) == pytest.approx(expected, rel=1e-5)


def test_the_log_shows_what_mining_does(tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig) -> None:
    config = make_config(hard_share=0.5, loss={"bce": 1, "hard_negatives": 0.2})
    rows = _log_of_training(make_scene(), config, tmp_path)
    visited = [float(row["places_visited"]) for row in rows]
    assert visited == sorted(visited)
    assert 0 < visited[0] < visited[-1] <= 1
    assert all(float(row["hard_negative_from"]) > 0 for row in rows)
    assert all(float(row["loss"]) == pytest.approx(float(row["bce"])) for row in rows)


def test_a_metric_network_learns_one_chip(tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig) -> None:
    still = dict.fromkeys(("warp_share", "gain", "band_gain", "haze", "noise"), 0) | {"crop_px": 48}
    candidate = _METRIC.model_copy(update={"loss": LossConfig(contrastive=1)})
    config = make_config(
        steps=30, candidates={"diff": candidate}, changed_share=1, learning_rate=0.01, ema=0.5, augment=still
    )
    scene = make_scene()
    network = _train(scene, config, tmp_path)
    histogram = evaluate_scene(network, scene)
    assert histogram.counts(histogram.best_threshold()).f1 > 0.9


def test_deterministic_mode_is_on_for_the_training_alone(
    tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig
) -> None:
    modes: list[bool] = []
    config = make_config(steps=2, deterministic=True)
    _train(
        make_scene(), config, tmp_path, lambda step, loss: modes.append(torch.are_deterministic_algorithms_enabled())
    )
    assert modes == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_refuses_a_device_that_is_not_there(tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"(?s)device cuda.*device: cpu"):
        _train(make_scene(), make_config(device="cuda"), tmp_path)


def test_a_finished_training_is_only_loaded(tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig) -> None:
    first = _train(make_scene(), make_config(), tmp_path)
    again = _train(make_scene(), make_config(), tmp_path, _interrupt_at(0))
    assert _equal(first.state_dict(), again.state_dict())
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 7


def test_what_training_began_with_is_known_when_the_weights_can_no_longer_be_fetched(
    tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segmentation_models_pytorch import encoders

    save_file(encoders.get_encoder("resnet18", weights=None).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(encoders, "hf_hub_download", lambda *_, filename, **__: str(tmp_path / filename))
    arguments = {"encoder_depth": 2, "decoder_channels": [8, 8], "encoder_weights": "imagenet"}
    candidate = Candidate(architecture="siamese_smp", arguments=arguments)
    config = make_config(steps=2, candidates={"diff": candidate})
    assert _train(make_scene(), config, tmp_path / "run").initial_weights == "imagenet"

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(encoders, "hf_hub_download", unreachable)
    assert _train(make_scene(), config, tmp_path / "run").initial_weights == "imagenet"
    with pytest.raises(ModelError, match="cannot be fetched"):
        _train(make_scene(), config, tmp_path / "other")


def test_the_seed_decides(tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig) -> None:
    one, other = (
        _train(make_scene(), make_config(seed=seed, steps=2), tmp_path / str(seed)).state_dict() for seed in (0, 1)
    )
    assert not _equal(one, other)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _forget_the_step(path: Path) -> None:
    save_file(load_file(path), path)


def _write_nonsense(path: Path) -> None:
    path.write_bytes(b"not a checkpoint")


@pytest.mark.parametrize("damage", [_truncate, _forget_the_step, _write_nonsense])
def test_refuses_a_damaged_checkpoint(
    damage: Callable[[Path], None], tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig
) -> None:
    _train(make_scene(), make_config(steps=2), tmp_path)
    damage(tmp_path / "checkpoint.safetensors")
    with pytest.raises(ModelError, match=r"(?s)checkpoint.safetensors does not fit.*remove .* to start again"):
        _train(make_scene(), make_config(steps=2), tmp_path)


def test_refuses_the_checkpoint_of_another_architecture(
    tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig
) -> None:
    _train(make_scene(), make_config(steps=2), tmp_path)
    with pytest.raises(ModelError, match="does not fit this training"):
        _train(make_scene(), make_config(steps=2), tmp_path, candidate="early")


def test_precision_is_as_asked() -> None:
    cpu = torch.device("cpu")
    assert half_type("bfloat16", cpu) == torch.bfloat16
    assert half_type("float32", cpu) is None
    assert half_type("float16", torch.device("cuda")) == torch.float16
    with pytest.raises(ConfigError, match=r"(?s)float16 on a CPU.*bfloat16"):
        half_type("float16", cpu)
