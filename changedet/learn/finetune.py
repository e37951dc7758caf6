"""Fine-tuning on a user's few polygons, with hard negatives from their own unchanged ground, and proof of the gain."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from changedet.config import AugmentConfig, FinetuneConfig, RunConfig
from changedet.detect.budget import plan_within
from changedet.detect.fused import fused
from changedet.detect.stitch import silent, stitch
from changedet.detect.torch_detector import TorchDetector
from changedet.errors import ModelError
from changedet.grid import Window
from changedet.grid.quantise import NODATA, STEPS
from changedet.learn.augment import augment
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.curves import PrecisionRecall
from changedet.learn.evaluate import Report
from changedet.learn.hard import Centre
from changedet.learn.reviewed import CutPair, ReviewedPair, review
from changedet.learn.sample import ChipSampler
from changedet.learn.train import half_type
from changedet.network.base import ChangeNetwork, lay_out
from changedet.network.card import Card
from changedet.network.losses import ChangeLoss
from changedet.network.normalise import LogReflectance
from changedet.network.package import ChangeModel, load_model
from changedet.read.scene import Scene

# A pixel that is certainly unchanged is drawn this much less often than one that is certainly mistaken for change.
_LEAST_HARD = 1e-4
# Share of the training in which the learning rate rises.
_WARM_UP = 0.1


@dataclass(frozen=True, slots=True)
class Finetuned:
    """A fine-tuned model, and what the polygons that it did not learn from say of it.

    Attributes:
        model: with its new card.
        before: pixels that were held out by the model's old probability; empty where none were.
        after: likewise by its new one.
        polygons: how many polygons of change there were, and how many of them were held out.
        steps: that were done.
    """

    model: ChangeModel
    before: ProbabilityHistogram
    after: ProbabilityHistogram
    polygons: tuple[int, int]
    steps: int


def finetune(
    name: str, scenes: tuple[Scene, Scene], labels: Path, reading: RunConfig, config: FinetuneConfig, report: Report
) -> Finetuned:
    """Fine-tune a model on one reviewed pair.

    Args:
        name: model file, or a shipped model.
        scenes: both dates.
        labels: file of polygons; see `changedet.learn.reviewed.review` for what they mean.
        reading: how the pair is read, as in a run.
        config: how; with the name of the new model and the command for its card.
        report: hears a line now and then.

    Raises:
        PairError, SceneError, ConfigError: see `review`.
        ModelError: the model tells several kinds of change apart.
    """
    base = load_model(name)
    if len(base.card.classes) > 1:
        raise ModelError(
            f"{name} tells {', '.join(base.card.classes)} apart",
            expected="a model of change or no change",
            remedy="changedet train, with labels that have classes",
        )
    share, seed = config.held_out_share, config.seed
    reviewed, cut = review(scenes, labels, base.card, reading, held_out_share=share, seed=seed)
    before = _held_out(base, reviewed, cut, config)
    network, steps = _train(base, reviewed, cut, config, report)
    tuned = ChangeModel(network, base.card, base.digest).eval()
    after = _held_out(tuned, reviewed, cut, config)
    figures = _figures(base.card, before, after, reviewed, steps)
    card = _card(base, reviewed, figures, config)
    return Finetuned(ChangeModel(network, card).eval(), before, after, reviewed.polygons, steps)


def _held_out(
    model: ChangeModel, reviewed: ReviewedPair, files: CutPair, config: FinetuneConfig
) -> ProbabilityHistogram:
    if not reviewed.held_out.any():
        return ProbabilityHistogram.empty()
    stored = _mapped(model, files, config)
    return ProbabilityHistogram.of(stored, reviewed.scene.changed, reviewed.held_out & (stored != NODATA))


class _ArraySink:
    """A `WindowSink` into memory."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.stored = np.full(shape, NODATA, np.uint8)

    def write(self, window: Window, array: NDArray[np.uint8]) -> None:
        self.stored[window.slices] = array.max(axis=0)


def _mapped(model: ChangeModel, files: CutPair, config: FinetuneConfig) -> NDArray[np.uint8]:
    """Return the stored probabilities (H, W) of the reviewed pair, as a run would give them."""
    with files.open() as pair:
        detector = fused(TorchDetector(model, "cpu", files.before.names), pair, silent)
        height, width = pair.geobox.shape
        plan = plan_within(height, width, detector, halo=detector.halo, max_memory=config.max_memory)
        sink = _ArraySink((height, width))
        stitch(pair, detector, plan, sink)
    return sink.stored


def _train(
    base: ChangeModel, reviewed: ReviewedPair, files: CutPair, config: FinetuneConfig, report: Report
) -> tuple[ChangeNetwork, int]:
    """Return the averaged network, on the CPU and as a file would hold it, and the steps that time allowed."""
    network = copy.deepcopy(base.network)
    half = half_type(config.precision, torch.device("cpu"))
    layout = lay_out(network, half=half is not None)
    normalise, loss = LogReflectance(), ChangeLoss(config.loss, getattr(network, "distance_of", None))
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    ema = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]  # torch gives it no types
    average = AveragedModel(network, multi_avg_fn=ema, use_buffers=True)
    draw = _Draw(reviewed, config)
    varied = _augmentation(base.card, config)
    started, step = time.monotonic(), 0
    while (progress := max(step / config.steps, (time.monotonic() - started) / (60 * config.minutes))) < 1:
        optimiser.param_groups[0]["lr"] = config.learning_rate * _rate(progress)
        if step % config.mine_every == 0:
            current = network if step == 0 else cast(ChangeNetwork, average.module)
            draw.mine(_mapped(ChangeModel(current, base.card).eval(), files, config))
        _train_mode(network)
        torch.manual_seed(config.seed * 1_000_003 + step)
        batch = augment(draw.batch(step), base.card.bands, varied, config.seed, step)
        with torch.autocast("cpu", half, enabled=half is not None):
            before, after = (normalise(date).contiguous(memory_format=layout) for date in (batch.before, batch.after))
            logits = network(before, after)
        value = loss(logits, batch.target, batch.valid)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(value.total)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(network)
        step += 1
        if step % config.mine_every == 0:
            report(f"step {step} of {config.steps}, loss {value.total.item():.3f}")
    average.module.to(memory_format=torch.contiguous_format)
    _mix_in(average.module, base.network, config.keep)
    return cast(ChangeNetwork, average.module.half().float().eval()), step


