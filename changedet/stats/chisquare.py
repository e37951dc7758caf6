"""The chi-square distribution, and images of statistics that have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, chdtri

from changedet.errors import ConfigError
from changedet.stats.statistic import by_pixel


def survival(statistic: NDArray[np.floating], freedom: int) -> NDArray[np.float64]:
    """Return the share of a chi-square distribution with `freedom` degrees of freedom that lies above each value."""
    above: NDArray[np.float64] = chdtrc(freedom, np.maximum(statistic, 0).astype(np.float64))
    return above


def quantile(share: float, freedom: int) -> float:
    """Return the value that `share` of a chi-square distribution lies below.

    Raises:
        ConfigError: `share` is not between 0 and 1.

    >>> round(quantile(0.95, 1), 4)
    3.8415
    """
    if not 0 < share < 1:
        raise ConfigError(f"chi-square quantile of {share}", expected="a share between 0 and 1, e.g. chi2:0.99")
    return float(chdtri(freedom, 1 - share))


class PixelStatistic(Protocol):
    """A statistic of single pixels with a chi-square distribution where nothing changed."""

    @property
    def freedom(self) -> int:
        """Degrees of freedom."""
        ...

    def statistic(self, before: NDArray[np.floating], after: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return float64 (N,) of pixels (C, N)."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Return what was fitted as plain data."""
        ...


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """A `Statistic` of images from one of pixels."""

    pixels: PixelStatistic
    halo = 0
    names = ("chi-square",)
    rule = "mixture"

    @property
    def freedom(self) -> int:
        """See `Statistic`."""
        return self.pixels.freedom

    def image(
        self, before: NDArray[np.float32], after: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """See `Statistic`."""
        del valid  # no pixel sees another
        return by_pixel(self.pixels.statistic, before, after)[None]

    def squares(self, statistic: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Statistic`."""
        return statistic

    def from_square(self, square: float) -> float:
        """See `Statistic`."""
        return square

    def as_json(self) -> dict[str, Any]:
        """See `Statistic`."""
        return {"freedom": self.freedom, **self.pixels.as_json()}
