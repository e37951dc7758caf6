"""Slow feature analysis: the combinations of bands that differ least between the dates where nothing changed.

Wu, Du and Zhang, "Slow feature analysis for change detection in multispectral imagery", IEEE Transactions on Geoscience
and Remote Sensing 52(5), 2014, without iterations (their USFA).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from changedet.stats.moments import Moments
from changedet.stats.whitening import whitening

Floats = NDArray[np.float64]

# Equal dates differ in nothing; with a floor their statistic is 0 and not 0 / 0.
_SMALLEST_VARIANCE = 1e-9
_FITTED = ("mean", "deviation", "features", "variances")


@dataclass(frozen=True, slots=True)
class SlowFeatures:
    """Fitted slow features of two dates with C bands each; R is the rank of the bands.

    Attributes:
        mean: float64 (2, C), of the bands of the before and the after date.
        deviation: float64 (2, C), standard; 1 for a band that is constant.
        features: float64 (R, C), one row a feature of standardised bands, of unit variance over both dates, slowest
            first.
        variances: float64 (R,), of each feature's difference between the dates, ascending.
    """

    mean: Floats
    deviation: Floats
    features: Floats
    variances: Floats

    @classmethod
    def from_moments(cls, moments: Moments) -> Self:
        """Fit to the moments of stacked bands (before, then after; 2C variables).

        Raises:
            PairError: no band varies.
        """
        bands = len(moments.mean) // 2
        deviation = np.where(moments.deviation > 0, moments.deviation, 1.0)
        correlation = moments.covariance / np.outer(deviation, deviation)
        before, after, across = correlation[:bands, :bands], correlation[bands:, bands:], correlation[:bands, bands:]
        white = whitening((before + after) / 2)
        variances, directions = scipy.linalg.eigh(white @ (before + after - across - across.T) @ white.T)
        return cls(
            moments.mean.reshape(2, -1), deviation.reshape(2, -1), directions.T @ white, np.maximum(variances, 0)
        )

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the chi-square statistic."""
        return len(self.variances)

    def statistic(self, before: NDArray[np.floating], after: NDArray[np.floating]) -> Floats:
        """Return the sum of the features' squared differences over their variances, float64 (N,), of pixels (C, N)."""
        first, second = (
            (pixels - self.mean[date][:, None]) / self.deviation[date][:, None]
            for date, pixels in enumerate((before, after))
        )
        differences = self.features @ (first - second)
        statistic: Floats = (differences**2 / np.maximum(self.variances, _SMALLEST_VARIANCE)[:, None]).sum(axis=0)
        return statistic

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {name: getattr(self, name).tolist() for name in _FITTED}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what `as_json` wrote."""
        return cls(*(np.array(record[name]) for name in _FITTED))