def _mix_in(network: nn.Module, old: nn.Module, share: float) -> None:
    """Bring the weights of `network` back by `share` of the way to the old ones.

    What few polygons teach holds for their ground, and what is forgotten over it for all other: halfway between, most
    of the one is there and little of the other gone (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR
    2022).
    """
    with torch.no_grad():
        for new, before in zip(network.parameters(), old.parameters(), strict=True):
            new.lerp_(before, share)


def _rate(progress: float) -> float:
    """Return the share of the highest learning rate: up in a straight line, down in half a cosine.

    By progress (0..1) and not by step, so that a training that time ends early ends at a low rate as well.
    """
    if progress < _WARM_UP:
        return (progress + 0.1 * _WARM_UP) / (1.1 * _WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def _train_mode(network: nn.Module) -> None:
    """Let all learn but the running figures of batch norms: one small pair would replace those of many."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _augmentation(card: Card, config: FinetuneConfig) -> AugmentConfig:
    """Return the augmentation: what the model may lack it must go on doing without."""
    may_lack = {"band_dropout": 0.25, "optional_bands": card.optional_bands} if card.optional_bands else {}
    swap = 0.0 if card.directional else config.augment.swap
    return config.augment.model_copy(update={**may_lack, "swap": swap})


class _Draw:
    """Draws chips around changes, around hard negatives, and anywhere.

    Hard negatives are unchanged pixels to learn from, by the probability that the network gives them, and all reviewed
    false alarms.
    """

    def __init__(self, reviewed: ReviewedPair, config: FinetuneConfig) -> None:
        scene = reviewed.scene
        self._config = config
        self._refuted = reviewed.refuted
        self._unchanged = np.argwhere(scene.valid & ~scene.changed)
        self._hard = np.ones(len(self._unchanged)) / max(1, len(self._unchanged))
        self._sampler = ChipSampler(
            [scene], size=config.chip_px, batch=config.batch, changed_share=config.changed_share, seed=config.seed
        )

    def mine(self, stored: NDArray[np.uint8]) -> None:
        """Take note of the probability (H, W; stored) of every unchanged pixel."""
        rows, cols = self._unchanged.T
        mistaken = np.where(self._refuted[rows, cols], STEPS, stored[rows, cols].astype(float)) / STEPS
        # Squared: many slight doubts must not outweigh the few plain mistakes.
        weight = np.maximum(mistaken**2, _LEAST_HARD)
        self._hard = weight / weight.sum()

    def batch(self, step: int) -> Any:
        """Return the batch of one step: a pure function of the seed, the step and what was mined."""
        centres = self._sampler.centres(step)
        count = min(round(self._config.hard_share * len(centres)), len(centres))
        if count and len(self._unchanged):
            rng = np.random.default_rng([self._config.seed, step, 1])
            picked = self._unchanged[rng.choice(len(self._unchanged), count, p=self._hard)]
            reach = self._config.chip_px // 4
            moved = picked + rng.integers(-reach, reach + 1, picked.shape)
            # In place of those that lie anywhere, which come last.
            centres = [*centres[: len(centres) - count], *(Centre(0, int(row), int(col)) for row, col in moved)]
        return self._sampler.cut(centres)


def _figures(
    card: Card, before: ProbabilityHistogram, after: ProbabilityHistogram, reviewed: ReviewedPair, steps: int
) -> dict[str, Any]:
    total, held = reviewed.polygons
    figures: dict[str, Any] = {"steps": steps, "polygons": total, "polygons_held_out": held, "parent": card.figures}
    if held:
        for name, histogram in (("before", before), ("after", after)):
            precision = PrecisionRecall.of(histogram).average_precision
            figures[f"held_out_{name}"] = {
                **histogram.counts(card.threshold).figures(),
                "average_precision": None if np.isnan(precision) else round(precision, 4),
            }
    return figures


def _card(base: ChangeModel, reviewed: ReviewedPair, figures: dict[str, Any], config: FinetuneConfig) -> Card:
    old = base.card
    learned = reviewed.polygons[0] - reviewed.polygons[1]
    changes = {
        "name": config.name,
        "summary": f"{old.summary}; fine-tuned on {learned} polygons of {reviewed.place.name}",
        "data": f"{old.data}; then {learned} polygons of {reviewed.place.name}",
        # Where a base does not say its places, neither can this one.
        "places": (*old.places, reviewed.place) if old.places else (),
        "parents": (*old.parents, f"{old.name} {base.digest}"),
        "licence_note": f"As of {old.name}, from which it was fine-tuned: {old.licence_note}",
        "trained": datetime.now(UTC).date().isoformat(),
        "seed": config.seed,
        "command": config.command,
        "figures": figures,
    }
    return Card.model_validate({**old.model_dump(), **changes})
