"""Two processes of torchrun over gloo, on the CPU."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from changedet.config import TrainConfig
from changedet.errors import ConfigError
from changedet.learn import parallel
from changedet.learn.datasets import LabelledScene
from changedet.learn.train import train
from tests.learn.conftest import BANDS

# Both ranks train together, and each saves the network it returns.
_SCRIPT = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from tests.learn.conftest import BANDS, _config, _scene
from changedet.learn import parallel
from changedet.learn.train import train

folder = Path(sys.argv[1])
config = _config(steps=3)
with parallel.joined():
    assert parallel.gather([parallel.rank()]) == [0, 1]
    network = train([_scene()], BANDS, config.candidates["diff"], config, folder, lambda step, loss: None)
    save_file(network.state_dict(), folder / f"rank{parallel.rank()}.safetensors")
"""


def _torchrun(folder: Path, script: str) -> None:
    path = folder / "script.py"
    path.write_text(script)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*run, str(path), str(folder)], check=True, timeout=200)


@pytest.mark.slow
def test_two_processes_end_in_the_same_weights_as_one_that_accumulates_both_batches(
    tmp_path: Path, make_scene: Callable[..., LabelledScene], make_config: Callable[..., TrainConfig]
) -> None:
    _torchrun(tmp_path, _SCRIPT)
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    config = make_config(accumulate=2, steps=3)
    alone = train([make_scene()], BANDS, config.candidates["diff"], config, tmp_path / "alone", lambda step, loss: None)
    # Batch norm measures in another order, and the biases before it have no gradient but rounding errors.
    weights = {name: weight for name, weight in alone.named_parameters() if weight.ndim > 1}
    worst = max(float((first[name] - weight.detach()).abs().max()) for name, weight in weights.items())
    assert worst < 1e-4
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4


def test_alone_there_is_nothing_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with parallel.joined():
        assert (parallel.rank(), parallel.size()) == (0, 1)
        parallel.wait_for_all()
        assert parallel.gather([1, 2]) == [1, 2]
        layer = torch.nn.Linear(1, 1)
        assert parallel.share_gradients(layer, torch.device("cpu")) is layer


def test_refuses_a_gpu_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parallel.choose_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="a CUDA GPU, of which torch finds none"):
        parallel.choose_device("cuda:1")


def test_several_processes_take_the_gpu_of_their_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(parallel, "size", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert parallel.choose_device("auto") == torch.device("cuda", 1)
    assert current == [torch.device("cuda", 1)]
    with pytest.raises(ConfigError, match=r"(?s)device cuda:0 for 2 processes.*of each rank"):
        parallel.choose_device("cuda:0")


@pytest.mark.parametrize(("gpus", "backend"), [(True, "cpu:gloo,cuda:nccl"), (False, "gloo")])
def test_processors_are_joined_too_where_there_are_gpus(
    gpus: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda name, timeout: joined.append(name))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with parallel.joined():
        assert joined == [backend]
