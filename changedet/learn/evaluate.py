"""How good models are on scenes whose truth is known: counts pooled over all pixels of all scenes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from changedet.config import EvaluateConfig
from changedet.detect.choose import bands_for
from changedet.detect.detector import NetworkDetector
from changedet.detect.ensemble import EnsembleDetector
from changedet.detect.torch_detector import TorchDetector
from changedet.errors import ConfigError
from changedet.grid.quantise import quantise, stored_change
from changedet.learn.class_counts import ClassCounts, ClassHistogram
from changedet.learn.counts import ChangeCounts, ProbabilityHistogram
from changedet.learn.curves import PrecisionRecall, Reliability
from changedet.learn.datasets import LabelledDataset, SceneSource, TrainingScene, refuse_overlap
from changedet.learn.objects import ObjectCounts
from changedet.learn.predict import predict_around
from changedet.learn.scene_term import SceneTerm
from changedet.learn.score import SceneScore, score_scene
from changedet.network.base import ChangeNetwork
from changedet.network.calibration import probability_of
from changedet.network.card import Card
from changedet.network.package import ChangeModel, load_model

Report = Callable[[str], None]

RATIOS = ("precision", "recall", "f1", "iou", "kappa")
PROTOCOLS = {
    "valid": "all valid pixels of all scenes, counts pooled, change class",
    "oscd": "OSCD's: all pixels of full scenes, counts pooled, change class, threshold 0.5 of the"
    " network's own probability",
}
# How many times larger or smaller pixels may be than those learned from before it is said.
_NEAR = 1.5


@dataclass(frozen=True, slots=True)
class ModelScore:
    """A model's scores.

    Attributes:
        card: of the model.
        digest: SHA-256 of its file.
        threshold: with which it was scored.
        scenes: score of each.
    """

    card: Card
    digest: str
    threshold: float
    scenes: tuple[SceneScore, ...]

    @property
    def pixels(self) -> ProbabilityHistogram:
        """The pixels of all scenes."""
        return sum((scene.pixels for scene in self.scenes), start=ProbabilityHistogram.empty())

    @property
    def counts(self) -> ChangeCounts:
        """The counts of all scenes at the threshold."""
        return self.pixels.counts(self.threshold)

    @property
    def objects(self) -> ObjectCounts:
        """The objects of all scenes."""
        return sum((scene.objects for scene in self.scenes), start=ObjectCounts.empty())

    @property
    def classes(self) -> ClassCounts | None:
        """The pixels of all scenes by class of change at the threshold; None where these are not the labels'."""
        of_scenes = [scene.classes for scene in self.scenes if scene.classes is not None]
        return functools.reduce(operator.add, of_scenes) if of_scenes else None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of one or several models (seeds of one recipe, say) on the same scenes."""

    dataset: str
    protocol: str
    models: tuple[ModelScore, ...]
    warnings: tuple[str, ...]
    bootstrap: int
    seed: int

    def mean_and_deviation(self) -> dict[str, tuple[float, float]]:
        """Return each ratio's mean over the models and its standard deviation (n - 1; NaN for one model)."""
        values = {name: [getattr(model.counts, name) for model in self.models] for name in RATIOS}
        several = len(self.models) > 1
        return {
            n: (float(np.mean(v)), float(np.std(v, ddof=1)) if several else float("nan")) for n, v in values.items()
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return each ratio's 95 % interval over draws of as many scenes, with replacement; mean over the models.

        Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 1979. With few scenes it is
        narrower than the truth; of one scene nothing can be said, NaN.
        """
        if len(self.models[0].scenes) < 2:
            return dict.fromkeys(RATIOS, (float("nan"), float("nan")))
        counts = np.array([[_four(s.pixels.counts(m.threshold)) for s in m.scenes] for m in self.models])
        scenes = counts.shape[1]
        drawn = np.random.default_rng(self.seed).integers(0, scenes, (self.bootstrap, scenes))
        samples = [[ChangeCounts(*map(int, four)).ratios() for four in counts[:, draw].sum(1)] for draw in drawn]
        return {name: _interval([[r[name] for r in models] for models in samples]) for name in RATIOS}

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data; undefined figures are None."""
        means, intervals = self.mean_and_deviation(), self.intervals()
        return {
            "dataset": self.dataset,
            "protocol": self.protocol,
            "warnings": list(self.warnings),
            "over_models": {name: {"mean": _plain(m), "sd": _plain(sd)} for name, (m, sd) in means.items()},
            "interval_95_over_scenes": {name: [_plain(low), _plain(high)] for name, (low, high) in intervals.items()},
            "bootstrap": {"draws": self.bootstrap, "seed": self.seed},
            "models": [_model_json(model) for model in self.models],
        }


def _four(counts: ChangeCounts) -> tuple[int, int, int, int]:
    return counts.tp, counts.fp, counts.fn, counts.tn


def _interval(samples: list[list[float]]) -> tuple[float, float]:
    means = np.array(samples).mean(axis=1)
    defined = means[~np.isnan(means)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)


def _model_json(model: ModelScore) -> dict[str, Any]:
    pixels = model.pixels
    curve, reliability = PrecisionRecall.of(pixels), Reliability.of(pixels)
    best = pixels.best_threshold() if pixels.changed.any() else None
    return {
        "model": model.card.name,
        "sha256": model.digest,
        "threshold": round(model.threshold, 4),
        "pooled": model.counts.figures(),
        "pooled_at_0.5": pixels.counts(0.5).figures(),
        "best": None if best is None else {"threshold": round(best, 4), **pixels.counts(best).figures()},
        "average_precision": _plain(curve.average_precision),
        "expected_calibration_error": _plain(reliability.expected_error),
        "scenes": {s.name: s.pixels.counts(model.threshold).figures() for s in model.scenes},
        "objects": model.objects.figures(),
        "classes": None if model.classes is None else model.classes.figures(model.card.classes),
        "curves": {
            "threshold": _list(curve.threshold),
            "precision": _list(curve.precision),
            "recall": _list(curve.recall),
            "reliability": {
                "pixels": reliability.pixels.tolist(),
                "stated": _list(reliability.stated),
                "observed": _list(reliability.observed),
            },
        },
    }


def _list(values: NDArray[np.float64]) -> list[float | None]:
    return [_plain(float(value)) for value in values]


def evaluate(models: Sequence[str], dataset: LabelledDataset, config: EvaluateConfig, report: Report) -> Evaluation:
    """Score models on all scenes of a dataset.

    Args:
        models: files, or names of shipped models.
        dataset: of scenes of any size.
        config: how.
        report: hears a line a scene.

    Raises:
        ConfigError: a model learned from some of the scenes, and that was not allowed; or no pixel is known.
        PairError: a scene lacks a band that a model needs.
    """
    scores = []
    warnings: list[str] = []
    for names in [models] if config.ensemble else [[name] for name in models]:
        members = [load_model(name) for name in names]
        for model in members:
            warnings += check_places(model.card, dataset, config)
        scores.append(score_model(members, dataset, config, report))
        warnings += _other_classes(scores[-1].card, dataset)
    if not any((score.pixels.changed.sum() + score.pixels.unchanged.sum()) for score in scores):
        raise ConfigError(f"no pixel of {dataset.name} is valid and its truth known", expected="labelled, valid pixels")
    told = tuple(dict.fromkeys(warnings))
    return Evaluation(dataset.name, PROTOCOLS[config.protocol], tuple(scores), told, config.bootstrap, config.seed)


def check_places(card: Card, dataset: LabelledDataset, config: EvaluateConfig) -> list[str]:
    """Return what should be known of a model's scores on a dataset.

    Raises:
        ConfigError: the model learned from some of the scenes, and `allow_overlap` is not set.
    """
    notes = _far_off(card, dataset)
    if not card.places:
        return [f"the card of {card.name} does not say what it learned from: it may know these scenes", *notes]
    if not config.allow_overlap:
        refuse_overlap(card.places, [source.place() for source in dataset.scenes])
    return notes


def score_model(
    members: Sequence[ChangeModel], dataset: LabelledDataset, config: EvaluateConfig, report: Report
) -> ModelScore:
    """Score a model, or the mean of several, on all scenes of a dataset.

    Raises:
        PairError: a scene lacks a band that one needs.
        ModelError: several that have no mean.
    """
    if config.protocol == "oscd":
        # Published figures are of what a network itself holds likelier than not.
        members = [own(model) for model in members]
    scenes = []
    for source in dataset.scenes:
        detector = _detector(members, source, config)
        threshold = 0.5 if config.protocol == "oscd" else config.threshold or detector.card.threshold
        score = score_scene(
            source,
            detector,
            threshold=threshold,
            max_memory=config.max_memory,
            all_pixels=config.protocol == "oscd",
            channels=len(detector.card.classes),
            by_class=dataset.kinds.several and detector.card.classes == dataset.kinds.names,
        )
        scenes.append(score)
        report(f"{detector.card.name} · {source.name}: F1 {score.pixels.counts(threshold).f1:.3f}")
    return ModelScore(detector.card, detector.digest, threshold, tuple(scenes))


def own(model: ChangeModel) -> ChangeModel:
    """Return a model whose probabilities are not calibrated: its network's own, joined with the pair's as before."""
    slope = 1.0 if model.card.calibration is None else model.card.calibration.slope
    card = model.card.model_copy(update={"calibration": None, **model.card.joining(1 / slope)})
    return ChangeModel(model.network, card, model.digest).eval()


def _detector(members: Sequence[ChangeModel], source: SceneSource, config: EvaluateConfig) -> NetworkDetector:
    scenes = source.scenes()
    each = [TorchDetector(model, config.device, bands_for(model.card, scenes)) for model in members]
    return EnsembleDetector(each, turned=config.tta) if config.tta or len(each) > 1 else each[0]


def _other_classes(card: Card, dataset: LabelledDataset) -> list[str]:
    """Return what should be known where a model tells other kinds of change apart than the labels."""
    if len(card.classes) == 1 or card.classes == dataset.kinds.names:
        return []
    told = ", ".join(dataset.kinds.names)
    return [f"{card.name} tells {', '.join(card.classes)} apart, the labels {told}: scored as change of any kind"]


def _far_off(card: Card, dataset: LabelledDataset) -> list[str]:
    pixels = [source.resolution_m() for source in dataset.scenes]
    worst = max(pixels, key=lambda pixel: max(pixel / card.resolution_m, card.resolution_m / pixel))
    if 1 / _NEAR <= worst / card.resolution_m <= _NEAR:
        return []
    return [f"pixels of {worst:.3g} m, where {card.name} learned from {card.resolution_m:g} m: expect poorer figures"]


def evaluate_scene(
    network: ChangeNetwork, scene: TrainingScene, chip_px: int | None = None, term: SceneTerm | None = None
) -> ProbabilityHistogram:
    """Return the histogram of one scene, from the bytes that a run would store.

    Args:
        network: in eval mode, on the CPU.
        scene: with its truth, in memory or on disk.
        chip_px: see `changedet.learn.predict`.
        term: what of the pair is joined with the network's answer.
    """
    parts = _stored(network, scene, chip_px, term)
    histograms = (ProbabilityHistogram.of(stored_change(stored), truth > 0, valid) for stored, truth, valid in parts)
    return sum(histograms, start=ProbabilityHistogram.empty())


def evaluate_classes(network: ChangeNetwork, scene: TrainingScene, chip_px: int | None = None) -> ClassHistogram:
    """Return the histogram of one scene by class of change; see `evaluate_scene`."""
    parts = (ClassHistogram.of(*part) for part in _stored(network, scene, chip_px))
    return functools.reduce(operator.add, parts)


def _stored(
    network: ChangeNetwork, scene: TrainingScene, chip_px: int | None, term: SceneTerm | None = None
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]]:
    """Yield stored probabilities (K, H, W), truth (H, W) and valid (H, W) of windows that make up a scene."""
    for core, around, logits in predict_around(network, scene, term.margin if term else 0, chip_px):
        _, _, truth, valid = scene.read(core)
        probability = probability_of(logits[None], None)[0].numpy()
        yield quantise(term.join(probability, core, around) if term else probability, valid), truth, valid
