"""Change of built-up ground: MAD averaged around each pixel, and faded where both dates are green.

What is built or cleared changes together over several pixels, and more than the rest of that very pair does; noise,
borders that are off by a fraction of a pixel, and leaves do not. On OSCD's cities this ranks labelled change better
than any other statistic here, see docs/no-labels.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from changedet.stats.mad import Mad
from changedet.stats.moments import Moments
from changedet.stats.statistic import by_pixel

Floats = NDArray[np.float32]

# All at 10 m.
_FINE: Final = ("B04", "B03", "B02", "B08")
# Standard deviation (px) of the average around a pixel, and of the one that smooths the vegetation index.
_AROUND: Final = 2.5
_AROUND_INDEX: Final = 1.0
# Vegetation index at which half is left, and how far from there e-fold.
_GREEN, _GREEN_WIDTH = 0.35, 0.08
# From where it is change, and how far from there e-fold. An average of noise does not reach it.
BORDER: Final = 1.7
_BORDER_WIDTH: Final = 0.25
# Weights beyond so many standard deviations are left out.
_TRUNCATE: Final = 4.0
# Pixels that are looked at together: some 50 MB, whatever the chip.
_STRIP_PX: Final = 1 << 19
# Of a sum of reflectances that the index divides by, and of weights of valid pixels.
_LEAST_SUM, _LEAST_WEIGHT = 0.02, 1e-3


@dataclass(frozen=True, slots=True)
class UrbanChange:
    """How many times larger the change around a pixel is than it is of pixels without change, in built-up ground.

    The root of MAD's chi-square, over the mean that it has where nothing changed, is averaged with Gaussian weights
    over valid pixels. Where red and near infrared are there, it is multiplied by a logistic function of the smaller of
    the two dates' vegetation indices (NDVI), 1 on bare ground and 0 on dense green.

    Attributes:
        mad: fitted to the pair.
        channels: those it looks at (0-based): red, green, blue and near infrared where all four are there, as others
            are of coarser pixels or hold more season than ground; else all.
        red: channel, None where there is none.
        nir: likewise, near infrared.
    """

    mad: Mad
    channels: tuple[int, ...]
    red: int | None = None
    nir: int | None = None
    halo = math.ceil(_TRUNCATE * _AROUND)
    names = ("change over noise",)
    freedom = None
    rule = f"statistic:{BORDER}"

    def image(self, before: Floats, after: Floats, valid: NDArray[np.bool_]) -> Floats:
        """See `Statistic`."""
        height, width = valid.shape
        image = np.empty((1, height, width), np.float32)
        for rows in strips(height, width):
            top = max(rows.start - self.halo, 0)
            around = slice(top, min(rows.stop + self.halo, height))
            strip = self._strip(before[:, around], after[:, around], valid[around])
            image[0, rows] = strip[rows.start - top : rows.stop - top]
        return image

    def _strip(self, before: Floats, after: Floats, valid: NDArray[np.bool_]) -> Floats:
        root = by_pixel(self.mad.statistic, *self._seen(before, after))
        np.sqrt(root, out=root)
        root /= np.float32(_mean_of_chi(self.mad.freedom))
        return _mean_around(root, valid, _AROUND) * self._bare(before, after, valid)

    def _seen(self, *dates: Floats) -> tuple[Floats, ...]:
        channels = list(self.channels)
        return tuple(date if channels == list(range(len(date))) else date[channels] for date in dates)

    def _bare(self, before: Floats, after: Floats, valid: NDArray[np.bool_]) -> Floats:
        """Return how far each pixel (H, W) is from being green at both dates, 0..1."""
        if self.red is None or self.nir is None:
            return np.ones(valid.shape, np.float32)
        index = np.minimum(*(_vegetation(date[self.red], date[self.nir]) for date in (before, after)))
        smooth = _mean_around(index, valid, _AROUND_INDEX)
        bare: Floats = expit((np.float32(_GREEN) - smooth) / np.float32(_GREEN_WIDTH))
        return bare

    def probability(self, statistic: Floats) -> Floats:
        """Return the grade of change, float32 0..1, of values of the statistic: 0.5 at the border.

        A mixture has no say: what is averaged is no sum of squares of independent deviates, whose distributions it has.
        """
        grade: Floats = expit((statistic - np.float32(BORDER)) / np.float32(_BORDER_WIDTH))
        return grade

    def squares(self, statistic: Floats) -> Floats:
        """See `Statistic`."""
        return statistic**2

    def from_square(self, square: float) -> float:
        """See `Statistic`."""
        return math.sqrt(square)

    def as_json(self) -> dict[str, Any]:
        """See `Statistic`."""
        return {**self.mad.as_json(), "channels": list(self.channels), "red": self.red, "nir": self.nir}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what `as_json` wrote."""
        return cls(Mad.from_json(record), tuple(record["channels"]), record["red"], record["nir"])


