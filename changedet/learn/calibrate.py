"""Calibration: probabilities that agree with the truth of a labelled set, and the threshold for what is wished."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize
from scipy.special import log_expit, logit

from changedet.config import EvaluateConfig
from changedet.errors import ConfigError
from changedet.grid.quantise import STEPS
from changedet.learn.counts import ChangeCounts, ProbabilityHistogram
from changedet.learn.curves import PrecisionRecall, Reliability
from changedet.learn.datasets import LabelledDataset
from changedet.learn.evaluate import Report, check_places, own, score_model
from changedet.network.calibration import probability_of
from changedet.network.card import Calibration, Card
from changedet.network.package import ChangeModel, load_model

Method = Literal["temperature", "platt", "isotonic"]
Goal = Literal["precision", "recall", "f1"]

# The lowest and highest byte stand for probabilities down to 0 and up to 1, whose logits would have no bound.
_END = 0.25 / STEPS
_LOGITS = logit(np.clip(np.arange(STEPS + 1) / STEPS, _END, 1 - _END))
# How far the table of an isotonic calibration may be from the regression: less than a byte.
_TABLE_TOLERANCE = 1e-3
_STRETCH = 1e6


@dataclass(frozen=True, slots=True)
class Wish:
    """What the threshold shall give: at least `value` of precision or recall, or the best F1 (`value` is not used)."""

    goal: Goal
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A model with a calibrated card, and its pixels before and after."""

    model: ChangeModel
    before: ProbabilityHistogram
    after: ProbabilityHistogram

    @property
    def counts(self) -> ChangeCounts:
        """What the threshold gives on the scenes of the calibration."""
        return self.after.counts(self.model.card.threshold)


def calibrate(
    name: str, dataset: LabelledDataset, wish: Wish, method: Method, config: EvaluateConfig, report: Report
) -> Calibrated:
    """Fit a calibration to a labelled set and choose the threshold on it.

    The set is mapped twice: the threshold is chosen on the bytes that the calibrated model gives, so that it holds for
    them to the pixel.

    Args:
        name: model file, or a shipped model.
        dataset: scenes that the model did not learn from.
        wish: for the threshold.
        method: of calibration.
        config: how scenes are scored.
        report: hears a line a scene, and what should be known of the figures.

    Raises:
        ConfigError: the model learned from these scenes, they hold only change or none, or the wish cannot be had.
    """
    model = load_model(name)
    for note in check_places(model.card, dataset, config):
        report(f"note: {note}")
    if model.card.urban_weight and method == "isotonic":
        raise ConfigError(
            f"an isotonic calibration of {name}, which is joined with a statistic of the pair",
            expected="temperature or platt, which scale both",
        )
    plain = own(model)
    before = score_model([plain], dataset, config, report).pixels
    if not (before.changed.any() and before.unchanged.any()):
        raise ConfigError(f"{dataset.name} holds only change or none", expected="changed and unchanged valid pixels")
    calibration = fit(before, method, data=dataset.name)
    fitted = _with_card(plain, calibration=calibration, **plain.card.joining(calibration.slope))
    after = score_model([fitted], dataset, config, report).pixels
    threshold = choose_threshold(after, wish)
    figures = {**model.card.figures, "calibration": _figures(before, after, threshold, dataset)}
    parents = (*model.card.parents, f"{model.card.name} {model.digest}")
    return Calibrated(_with_card(fitted, threshold=threshold, figures=figures, parents=parents), before, after)


def _with_card(model: ChangeModel, **changes: Any) -> ChangeModel:
    card = Card.model_validate({**model.card.model_dump(), **changes})
    return ChangeModel(model.network, card, model.digest).eval()


def _figures(
    before: ProbabilityHistogram, after: ProbabilityHistogram, threshold: float, dataset: LabelledDataset
) -> dict[str, Any]:
    errors = [round(Reliability.of(histogram).expected_error, 4) for histogram in (before, after)]
    return {
        "data": dataset.name,
        "scenes": [source.name for source in dataset.scenes],
        "expected_calibration_error": {"before": errors[0], "after": errors[1]},
        "at_threshold": after.counts(threshold).figures(),
    }


