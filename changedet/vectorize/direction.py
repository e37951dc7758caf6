"""Which way a change went: from the mean reflectance of each polygon at both dates, on the scenes' own pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.vectorize.polygons import Geometries, moved
from changedet.vectorize.source import opened
from changedet.vectorize.zonal import means

VISIBLE = ("B02", "B03", "B04")
RED, INFRARED = "B04", "B08"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ImageBand:
    """One band of one date: where its pixels are and what they mean.

    Attributes:
        name: Sentinel-2 name.
        path: file, URL or GDAL path.
        index: 1-based band in that file.
        scale: stored value times this, plus `offset`, is reflectance.
        offset: see `scale`.
        nodata: value of invalid pixels, None for none.
    """

    name: str
    path: str
    index: int
    scale: float
    offset: float
    nodata: float | None


@dataclass(frozen=True)
class Imagery:
    """The scenes that a mask was made from, as far as directions need them.

    Attributes:
        before: bands of the earlier date.
        after: the same of the later date.
        displacement: gives for rows and columns of the mask (px) how far (row, col; px) the later date is displaced.
    """

    before: tuple[ImageBand, ...]
    after: tuple[ImageBand, ...]
    displacement: Callable[[Floats, Floats], tuple[Floats, Floats]]


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


def directions(pixels: Geometries, grid: GeoBox, crs: pyproj.CRS, imagery: Imagery | None) -> Directions:
    """Return which way the pixels of polygons (N,), in pixel coordinates of `grid`, changed.

    Brightness b and NDVI are compared on one scale, from -1 to 1: (b₂-b₁)/(b₂+b₁) and NDVI₂-NDVI₁.
    """
    unknown = np.full(len(pixels), np.nan)
    if imagery is None or len(pixels) == 0:
        return Directions(unknown, unknown, [None] * len(pixels))
    displaced = shapely.transform(pixels, lambda points: points + _displacement(points, imagery))
    before = _reflectance(pixels, grid, crs, imagery.before)
    after = _reflectance(displaced, grid, crs, imagery.after)
    first, second = (_brightness(date, unknown) for date in (before, after))
    ndvi = _ndvi(after, unknown) - _ndvi(before, unknown)
    with np.errstate(divide="ignore", invalid="ignore"):
        contrast = (second - first) / (second + first)
    return Directions(second - first, ndvi, _names(contrast, ndvi))


def _displacement(points: Floats, imagery: Imagery) -> Floats:
    row, col = imagery.displacement(points[:, 1], points[:, 0])
    return np.column_stack([col, row])


def _reflectance(pixels: Geometries, grid: GeoBox, crs: pyproj.CRS, bands: tuple[ImageBand, ...]) -> dict[str, Floats]:
    found = {}
    for path in dict.fromkeys(band.path for band in bands):
        # Open once for all bands of a file: where they are interleaved, one block holds them all, and is kept.
        with opened(path) as dataset:
            own = _pixels_of(dataset, pixels, grid, crs)
            for band in bands:
                if band.path == path:
                    found[band.name] = means(own, dataset, band.index, nodata=band.nodata) * band.scale + band.offset
    return found


def _pixels_of(dataset: object, pixels: Geometries, grid: GeoBox, crs: pyproj.CRS) -> Geometries:
    """Return polygons in the pixel coordinates of an open dataset."""
    other = GeoBox.from_rio(dataset)
    to_other = pyproj.Transformer.from_crs(crs, other.crs.proj, always_xy=True) if other.crs else None

    def place(points: Floats) -> Floats:
        x_y = moved(points, grid.affine)
        if to_other is not None and other.crs != grid.crs:
            x_y = np.column_stack(to_other.transform(*x_y.T))
        return moved(x_y, ~other.affine)

    return np.asarray(shapely.transform(pixels, place), dtype=object)


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
