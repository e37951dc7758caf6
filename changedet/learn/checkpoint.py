"""The state of a training: everything a later step depends on, saved and found again to the bit."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from changedet.errors import ModelError
from changedet.network.base import ChangeNetwork

CHECKPOINT = "checkpoint.safetensors"


@dataclass(slots=True)
class Best:
    """The weights of highest F1 on the validation scenes so far.

    Attributes:
        f1: their score; -1 before the first validation.
        stale: validations since.
        weights: by name; empty before the first validation.
    """

    f1: float = -1.0
    stale: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def update(self, f1: float, network: torch.nn.Module) -> None:
        """Take the weights of `network` if `f1` is the highest so far; the first of equals stays."""
        if f1 > self.f1:
            self.f1, self.stale = f1, 0
            self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        else:
            self.stale += 1


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What training changes as it goes; the rest follows from the seed and the number of the step.

    Attributes:
        network: with the weights of the last step.
        average: with the averaged ones.
        optimiser: with its moments.
        scaler: of gradients in float16; idle otherwise.
        hard_losses: see `changedet.learn.hard.HardPlaces`.
        best: of early stopping.
    """

    network: ChangeNetwork
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    hard_losses: Tensor
    best: Best

    def save(self, folder: Path, step: int, *, finished: bool) -> None:
        """Write the checkpoint, atomically; safetensors, so that loading it cannot run code."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.weights.items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors["hard_losses"] = self.hard_losses
        numbers = {
            "step": step,
            "finished": finished,
            "best": [self.best.f1, self.best.stale],
            "scaler": self.scaler.state_dict(),
            "initial_weights": self.network.initial_weights,
        }
        partial = folder / "checkpoint.partial"
        metadata = {name: json.dumps(value) for name, value in numbers.items()}
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, partial, metadata=metadata)
        os.replace(partial, folder / CHECKPOINT)

    def resume(self, folder: Path) -> tuple[int, bool]:
        """Load the checkpoint in `folder`; return the step to go on with (0 where there is none), and if it is done.

        Raises:
            ModelError: it is damaged, or of another training.
        """
        path = folder / CHECKPOINT
        if not path.exists():
            return 0, False
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
                numbers = {name: json.loads(value) for name, value in file.metadata().items()}
            self._fill(tensors, numbers)
            return numbers["step"], numbers["finished"]
        except (SafetensorError, RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ModelError(
                f"the checkpoint {path} does not fit this training ({error})", remedy=f"remove {folder} to start again"
            ) from error

    def _fill(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        self.network.load_state_dict(_part(tensors, "network."))
        self.average.load_state_dict(_part(tensors, "average."))
        self.hard_losses.copy_(tensors["hard_losses"])
        self.best.f1, self.best.stale = numbers["best"]
        self.best.weights = _part(tensors, "best.")
        self.scaler.load_state_dict(numbers["scaler"])
        for network in (self.network, self.average.module):
            # Checkpoints that do not say it are of networks that began with random weights.
            network.initial_weights = numbers.get("initial_weights", "random")
        _load_optimiser(self.optimiser, _part(tensors, "optimiser."))


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    saved: dict[str, Any] = optimiser.state_dict()
    optimiser.load_state_dict({**saved, "state": state})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
