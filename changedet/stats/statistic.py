"""What every statistic of change offers: two images in, one or more bands out, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Columns computed at a time: a few hundred kB in float64, which stay in the processor's cache.
_PANEL = 1 << 14


class Statistic(Protocol):
    """A fitted statistic of change. A pixel's value depends on nothing further than `halo` px away."""

    @property
    def halo(self) -> int:
        """How far (px) a pixel's value sees."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """What the bands of its image are; the first is the statistic, more is more change."""
        ...

    @property
    def freedom(self) -> int | None:
        """Degrees of freedom of the chi-square distribution it has without change; None where it has none."""
        ...

    @property
    def rule(self) -> str:
        """The rule for a threshold that goes with it where none is asked for, see `changedet.config.parse_rule`."""
        ...

    def image(
        self, before: NDArray[np.float32], after: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return float32 (S, H, W) for two dates (C, H, W) and what is valid (H, W), True = valid."""
        ...

    def squares(self, statistic: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sum of squares that the first band is, or is the root of, same shape."""
        ...

    def from_square(self, square: float) -> float:
        """Return the value of the first band where the sum of squares is `square`."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Return what was fitted as plain data."""
        ...


def by_pixel(
    function: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
    before: NDArray[np.float32],
    after: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Apply a function of pixels (C, N), N of one constant size, to two images (C, H, W).

    As products of matrices are summed in an order that depends on their shapes, all have one: a pixel's value is the
    same, bit for bit, wherever it lies in a chip of whatever size.

    Returns:
        float32 (H, W).
    """
    bands, height, width = before.shape
    # Band by band, as rows of a larger image lie together in a band only.
    rows = [[band.reshape(-1) for band in date] for date in (before, after)]
    values, panel = np.empty(height * width, dtype=np.float32), np.zeros((2, bands, _PANEL))
    for start in range(0, len(values), _PANEL):
        stop = min(start + _PANEL, len(values))
        for date in range(2):
            for band in range(bands):
                panel[date, band, : stop - start] = rows[date][band][start:stop]
        values[start:stop] = function(panel[0], panel[1])[: stop - start]
    return values.reshape(height, width)
