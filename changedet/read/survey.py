"""One look at a bounded sample of a pair, for everything that has to be known of the whole of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from changedet.grid.window import Window, sample_windows
from changedet.read.coregister import WINDOW_PX, WINDOWS_PER_AXIS, ShiftEstimate, WindowShifts, agree, shifts_of
from changedet.read.pair import Chip, RasterPair

_PIXELS_PER_WINDOW = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What at most 64 windows of 192 px, spread evenly over the pair, say of it.

    Attributes:
        valid_share: share of their pixels that are valid at both dates.
        sampled_px: how many pixels that is of.
        windows: the shifts in each.
        before: a sample of the pixels valid at both dates, reflectance as read, float64 (bands, N).
        after: the same pixels at the after date.
    """

    valid_share: float
    sampled_px: int
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
    valid, windows, pixels = 0, [], []
    for number, place in enumerate(places):
        chip = pair.read(place)
        valid += int(chip.valid.sum())
        windows.append(shifts_of(chip, pair.bands))
        pixels.append(_sample(chip, number))
    sampled = sum(place.height * place.width for place in places)
    return Survey(valid / sampled, sampled, windows, *_joined(pixels))


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