def fit_urban(moments: Moments, bands: Sequence[str]) -> UrbanChange:
    """Fit the statistic to the moments of stacked bands (before, then after) of these Sentinel-2 names.

    Raises:
        PairError: at one date no band varies.
    """
    fine = [bands.index(band) for band in _FINE if band in bands]
    channels = fine if len(fine) == len(_FINE) else list(range(len(bands)))
    mad = Mad.from_moments(moments.of_variables([*channels, *(len(bands) + channel for channel in channels)]))
    red, nir = (bands.index(band) if {"B04", "B08"} <= set(bands) else None for band in ("B04", "B08"))
    return UrbanChange(mad, tuple(channels), red, nir)


def strips(height: int, width: int) -> list[slice]:
    """Return the rows of an image in strips that are looked at one by one."""
    rows = max(1, _STRIP_PX // width)
    return [slice(row, min(row + rows, height)) for row in range(0, height, rows)]


def joined(probability: Floats, statistic: Floats, weight: float) -> Floats:
    """Return a probability (…) whose logit is moved by `weight` for each unit of the statistic above its border.

    It is 1 / (1 + (1 - p) / p * exp(-weight * (statistic - border))): one exponential, and no logarithm, a pixel.
    """
    ends = np.float32(1e-7)
    known = np.clip(probability, ends, 1 - ends)
    odds: Floats = np.exp(np.float32(weight) * (np.float32(BORDER) - statistic))  # against change
    odds *= (1 - known) / known
    odds += 1
    return np.divide(1, odds, out=odds)


def _mean_of_chi(freedom: int) -> float:
    """Return the mean of the root of a chi-square variable."""
    return math.sqrt(2) * math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))


def _mean_around(image: Floats, valid: NDArray[np.bool_], deviation: float) -> Floats:
    """Return the mean (H, W) of the valid pixels around each, with Gaussian weights."""
    if valid.all():
        return _averaged(image, deviation) / _whole(valid.shape, deviation)
    weight = _averaged(valid.astype(np.float32), deviation)
    np.maximum(weight, np.float32(_LEAST_WEIGHT), out=weight)
    mean: Floats = _averaged(np.where(valid, image, np.float32(0)), deviation) / weight
    return mean


@lru_cache(maxsize=8)
def _whole(shape: tuple[int, int], deviation: float) -> Floats:
    """Return the weights of all pixels around each where all are valid: of one shape, as most strips of a run are."""
    weight: Floats = np.maximum(_averaged(np.ones(shape, np.float32), deviation), np.float32(_LEAST_WEIGHT))
    return weight


def _averaged(image: Floats, deviation: float) -> Floats:
    # Beyond the chip nothing is valid, and weighs nothing: as beyond the raster.
    average: Floats = gaussian_filter(image, deviation, mode="constant", truncate=_TRUNCATE)
    return average


def _vegetation(red: Floats, nir: Floats) -> Floats:
    index: Floats = (nir - red) / np.maximum(nir + red, np.float32(_LEAST_SUM))
    return index
