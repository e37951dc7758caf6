"""Calibration of a distance: which one means change, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logit

from changedet.errors import ModelError
from changedet.grid.quantise import below_one
from changedet.learn.datasets.training import TrainingScene
from changedet.learn.predict import predict
from changedet.network.card import Calibration
from changedet.network.metric import MetricNetwork

_BINS = 4096
# More pixels than this are not looked at, but every second, third and so on.
_MOST_PIXELS = 50_000_000
# Logarithm of the slope over one standard deviation of the distance: from hardly any to a step. Distances that part
# the two kinds wholly would have an infinite one.
_SLOPES = (-5.0, 7.0)
# Distances that differ by no more than this share of themselves differ by rounding.
_NO_DIFFERENCE = 1e-5


def calibrate_distance(network: MetricNetwork, scenes: Sequence[TrainingScene], chip_px: int | None = None) -> None:
    """Fit the logistic function from distance to probability to the valid pixels of `scenes`, pooled.

    Args:
        network: in eval mode, on the CPU; its `scale` and `threshold` are set.
        scenes: with their truth.
        chip_px: side of the chips, a multiple of the stride, where the network's answer depends on it.

    Raises:
        ModelError: every pixel is at the same distance.
    """
    every = -(-sum(math.prod(scene.shape) for scene in scenes) // _MOST_PIXELS)
    parts = (_pixels(network, scene, chip_px, every) for scene in scenes)
    distances, changed = (np.concatenate(part) for part in zip(*parts, strict=True))
    if distances.max() - distances.min() <= _NO_DIFFERENCE * distances.max():
        raise ModelError(
            f"every pixel is at the distance {distances.max():g}: the network has collapsed and tells nothing apart",
            expected="larger distances where something changed",
            remedy="another loss or way of mining, or a lower learning_rate",
        )
    scale, threshold = fit_logistic(distances, changed)
    network.calibrate(scale=scale, threshold=threshold)


def distance_figures(network: MetricNetwork, calibration: Calibration | None, probability: float) -> dict[str, Any]:
    """Return for the card what the probability means in distance, and the distance from which a pixel is changed.

    Args:
        network: its distance calibrated.
        calibration: of the card, by `temperature` or `platt`, which are another scale and threshold of the distance.
        probability: from which a pixel is changed.
    """
    slope, offset = (1.0, 0.0) if calibration is None else (calibration.slope, calibration.offset)
    scale = slope * float(network.scale)
    threshold = float(network.threshold) - offset / scale
    return {
        "probability": "1 / (1 + exp(-scale * (distance - threshold)))",
        "scale": scale,
        "threshold": threshold,
        "changed_from": threshold + float(logit(below_one(probability))) / scale,
    }


def fit_logistic(distances: NDArray[np.float32], changed: NDArray[np.bool_]) -> tuple[float, float]:
    """Return scale and threshold of the likeliest P(changed) = 1 / (1 + exp(-scale (distance - threshold))), scale > 0.

    Args:
        distances: (P,), at least 0.
        changed: bool (P,), True = changed.
    """
    span = float(distances.max(initial=1e-6))
    spread = max(float(distances.std()), 1e-6 * span)
    edges = np.linspace(0, span, _BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2 / spread
    yes, no = (np.histogram(distances[kind], edges)[0] / len(distances) for kind in (changed, ~changed))

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, offset = np.exp(parameters[0]), parameters[1]
        logits = slope * middles + offset
        surprise = np.logaddexp(0, -logits) @ yes + np.logaddexp(0, logits) @ no
        excess = (yes + no) / (1 + np.exp(-np.clip(logits, -500, 500))) - yes
        return float(surprise), np.array([excess @ middles * slope, excess.sum()])

    found = minimize(cost, np.array([0.0, -2.0]), jac=True, method="L-BFGS-B", bounds=[_SLOPES, (None, None)])
    slope, offset = float(np.exp(found.x[0])), float(found.x[1])
    return slope / spread, -offset / slope * spread


def _pixels(
    network: MetricNetwork, scene: TrainingScene, chip_px: int | None, every: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return distance and truth of each `every`-th valid pixel."""
    distances, changed = [], []
    for window, logits in predict(network, scene, chip_px):
        _, _, truth, valid = scene.read(window)
        distance: NDArray[np.float32] = network.distance_of(logits)[0].numpy()
        distances.append(distance[valid][::every])
        changed.append(truth[valid][::every] > 0)
    return np.concatenate(distances), np.concatenate(changed)
