"""One look at a bounded sample of a pair, for everything that has to be known of the whole of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from changedet.grid.window import Window, sample_windows
from changedet.read.coregister import WINDOW_PX, WINDOWS_PER_AXIS, ShiftEstimate, WindowShifts, agree, shifts_of
from changedet.read.pair import Chip, RasterPair

_PIXELS_PER_WINDOW = 1024
_THREADS = 2
_AHEAD = 4


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What at most 64 windows of 192 px, spread evenly over the pair, say of it.

    Attributes:
        valid_share: share of their pixels that are valid at both dates.
        sampled_px: how many pixels that is of.
        zero_share: of each date, share of the valid pixels that are stored as 0 in all bands though no value says 'no
            data' there, as in the holes of a mosaic that was made of files without one.
        windows: the shifts in each.
        before: a sample of the pixels valid at both dates, reflectance as read, float64 (bands, N).
        after: the same pixels at the after date.
    """

    valid_share: float
    sampled_px: int
    zero_share: tuple[float, float]
    windows: list[WindowShifts]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    @property
    def shift(self) -> ShiftEstimate:
        """The shift that the windows agree on."""
        return agree(self.windows)


def survey(pair: RasterPair) -> Survey:
    """Read the sample once.

    Raises:
        SceneError: a file is damaged or truncated in one of the windows.
    """
    places = _places(pair)
    valid, found, pixels, zeros = 0, [], [], np.zeros(2, np.int64)
    # Products this small are not worth BLAS's threads, whose waiting takes longer than all else; windows are.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(_THREADS, "changedet-shift") as threads:
        for number, place in enumerate(places):
            chip = pair.read(place)
            valid += int(chip.valid.sum())
            zeros += [_zeros(pair, which, image, chip.valid) for which, image in enumerate((chip.before, chip.after))]
            found.append(threads.submit(shifts_of, chip, pair.bands))
            pixels.append(_sample(chip, number))
            if number >= _AHEAD:
                found[number - _AHEAD].result()  # or chips would pile up in memory
        windows = [window.result() for window in found]
    sampled = sum(place.height * place.width for place in places)
    before_zero, after_zero = (zeros / max(valid, 1)).tolist()
    return Survey(valid / sampled, sampled, (before_zero, after_zero), windows, *_joined(pixels))


def _zeros(pair: RasterPair, which: int, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> int:
    """Return how many valid pixels of a date are 0 in all bands, none where a value or a mask says what is no data."""
    bands = (pair.before, pair.after)[which].bands
    if any(band.masked for band in bands) or any(nodata.value is not None for nodata in pair.nodata[which]):
        return 0
    zero = np.array([scaling.offset for scaling in pair.scaling[which]], np.float32)
    return int(((image == zero[:, None, None]).all(axis=0) & valid).sum())


def sample_pixels(pair: RasterPair) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the pixels of a survey, `before` and `after`, without looking for shifts.

    Raises:
        SceneError: a file is damaged or truncated in one of the windows.
    """
    return _joined([_sample(pair.read(place), number) for number, place in enumerate(_places(pair))])


def _places(pair: RasterPair) -> list[Window]:
    height, width = pair.geobox.shape
    return sample_windows(height, width, size=WINDOW_PX, per_axis=WINDOWS_PER_AXIS)


def _joined(
    pixels: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    before, after = (np.concatenate([date[which] for date in pixels], axis=1) for which in (0, 1))
    return before, after


def _sample(chip: Chip, number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return at most 1024 of the window's valid pixels at both dates, (bands, N) each; the same in every run."""
    places = np.flatnonzero(chip.valid)
    if len(places) > _PIXELS_PER_WINDOW:
        places = np.sort(np.random.default_rng([4, number]).choice(places, _PIXELS_PER_WINDOW, replace=False))
    before, after = (image.reshape(len(image), -1)[:, places].astype(np.float64) for image in (chip.before, chip.after))
    return before, after
