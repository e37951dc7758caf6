"""What a histogram of probabilities says beyond one threshold: precision against recall, and reliability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from changedet.grid.quantise import STEPS
from changedet.learn.counts import ProbabilityHistogram

Floats: TypeAlias = NDArray[np.float64]

# 255 stored values make 15 bins of 17.
BINS = 15


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision and recall of the masks from threshold 1/254 to 1.

    Attributes:
        threshold: (254,), rising.
        precision: (254,), NaN where nothing is called changed.
        recall: (254,), falling.
    """

    threshold: Floats
    precision: Floats
    recall: Floats

    @classmethod
    def of(cls, histogram: ProbabilityHistogram) -> PrecisionRecall:
        """Take it from a histogram."""
        tp, fp = (_at_least(counts)[1:] for counts in (histogram.changed, histogram.unchanged))
        with np.errstate(invalid="ignore", divide="ignore"):
            return cls(np.arange(1, STEPS + 1) / STEPS, tp / (tp + fp), tp / histogram.changed.sum())

    @property
    def average_precision(self) -> float:
        """Sum of precision times gain in recall, from the highest threshold down to 1/254; NaN where undefined."""
        seen = ~np.isnan(self.precision)
        gains = np.diff(self.recall[::-1], prepend=0.0)[::-1]
        return float((self.precision[seen] * gains[seen]).sum()) if seen.any() else float("nan")


def _at_least(counts: NDArray[np.int64]) -> Floats:
    """Return how many pixels have at least each stored value."""
    return np.cumsum(counts[::-1])[::-1].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often pixels of a probability are changed in truth, in equal bins of probability.

    Attributes:
        pixels: int64 (15,).
        stated: (15,), mean probability of a bin's pixels, NaN where it has none.
        observed: (15,), share of them that are changed.
    """

    pixels: NDArray[np.int64]
    stated: Floats
    observed: Floats

    @classmethod
    def of(cls, histogram: ProbabilityHistogram) -> Reliability:
        """Take it from a histogram."""
        total = histogram.changed + histogram.unchanged
        by_value = total * np.arange(STEPS + 1) / STEPS
        pixels, stated, changed = (x.reshape(BINS, -1).sum(1) for x in (total, by_value, histogram.changed))
        with np.errstate(invalid="ignore"):
            return cls(pixels, stated / pixels, changed / pixels)

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean over pixels of |observed - stated| of their bin; NaN without pixels.

        Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
        """
        there = self.pixels > 0
        if not there.any():
            return float("nan")
        gaps = np.abs(self.observed - self.stated)[there]
        return float((gaps * self.pixels[there]).sum() / self.pixels.sum())
