from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from changedet.config import Candidate, TrainConfig
from changedet.errors import ConfigError, ModelError
from changedet.learn.datasets import LabelledScene
from changedet.learn.train import half_type, train
from changedet.network.base import ChangeNetwork

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
    return train([scene], BANDS, config.candidates[candidate], config, folder, progress)


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("last", [3, 4])
def test_resumed_is_bit_identical_to_uninterrupted(
    last: int, precision: str, tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig
) -> None:
    """Interrupted in the step after a checkpoint, and in one between."""
    whole, resumed, config = tmp_path / "whole", tmp_path / "resumed", make_config(precision=precision)
    expected = _train(make_scene(), config, whole)
    with pytest.raises(_InterruptedError):
        _train(make_scene(), config, resumed, _interrupt_at(last))
    steps: list[int] = []
    network = _train(make_scene(), config, resumed, lambda step, loss: steps.append(step))
    assert steps == list(range(last // 2 * 2, 6))
    assert _equal(network.state_dict(), expected.state_dict())
    assert _equal(*(load_file(folder / "checkpoint.safetensors") for folder in (whole, resumed)))


def test_a_finished_training_is_only_loaded(tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig) -> None:
    first = _train(make_scene(), make_config(), tmp_path)
    again = _train(make_scene(), make_config(), tmp_path, _interrupt_at(0))
    assert _equal(first.state_dict(), again.state_dict())
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 7


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
