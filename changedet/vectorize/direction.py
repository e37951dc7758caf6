"""Which way a change went: from mean reflectance at both dates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VISIBLE = ("B02", "B03", "B04")
RED, INFRARED = "B04", "B08"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Directions:
    """Changes (N,), NaN where unknown.

    Attributes:
        brightness: of the mean reflectance of the visible bands.
        ndvi: of the normalised difference of near infrared and red (Rouse et al. 1974).
        names: `brighter`, `darker`, `greener` or `less green`, by the larger of the two, None where neither is known.
    """

    brightness: Floats
    ndvi: Floats
    names: list[str | None]


def directions(before: dict[str, Floats], after: dict[str, Floats], count: int) -> Directions:
    """Return which way places changed, from their mean reflectance (`count`,) in each band at both dates.

    Brightness b and NDVI are compared on one scale, from -1 to 1: (b₂-b₁)/(b₂+b₁) and NDVI₂-NDVI₁.
    """
    unknown = np.full(count, np.nan)
    first, second = (_brightness(date, unknown) for date in (before, after))
    ndvi = _ndvi(after, unknown) - _ndvi(before, unknown)
    with np.errstate(divide="ignore", invalid="ignore"):
        contrast = (second - first) / (second + first)
    return Directions(second - first, ndvi, _names(contrast, ndvi))


def _brightness(date: dict[str, Floats], unknown: Floats) -> Floats:
    visible = [date[name] for name in VISIBLE if name in date]
    return np.mean(visible, axis=0) if visible else unknown


def _ndvi(date: dict[str, Floats], unknown: Floats) -> Floats:
    if RED not in date or INFRARED not in date:
        return unknown
    with np.errstate(divide="ignore", invalid="ignore"):
        index: Floats = (date[INFRARED] - date[RED]) / (date[INFRARED] + date[RED])
    return index


def _names(contrast: Floats, ndvi: Floats) -> list[str | None]:
    by_ndvi = np.nan_to_num(np.abs(ndvi)) > np.nan_to_num(np.abs(contrast))
    grows = np.where(by_ndvi, ndvi, contrast) > 0
    known = np.where(by_ndvi, ndvi, contrast) != 0
    known &= np.isfinite(np.where(by_ndvi, ndvi, contrast))
    names = np.select([~known, by_ndvi & grows, by_ndvi, grows], ["", "greener", "less green", "brighter"], "darker")
    return [name or None for name in names.tolist()]