def fit(histogram: ProbabilityHistogram, method: Method, *, data: str) -> Calibration:
    """Fit a calibration to pixels by stored probability and truth, by maximum likelihood or by isotonic regression.

    Args:
        histogram: with changed and unchanged pixels.
        method: see `Calibration`.
        data: what the pixels are of.
    """
    if method == "isotonic":
        stated, observed = _isotonic(histogram)
        return Calibration(method=method, stated=stated, observed=observed, data=data)
    slope, offset = _likeliest(histogram, with_offset=method == "platt")
    return Calibration(method=method, slope=slope, offset=offset, data=data)


def recalibrated(calibration: Calibration) -> NDArray[np.intp]:
    """Return what a calibration makes of each stored probability (255,): exact up to the rounding to bytes."""
    stated = torch.from_numpy(_LOGITS).view(1, 1, 1, -1)
    becomes: NDArray[np.intp] = np.rint(probability_of(stated, calibration).numpy().ravel() * STEPS).astype(np.intp)
    return becomes


def _likeliest(histogram: ProbabilityHistogram, *, with_offset: bool) -> tuple[float, float]:
    total = histogram.changed.sum() + histogram.unchanged.sum()
    changed, unchanged = histogram.changed / total, histogram.unchanged / total

    def loss(x: NDArray[np.float64]) -> float:
        scaled = np.exp(x[0]) * _LOGITS + (x[1] if with_offset else 0.0)
        return float(-(changed * log_expit(scaled) + unchanged * log_expit(-scaled)).sum())

    # The slope's logarithm, so that it stays positive and the order of probabilities is kept. Bounded: where truth and
    # map agree to the pixel, the likeliest slope is infinite.
    bounds = [(-4.0, 4.0), (-20.0, 20.0)][: 2 if with_offset else 1]
    found = minimize(loss, np.zeros(len(bounds)), method="L-BFGS-B", bounds=bounds)
    return float(np.exp(found.x[0])), float(found.x[1]) if with_offset else 0.0


def _isotonic(histogram: ProbabilityHistogram) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the table of the rising function of the stored value that is nearest to the observed shares."""
    pixels = histogram.changed + histogram.unchanged
    there = np.flatnonzero(pixels)
    fitted = isotonic_regression(histogram.changed[there] / pixels[there], weights=pixels[there])
    edges = fitted.blocks
    # A block of values that are pooled is one entry, at the mean of its probabilities: the table rises between them.
    stated = [np.average(there[a:b], weights=pixels[there[a:b]]) / STEPS for a, b in pairwise(edges)]
    points = list(zip(stated, fitted.x[edges[:-1]], strict=True))
    if len(points) == 1:
        points = [(0.0, points[0][1]), (1.0, points[0][1])]
    # Douglas and Peucker's line, stretched so that its distances are differences of probability.
    line = shapely.LineString([(x * _STRETCH, y) for x, y in points]).simplify(_TABLE_TOLERANCE).coords
    return tuple(float(x) / _STRETCH for x, _ in line), tuple(float(np.clip(y, 0, 1)) for _, y in line)


def choose_threshold(histogram: ProbabilityHistogram, wish: Wish) -> float:
    """Return the threshold k / 254 that gives the wished precision at the highest recall, or the reverse, or best F1.

    Raises:
        ConfigError: no threshold gives it.
    """
    if wish.goal == "f1":
        return histogram.best_threshold()
    curve = PrecisionRecall.of(histogram)
    wished, other = curve.precision, curve.recall
    if wish.goal == "recall":
        wished, other = other, wished
    if np.isnan(wished).all():
        raise ConfigError(
            f"no threshold gives a {wish.goal} on these scenes, where the model calls nothing changed",
            expected="pixels of a higher probability",
            remedy="a better model, or --f1",
        )
    attained = np.nan_to_num(wished, nan=-1.0) >= wish.value
    if not attained.any():
        best = int(np.nanargmax(wished))
        raise ConfigError(
            f"no threshold gives a {wish.goal} of {wish.value:g} on these scenes",
            expected=f"at most {wished[best]:.3f}, which threshold {curve.threshold[best]:.3f} gives",
            remedy="a lower wish, or a better model",
        )
    return float(curve.threshold[np.where(attained, np.nan_to_num(other, nan=-1.0), -2.0).argmax()])
