"""A threshold without labels: the one at which a model marks as many pixels as the statistic of the pairs does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from changedet.grid.quantise import STEPS, quantise
from changedet.learn.predict import predict_around
from changedet.learn.scene_term import SceneTerm
from changedet.network.base import ChangeNetwork
from changedet.network.calibration import probability_of
from changedet.stats.urban import BORDER


def threshold_of_rate(
    network: ChangeNetwork, terms: Sequence[SceneTerm], chip_px: int | None = None
) -> tuple[float, float]:
    """Return the threshold k / 254, and the share of the pixels that it shall mark: the statistic's beyond its border.

    How much of a scene changes cannot be seen from a network that learned from made changes, whose share is ours. The
    statistic's border is in units of the pair's own noise.

    Args:
        network: in eval mode, on the CPU.
        terms: scenes with what is joined with the network's answer.
        chip_px: see `changedet.learn.predict`.
    """
    stored, marked = np.zeros(STEPS + 1, np.int64), 0
    for term in terms:
        for core, around, logits in predict_around(network, term.scene, term.margin, chip_px):
            statistic, valid = term.values(core)
            answer = term.join(probability_of(logits[None], None)[0].numpy(), core, around)
            stored += np.bincount(quantise(answer, valid)[0][valid], minlength=STEPS + 1)
            marked += int((valid & (statistic >= BORDER)).sum())
    at_least = np.cumsum(stored[::-1])[::-1]
    first = 1 + int(np.abs(at_least[1:] - marked).argmin())
    return first / STEPS, marked / max(int(stored.sum()), 1)
