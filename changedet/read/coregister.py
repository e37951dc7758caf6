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

from changedet.grid.window import sample_windows
from changedet.read.pair import Chip, RasterPair

# Below this a shift is not worth a resampling, which blurs (px).
NOTICEABLE_SHIFT = 0.5

WINDOW_PX = 192
WINDOWS_PER_AXIS = 8
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


@dataclass(frozen=True, slots=True)
class WindowShifts:
    """What one window says of the shift.

    Attributes:
        row: of the window's middle (px).
        col: likewise.
        estimates: (row, col) of the shift, one a band, (B, 2); B is 0 where the window says nothing.
    """

    row: float
    col: float
    estimates: NDArray[np.float64]


def estimate_shift(pair: RasterPair) -> ShiftEstimate:
    """Estimate the one shift of the whole pair from at most 64 windows of 192 px spread evenly over it."""
    return agree(sample_shifts(pair))


def sample_shifts(pair: RasterPair) -> list[WindowShifts]:
    """Return the shifts in windows spread evenly over the pair, reading no more bands than they take."""
    height, width = pair.geobox.shape
    with pair.with_bands(sharpest(pair.bands)) as light:
        windows = sample_windows(height, width, size=WINDOW_PX, per_axis=WINDOWS_PER_AXIS)
        return [shifts_of(light.read(window), light.bands) for window in windows]


def sharpest(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Return Sentinel-2's four bands at 10 m where they are there, else the first three bands."""
    return tuple(name for name in _BANDS if name in bands) or bands[:3]


def shifts_of(chip: Chip, bands: tuple[str, ...]) -> WindowShifts:
    """Return one estimate for each of the sharpest bands of a chip that is mostly valid."""
    window = chip.window
    middle = window.row + window.height / 2, window.col + window.width / 2
    if chip.valid.mean() < 0.9:
        return WindowShifts(*middle, np.empty((0, 2)))
    channels = [bands.index(name) for name in sharpest(bands)]
    pairs = ((_detail(chip.before[channel]), _detail(chip.after[channel])) for channel in channels)
    found = [_phase_shift(before, after) for before, after in pairs if before.std() > 0 and after.std() > 0]
    near = [shift for shift in found if max(map(abs, shift)) <= _LARGEST_SHIFT]
    return WindowShifts(*middle, np.array(near, dtype=float).reshape(-1, 2))


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


def agree(windows: list[WindowShifts]) -> ShiftEstimate:
    """Return the shift that most estimates of all windows agree on."""
    estimates = np.concatenate([np.empty((0, 2)), *(window.estimates for window in windows)])
    if len(estimates) == 0:
        return ShiftEstimate(0.0, 0.0, 0, 0, float("nan"))
    # The densest half-pixel neighbourhood first: a median of all would be pulled where most windows are wrong.
    distances = np.linalg.norm(estimates[:, None] - estimates[None], axis=2)
    centre = estimates[np.argmax((distances < _AGREEMENT_PX).sum(axis=1))]
    close = estimates[np.linalg.norm(estimates - centre, axis=1) < _AGREEMENT_PX]
    row, col = np.median(close, axis=0)
    spread = float(np.median(np.linalg.norm(close - (row, col), axis=1)))
    return ShiftEstimate(round(float(row), 3), round(float(col), 3), len(estimates), len(close), round(spread, 3))
