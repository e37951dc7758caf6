"""The residual shift between two dates that should lie on one grid, by phase correlation in several windows.

Guizar-Sicairos, Thurman, Fienup, "Efficient subpixel image registration algorithms", Optics Letters 33 (2008), as
scikit-image implements it. Windows disagree where the ground changed, where there is only water, and where clouds are,
so the answer is the median of those windows that agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation

from changedet.grid import Window
from changedet.read.pair import Chip, RasterPair

# Below this a shift is not worth a resampling, which blurs (px).
NOTICEABLE_SHIFT = 0.5

_WINDOW_PX = 192
_WINDOWS_PER_AXIS = 6
_UPSAMPLING = 50
_LARGEST_SHIFT = 8.0
_AGREEMENT_PX = 0.5
_BANDS = ("B04", "B03", "B02", "B08")


@dataclass(frozen=True, slots=True)
class ShiftEstimate:
    """Where the after date lies: what is at (r, c) before is found at (r + row, c + col) after (px).

    Attributes:
        row: rows, 0.0 where nothing could be estimated.
        col: columns, likewise.
        windows: how many estimates (windows times bands) were made.
        agreeing: how many of them lie within half a pixel of the answer.
        spread: median distance of the agreeing estimates from the answer (px), NaN without any.
    """

    row: float
    col: float
    windows: int
    agreeing: int
    spread: float

    @property
    def size(self) -> float:
        """Length of the shift in px."""
        return float(np.hypot(self.row, self.col))

    @property
    def reliable(self) -> bool:
        """At least five estimates, and a quarter of all, agree."""
        return self.agreeing >= max(5, self.windows / 4)


def estimate_shift(pair: RasterPair) -> ShiftEstimate:
    """Estimate the one shift of the whole pair from at most 36 windows of 192 px spread evenly over it."""
    height, width = pair.geobox.shape
    with pair.with_bands(_sharpest(pair.bands)) as light:
        estimates = [
            shift
            for window in sample_windows(height, width, size=_WINDOW_PX, per_axis=_WINDOWS_PER_AXIS)
            for shift in _shifts_of(light.read(window))
        ]
    return _agree(np.array(estimates, dtype=float).reshape(-1, 2))


def _sharpest(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Return Sentinel-2's four bands at 10 m where they are there, else the first three bands."""
    return tuple(name for name in _BANDS if name in bands) or bands[:3]


def sample_windows(height: int, width: int, *, size: int, per_axis: int) -> list[Window]:
    """Return at most `per_axis` squared windows of at most `size` px, spread evenly, never overlapping by half."""
    rows, cols = (_starts(length, size, per_axis) for length in (height, width))
    return [Window(row, col, min(size, height), min(size, width)) for row in rows for col in cols]


def _starts(length: int, size: int, most: int) -> list[int]:
    if length <= size:
        return [0]
    count = min(most, max(2, 2 * length // size - 1))
    return [round(start) for start in np.linspace(0, length - size, count)]


def _shifts_of(chip: Chip) -> list[tuple[float, float]]:
    """Return one (row, col) a band of a chip that is mostly valid."""
    if chip.valid.mean() < 0.9:
        return []
    pairs = ((_detail(before), _detail(after)) for before, after in zip(chip.before, chip.after, strict=True))
    found = (_phase_shift(before, after) for before, after in pairs if before.std() > 0 and after.std() > 0)
    return [shift for shift in found if max(map(abs, shift)) <= _LARGEST_SHIFT]


def _phase_shift(before: NDArray[np.float32], after: NDArray[np.float32]) -> tuple[float, float]:
    shift, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]  # scikit-image has no types
        before, after, upsample_factor=_UPSAMPLING, normalization=None
    )
    # scikit-image gives what would bring `after` back; we keep where it is.
    return -float(shift[0]), -float(shift[1])


def _detail(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log reflectance without its broad variation, faded to zero at the window's edge.

    The logarithm turns another sun into a constant, which the high pass then removes; the fade keeps the window's
    frame, which lies at the same place at both dates, from being what correlates.
    """
    log = np.log(np.maximum(image, 0) + 0.02)
    fine: NDArray[np.float32] = gaussian_filter(log, 0.7) - gaussian_filter(log, 6.0)
    rows, cols = (np.hanning(length + 2)[1:-1] for length in image.shape)
    return (fine * np.outer(rows, cols)).astype(np.float32)


def _agree(estimates: NDArray[np.float64]) -> ShiftEstimate:
    if len(estimates) == 0:
        return ShiftEstimate(0.0, 0.0, 0, 0, float("nan"))
    # The densest half-pixel neighbourhood first: a median of all would be pulled where most windows are wrong.
    distances = np.linalg.norm(estimates[:, None] - estimates[None], axis=2)
    centre = estimates[np.argmax((distances < _AGREEMENT_PX).sum(axis=1))]
    close = estimates[np.linalg.norm(estimates - centre, axis=1) < _AGREEMENT_PX]
    row, col = np.median(close, axis=0)
    spread = float(np.median(np.linalg.norm(close - (row, col), axis=1)))
    return ShiftEstimate(round(float(row), 3), round(float(col), 3), len(estimates), len(close), round(spread, 3))
