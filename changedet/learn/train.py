"""The training loop, flat: draw, augment, forward, loss, backward, step, average."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from changedet.config import Candidate, LossConfig, PlacesConfig, Recipe
from changedet.errors import ConfigError, ModelError
from changedet.learn import parallel
from changedet.learn.augment import augment
from changedet.learn.checkpoint import CHECKPOINT, Best, TrainingState
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.datasets.labels import NOT_KNOWN
from changedet.learn.datasets.training import TrainingScene
from changedet.learn.evaluate import evaluate_scene
from changedet.learn.hard import Centre
from changedet.learn.kinds import Kinds
from changedet.learn.log import TrainingLog
from changedet.learn.predict import chip_of
from changedet.learn.sample import Batch, ChipSampler
from changedet.network.base import ChangeNetwork, lay_out
from changedet.network.class_losses import ClassLoss, change_logits
from changedet.network.losses import ChangeLoss, chip_losses
from changedet.network.normalise import LogReflectance
from changedet.network.package import ChangeModel, build_network, load_model
from changedet.network.places import PlaceLearner, PlaceLoss
from changedet.network.semantic import SemanticLearner, SemanticSMP

Progress = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """What learning without labels does besides.

    Attributes:
        make: what becomes of the chips of a batch, of these centres and this number, before augmentation.
        places: metric learning; None does without.
        mapped: whether there is a target for the map.
    """

    make: Callable[[Batch, Sequence[Centre], int], Batch] | None = None
    places: PlacesConfig | None = None
    mapped: bool = True


def train(
    scenes: Sequence[TrainingScene],
    bands: tuple[str, ...],
    candidate: Candidate,
    config: Recipe,
    folder: Path,
    progress: Progress,
    validation: Sequence[TrainingScene] = (),
    unlabelled: Unlabelled | None = None,
) -> ChangeNetwork:
    """Train a network, going on from the last checkpoint in `folder` if there is one.

    Every step depends on the seed, its number and the saved state alone, so a resumed training ends in the weights of
    an uninterrupted. Under torchrun each process draws batches of its own.

    Args:
        scenes: to learn from, in memory or on disk.
        bands: names of their channels.
        candidate: what to build.
        config: how to train.
        folder: for checkpoint.safetensors and log.csv.
        progress: called with the step and its loss.
        validation: scenes that decide when to stop, where `config.early_stop` asks for it.
        unlabelled: what learning without labels does besides.

    Returns:
        The network with the averaged weights, of the last step or the best validated one, in eval mode on the CPU.

    Raises:
        ConfigError: a device, a precision or a loss that cannot be had.
        ModelError: a checkpoint that does not fit.
    """
    with _settings(config):
        return _Training(scenes, bands, candidate, config, folder, validation, unlabelled or Unlabelled()).run(progress)


class _Training:
    """Everything that `train` sets up, and the loop over it."""

    def __init__(
        self,
        scenes: Sequence[TrainingScene],
        bands: tuple[str, ...],
        candidate: Candidate,
        config: Recipe,
        folder: Path,
        validation: Sequence[TrainingScene],
        unlabelled: Unlabelled,
    ) -> None:
        self.config, self.bands, self.folder, self.validation = config, bands, folder, validation
        self.device = parallel.choose_device(config.device)
        self.half = half_type(config.precision, self.device)
        torch.manual_seed(config.seed)
        kinds = Kinds.of(config.data)
        arguments = built_with(candidate, bands, kinds)
        if (folder / CHECKPOINT).exists():
            # Pretrained weights would be fetched only to be overwritten.
            arguments.pop("encoder_weights", None)
        network = build_network(candidate.architecture, arguments)
        check_classes(network, candidate.architecture, kinds)
        if config.start and not (folder / CHECKPOINT).exists():
            begin_with(network, load_model(config.start))
        self.make, self.exchanged = unlabelled.make, kinds.exchanged
        self.chip = chip_of(network, len(bands), config.augment.crop_px) if config.early_stop else None
        self.network = network.to(self.device)
        self.layout = lay_out(self.network, half=self.half is not None)
        learner: nn.Module = self.network
        if isinstance(self.network, SemanticSMP):
            learner = SemanticLearner(self.network)
        elif unlabelled.places:
            learner = PlaceLearner(self.network)
        self.shared = parallel.share_gradients(learner, self.device)
        self.normalise = LogReflectance()
        self.loss = _loss(candidate.loss or config.loss, network, kinds, unlabelled)
        self.sampler = ChipSampler(
            scenes,
            size=config.chip_px,
            batch=config.batch,
            changed_share=config.changed_share,
            seed=config.seed,
            hard_share=config.hard_share,
        )
        optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        ema = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]  # torch gives it no types
        self.state = TrainingState(
            self.network,
            AveragedModel(self.network, multi_avg_fn=ema, use_buffers=True),
            optimiser,
            torch.amp.GradScaler(self.device.type, enabled=self.half == torch.float16),
            self.sampler.hard.losses,
            Best(),
        )
        self.schedule = _schedule(config, optimiser)

    def run(self, progress: Progress) -> ChangeNetwork:
        """Carry out the steps that are left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        first, finished = self.state.resume(self.folder)
        _forward(self.schedule, first)
        log = None if finished else self._open_log(first)
        for step in range(self.config.steps if finished else first, self.config.steps):
            figures = self._step(step)
            due = self.config.early_stop and (step + 1) % self.config.early_stop.every == 0
            if due:
                figures["validation_f1"] = self._validate()
            progress(step, figures["loss"])
            if log:
                log.write(step, figures)
            finished = step + 1 == self.config.steps or self._has_stalled()
            if (finished or (step + 1) % self.config.checkpoint_every == 0) and parallel.rank() == 0:
                self.state.save(self.folder, step + 1, finished=finished)
            if finished:
                break
        if log:
            log.close()
        parallel.wait_for_all()
        return self._result()

    def _step(self, step: int) -> dict[str, float]:
        """Do one step of the optimiser; return its figures for the log."""
        config, state = self.config, self.state
        self.network.train()
        state.optimiser.zero_grad(set_to_none=True)
        figures: dict[str, float] = {}
        for part in range(config.accumulate):
            index = (step * config.accumulate + part) * parallel.size() + parallel.rank()
            last = part + 1 == config.accumulate
            for name, value in self._backward(index, last=last).items():
                figures[name] = figures.get(name, 0.0) + value / config.accumulate
        state.scaler.unscale_(state.optimiser)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        rate = float(self.schedule.get_last_lr()[0])
        self.schedule.step()
        parallel.average_buffers(self.network)
        state.average.update_parameters(self.network)
        if config.hard_share:
            figures["places_visited"] = self.sampler.hard.visited
        return {**figures, "gradient_norm": float(norm), "learning_rate": rate}

    def _backward(self, index: int, *, last: bool) -> dict[str, float]:
        """Draw one batch and add its gradients; return its loss and what that consists of."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + index)  # dropout, and what losses draw
        centres = self.sampler.centres(index)
        batch = self.sampler.cut(centres)
        batch = self.make(batch, centres, index) if self.make else batch
        batch = augment(batch, self.bands, config.augment, config.seed, index, self.exchanged)
        before, after, target, valid = self._sent(batch)
        with parallel.withhold_gradients(self.shared, until_last=not last):
            with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
                output = self.shared(before, after)
            value = self.loss(output, target, valid)
            torch.autograd.backward(self.state.scaler.scale(value.total / config.accumulate))
        if config.hard_share:
            losses = chip_losses(change_logits(output), target > 0, valid).tolist()
            visits = parallel.gather(list(zip(centres, losses, strict=True)))
            self.sampler.hard.record(visits)
        return {"loss": value.total.item(), **{name: part.item() for name, part in value.parts.items()}}

    def _sent(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        before, after = (date.to(self.device, memory_format=self.layout) for date in (batch.before, batch.after))
        known = batch.valid & (batch.target != NOT_KNOWN)
        return self.normalise(before), self.normalise(after), batch.target.to(self.device), known.to(self.device)

    def _validate(self) -> float:
        network = _on_cpu(self.state.average.module)
        scores = (evaluate_scene(network, scene, self.chip) for scene in self.validation)
        pooled = sum(scores, start=ProbabilityHistogram.empty())
        f1 = pooled.counts(pooled.best_threshold()).f1
        self.state.best.update(f1, self.state.average.module)
        return f1

    def _has_stalled(self) -> bool:
        return self.config.early_stop is not None and self.state.best.stale >= self.config.early_stop.patience

    def _open_log(self, first: int) -> TrainingLog | None:
        if parallel.rank() > 0:
            return None
        mined = ("places_visited",) if self.config.hard_share else ()
        validated = ("validation_f1",) if self.config.early_stop else ()
        columns = ("loss", *self.loss.names, *mined, "gradient_norm", "learning_rate", *validated)
        return TrainingLog(self.folder, columns, first=first, tensorboard=self.config.tensorboard)

    def _result(self) -> ChangeNetwork:
        network = _on_cpu(self.state.average.module)
        if self.state.best.weights:
            network.load_state_dict(self.state.best.weights)
        return network


def built_with(candidate: Candidate, bands: tuple[str, ...], kinds: Kinds) -> dict[str, Any]:
    """Return the arguments of a candidate's network: the bands, the kinds of change, and its own."""
    return {"in_channels": len(bands), **kinds.arguments(candidate.architecture), **candidate.arguments}


