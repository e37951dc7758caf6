"""The training loop, flat: draw, augment, forward, loss, backward, step, average."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from changedet.config import Candidate, TrainConfig
from changedet.errors import ModelError
from changedet.learn.augment import augment
from changedet.learn.datasets.scene import TrainingScene
from changedet.learn.sample import ChipSampler
from changedet.network.base import ChangeNetwork
from changedet.network.losses import masked_bce_dice
from changedet.network.normalise import LogReflectance
from changedet.network.package import build_network

Progress = Callable[[int, float], None]


def train(
    scenes: Sequence[TrainingScene],
    bands: tuple[str, ...],
    candidate: Candidate,
    config: TrainConfig,
    folder: Path,
    progress: Progress,
) -> ChangeNetwork:
    """Train a network, going on from the last checkpoint in `folder` if there is one.

    Every step depends on the seed and its number alone, so a resumed training ends in the weights of an uninterrupted.

    Args:
        scenes: to learn from, in memory or on disk.
        bands: names of their channels.
        candidate: what to build.
        config: how to train.
        folder: for checkpoint.safetensors and log.csv.
        progress: called with the step and its loss.

    Returns:
        The network with the averaged weights, in eval mode.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    network = build_network(candidate.architecture, {"in_channels": len(bands), **candidate.arguments})
    use_half = uses_bfloat16(config.precision)
    # In bfloat16 oneDNN is a third faster on images whose channels lie together; the network hands the layout on.
    layout = torch.channels_last if use_half else torch.contiguous_format
    network.to(memory_format=layout)
    normalise = LogReflectance()
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=config.steps)
    ema = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]  # torch gives it no types
    average = AveragedModel(network, multi_avg_fn=ema, use_buffers=True)
    sampler = ChipSampler(
        scenes, size=config.chip_px, batch=config.batch, changed_share=config.changed_share, seed=config.seed
    )
    half = torch.autocast("cpu", torch.bfloat16, enabled=use_half)
    first = _resume(folder, network, average, optimiser, schedule)
    for step in range(first, config.steps):
        torch.manual_seed(config.seed * 1_000_003 + step)  # dropout
        network.train()
        batch = augment(sampler.draw(step), bands, config.augment, config.seed, step)
        with half:
            before, after = (normalise(date).contiguous(memory_format=layout) for date in (batch.before, batch.after))
            logits = network(before, after)
        loss = masked_bce_dice(logits, batch.target, batch.valid, config.positive_weight)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        progress(step, loss.item())
        _log(folder, step, loss.item(), float(schedule.get_last_lr()[0]))
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            _save(folder, step + 1, network, average, optimiser)
    average.module.to(memory_format=torch.contiguous_format)
    return cast(ChangeNetwork, average.module.eval())


def uses_bfloat16(precision: str) -> bool:
    """Return whether to compute in bfloat16: as asked, or with `auto` where the processor has instructions for it."""
    if precision != "auto":
        return precision == "bfloat16"
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def _log(folder: Path, step: int, loss: float, rate: float) -> None:
    with (folder / "log.csv").open("w" if step == 0 else "a", newline="") as file:
        writer = csv.writer(file)
        if step == 0:
            writer.writerow(["step", "loss", "learning_rate"])
        writer.writerow([step, f"{loss:.6f}", f"{rate:.3e}"])


def _save(
    folder: Path, step: int, network: ChangeNetwork, average: AveragedModel, optimiser: torch.optim.Optimizer
) -> None:
    """Write everything a later step depends on, atomically; safetensors, so that loading it cannot run code."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    partial = folder / "checkpoint.partial"
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial, metadata={"step": str(step)})
    os.replace(partial, folder / "checkpoint.safetensors")


def _resume(
    folder: Path,
    network: ChangeNetwork,
    average: AveragedModel,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.OneCycleLR,
) -> int:
    """Load the checkpoint in `folder` and return the step to go on with; 0 where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            step = int(file.metadata()["step"])
        network.load_state_dict(_part(tensors, "network."))
        average.load_state_dict(_part(tensors, "average."))
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(
            f"the checkpoint {path} does not fit this training ({error})", remedy=f"remove {folder} to start again"
        ) from error
    _load_optimiser(optimiser, _part(tensors, "optimiser."))
    with warnings.catch_warnings():
        # torch warns of a schedule ahead of its optimiser, whose steps the checkpoint holds.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        for _ in range(step):
            schedule.step()
    return step


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    saved: dict[str, Any] = optimiser.state_dict()
    optimiser.load_state_dict({**saved, "state": state})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
