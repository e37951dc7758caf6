"""Change vector analysis: how far, and which way, a pixel moved in the space of the bands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from changedet.stats.moments import Moments
from changedet.stats.statistic import by_pixel

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cva:
    """Change vectors of standardised bands: each date's own mean and deviation are taken out of each band first.

    That takes out of the pair what differs in every pixel alike, sun and haze, and weighs all bands the same, whatever
    their units. The direction is that of compressed change vector analysis, the angle to the vector of equal
    brightening in all bands: 0° where all brighten alike, 180° where all darken, 90° where the colour alone changed.

    Malila, "Change vector analysis: an approach for detecting forest changes with Landsat", LARS Symposia, 1980;
    Bovolo, Marchesi and Bruzzone, "A framework for automatic and unsupervised detection of multiple changes in
    multitemporal images", IEEE Transactions on Geoscience and Remote Sensing 50(6), 2012.

    Attributes:
        mean: float64 (2, C), of the bands of the before and the after date.
        deviation: float64 (2, C), standard; 1 for a band that is constant.
    """

    mean: Floats
    deviation: Floats
    halo = 0
    names = ("magnitude", "direction (degrees)")
    freedom = None
    rule = "mixture"

    @classmethod
    def from_moments(cls, moments: Moments) -> Self:
        """Fit to the moments of stacked bands (before, then after; 2C variables)."""
        deviation = np.where(moments.deviation > 0, moments.deviation, 1.0)
        return cls(moments.mean.reshape(2, -1), deviation.reshape(2, -1))

    def vectors(self, before: NDArray[np.floating], after: NDArray[np.floating]) -> Floats:
        """Return change vectors, float64 (C, N), of pixels (C, N)."""
        first, second = (
            (pixels - self.mean[date][:, None]) / self.deviation[date][:, None]
            for date, pixels in enumerate((before, after))
        )
        vectors: Floats = second - first
        return vectors

    def magnitude(self, before: NDArray[np.floating], after: NDArray[np.floating]) -> Floats:
        """Return lengths of the change vectors, float64 (N,), of pixels (C, N)."""
        length: Floats = np.sqrt((self.vectors(before, after) ** 2).sum(axis=0))
        return length

    def direction(self, before: NDArray[np.floating], after: NDArray[np.floating]) -> Floats:
        """Return angles to equal brightening, float64 (N,), 0 to 180 degrees, of pixels (C, N); NaN without change."""
        vectors = self.vectors(before, after)
        length = np.sqrt((vectors**2).sum(axis=0) * len(vectors))
        cosine = np.divide(vectors.sum(axis=0), length, out=np.full(len(length), np.nan), where=length > 0)
        angle: Floats = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        return angle

    def image(
        self, before: NDArray[np.float32], after: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """See `Statistic`."""
        del valid  # no pixel sees another
        return np.stack([by_pixel(part, before, after) for part in (self.magnitude, self.direction)])

    def squares(self, statistic: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Statistic`."""
        return statistic**2

    def from_square(self, square: float) -> float:
        """See `Statistic`."""
        return float(np.sqrt(square))

    def as_json(self) -> dict[str, Any]:
        """See `Statistic`."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what `as_json` wrote."""
        return cls(np.array(record["mean"]), np.array(record["deviation"]))