def check_classes(network: ChangeNetwork, architecture: str, kinds: Kinds) -> None:
    """Refuse a network whose channels are not the kinds of change that are learned.

    Raises:
        ConfigError: it has others.
    """
    if network.classes != len(kinds.names):
        raise ConfigError(
            f"{architecture} tells {network.classes} kinds of change apart, the labels {len(kinds.names)}",
            expected="as many",
            remedy="data: {…, classes: […]}, or covers: […] for semantic_smp; no such argument of the candidate",
        )


def begin_with(network: ChangeNetwork, model: ChangeModel) -> None:
    """Give a network the weights of a model.

    Raises:
        ModelError: the model is of another architecture, or of other bands.
    """
    try:
        network.load_state_dict(model.network.state_dict())
    except RuntimeError as error:
        raise ModelError(
            f"the weights of {model.card.name} do not fit ({str(error).splitlines()[-1].strip()})",
            expected="a model of the candidate's architecture and arguments, and of as many bands",
        ) from error
    network.initial_weights = model.card.name


def _loss(
    config: LossConfig, network: ChangeNetwork, kinds: Kinds, unlabelled: Unlabelled
) -> ChangeLoss | ClassLoss | PlaceLoss:
    if kinds.several:
        return ClassLoss(config, kinds.pairs)
    loss = ChangeLoss(config, getattr(network, "distance_of", None))
    return PlaceLoss(loss, unlabelled.places, mapped=unlabelled.mapped) if unlabelled.places else loss


