"""Principal components of neighbourhoods, and two clusters of them.

Celik, "Unsupervised change detection in satellite images using principal component analysis and k-means clustering",
IEEE Geoscience and Remote Sensing Letters 6(4), 2009; there of one band, here of the magnitude of change vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import correlate

from changedet.stats.cva import Cva
from changedet.stats.moments import Moments
from changedet.stats.otsu import otsu_threshold
from changedet.stats.statistic import by_pixel

Floats = NDArray[np.float64]

SIDE = 5
_COMPONENTS = 3
_MOST_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class PcaKmeans:
    """Fitted clusters of neighbourhoods of SIDE x SIDE px of the magnitude of change.

    Which of two centres is nearer depends on nothing but how far a neighbourhood lies along the line through them. That
    is a weighted sum of its pixels: the statistic. So a fixed kernel does what projecting and clustering did.

    Attributes:
        cva: gives the magnitudes.
        kernel: float64 (SIDE, SIDE), of unit length.
        midpoint: the statistic where both centres are as near: the clusters' border.
        fill: magnitude that stands where a neighbourhood reaches invalid pixels or beyond the raster, the valid
            pixels' mean.
    """

    cva: Cva
    kernel: Floats
    midpoint: float
    fill: float
    halo = SIDE // 2
    names = ("weighted magnitude",)
    freedom = None
    rule = "mixture"

    def image(
        self, before: NDArray[np.float32], after: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """See `Statistic`."""
        magnitude = filled_magnitude(self.cva, before, after, valid, self.fill)
        along: NDArray[np.float32] = correlate(magnitude, self.kernel, mode="constant", cval=self.fill)[None]
        # Differences below those of the unchanged centre's side are none: the statistic is a magnitude.
        return np.maximum(along, np.float32(0))

    def squares(self, statistic: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Statistic`."""
        return statistic**2

    def from_square(self, square: float) -> float:
        """See `Statistic`."""
        return float(np.sqrt(square))

    def as_json(self) -> dict[str, Any]:
        """See `Statistic`."""
        own = {"kernel": self.kernel.tolist(), "midpoint": self.midpoint, "fill": self.fill}
        return {**self.cva.as_json(), **own}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what `as_json` wrote; JSON has no infinity, and null instead."""
        midpoint = float("inf") if record["midpoint"] is None else record["midpoint"]
        return cls(Cva.from_json(record), np.array(record["kernel"]), midpoint, record["fill"])


def filled_magnitude(
    cva: Cva, before: NDArray[np.float32], after: NDArray[np.float32], valid: NDArray[np.bool_], fill: float
) -> NDArray[np.float32]:
    """Return the magnitude of change, float32 (H, W), `fill` where not valid."""
    return np.where(valid, by_pixel(cva.magnitude, before, after), np.float32(fill))


def neighbourhoods(magnitude: NDArray[np.float32], fill: float) -> NDArray[np.float32]:
    """Return the SIDE x SIDE pixels around each pixel of (H, W), as (SIDE * SIDE, H, W); `fill` beyond the edges."""
    padded = np.pad(magnitude, SIDE // 2, constant_values=fill)
    views = sliding_window_view(padded, (SIDE, SIDE))
    return np.moveaxis(views.reshape(*magnitude.shape, SIDE * SIDE), 2, 0)


def fit_pca_kmeans(cva: Cva, fill: float, samples: NDArray[np.float32]) -> PcaKmeans:
    """Fit to neighbourhoods (SIDE * SIDE, N), N one or more.

    Clusters begin on either side of Otsu's threshold of the first component, so nothing is drawn at random.
    """
    moments = Moments.of(samples)
    _, directions = np.linalg.eigh(moments.covariance)
    components = directions[:, ::-1][:, :_COMPONENTS].T
    # Along the first component more is to mean more change.
    components[0] *= 1.0 if components[0].sum() >= 0 else -1.0
    scores = components @ (samples - moments.mean[:, None])
    unchanged, changed = _two_means(scores)
    axis = components.T @ (changed - unchanged)
    length = float(np.linalg.norm(axis))
    if length == 0:  # all neighbourhoods are alike: no border to cross
        return PcaKmeans(cva, np.full((SIDE, SIDE), 1 / SIDE), float("inf"), fill)
    kernel = axis / length
    kernel = kernel if kernel.sum() >= 0 else -kernel
    middle = moments.mean + components.T @ (changed + unchanged) / 2
    return PcaKmeans(cva, kernel.reshape(SIDE, SIDE), float(kernel @ middle), fill)


def _two_means(scores: Floats) -> tuple[Floats, Floats]:
    """Return the centres (V,) of two clusters of (V, N), the lower along the first variable first."""
    upper = scores[0] >= otsu_threshold(scores[0])
    low = high = scores.mean(axis=1)
    for _ in range(_MOST_ROUNDS):
        if not 0 < upper.sum() < upper.size:
            break
        low, high = scores[:, ~upper].mean(axis=1), scores[:, upper].mean(axis=1)
        nearer = ((scores - high[:, None]) ** 2).sum(axis=0) < ((scores - low[:, None]) ** 2).sum(axis=0)
        if (nearer == upper).all():
            break
        upper = nearer
    return low, high