def half_type(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the type to compute in, None for float32: as asked, or with `auto` bfloat16 where the device has it.

    Raises:
        ConfigError: float16 on a processor, whose range it has no use for and whose gradients it loses.
    """
    if precision == "float16":
        if device.type == "cpu":
            raise ConfigError("precision float16 on a CPU", expected="bfloat16 or float32 there, or a GPU")
        return torch.float16
    if precision == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else None
    return torch.bfloat16 if precision == "bfloat16" else None


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


@contextmanager
def _settings(config: Recipe) -> Iterator[None]:
    """Set what torch keeps for the whole process, for the time of a training."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(config.threads)
    if config.deterministic:
        # cuBLAS gives equal sums only with a workspace of its own size, asked for before its first use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _schedule(config: Recipe, optimiser: torch.optim.Optimizer) -> LRScheduler:
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimiser, T_max=config.steps)
    return OneCycleLR(optimiser, config.learning_rate, total_steps=config.steps)


def _forward(schedule: LRScheduler, steps: int) -> None:
    with warnings.catch_warnings():
        # torch warns of a schedule ahead of its optimiser, whose steps the checkpoint holds.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        for _ in range(steps):
            schedule.step()


def _on_cpu(network: Any) -> ChangeNetwork:
    """Copy a network to the CPU, in the usual layout and in eval mode."""
    copied = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format)
    return cast(ChangeNetwork, copied.eval())
