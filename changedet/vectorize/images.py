"""Mean reflectance under the polygons of a mask, from the scenes' own pixels.

A band whose pixels are those of the mask is read with it, strip by strip, and summed region by region. Polygons are
looked up on the pixels of any other band by exactextract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags

from changedet.config import LARGEST_VALUE
from changedet.grid import Window
from changedet.grid.lattice import is_geographic, near, pixel_offset
from changedet.vectorize.polygons import Geometries, moved
from changedet.vectorize.regions import Regions
from changedet.vectorize.source import opened, rasterio_window
from changedet.vectorize.zonal import means

Floats = NDArray[np.float64]
Place = Callable[[Floats, Floats], tuple[Floats, Floats]]

_BY_VALUE = {MaskFlags.all_valid, MaskFlags.nodata}


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
        geobox: where its pixels lie, if known better than its file says, as by ground control points; None for that.
    """

    name: str
    path: str
    index: int
    scale: float
    offset: float
    nodata: float | None
    geobox: GeoBox | None = None


@dataclass(frozen=True)
class Imagery:
    """The scenes that a mask was made from, as far as directions need them.

    Attributes:
        before: bands of the earlier date.
        after: the same of the later date.
        displacements: of each date, gives for rows and columns of the mask (px) how far (row, col; px) the date is
            displaced; None where it is not.
    """

    before: tuple[ImageBand, ...]
    after: tuple[ImageBand, ...]
    displacements: tuple[Place | None, Place | None] = (None, None)


@dataclass(frozen=True, eq=False)
class _File:
    """Bands of one date in one open file.

    Attributes:
        date: 0 before, 1 after.
        bands: at least one.
        dataset: open.
        geobox: where its pixels lie.
        offset: row and column of the file's pixel that is the mask's first; None where they share no pixels.
    """

    date: int
    bands: tuple[ImageBand, ...]
    dataset: Any
    geobox: GeoBox
    offset: tuple[int, int] | None


class Images:
    """The bands of an `Imagery`, open.

    Args:
        imagery: the scenes; None for none.
        grid: of the mask.
        stack: closes the files.

    Raises:
        NotFoundError, SceneError: a file is missing or cannot be read.
    """

    def __init__(self, imagery: Imagery | None, grid: GeoBox, stack: ExitStack) -> None:
        self._grid = grid
        self._displacements = imagery.displacements if imagery else (None, None)
        files = (
            [] if imagery is None else [*self._opened(0, imagery.before, stack), *self._opened(1, imagery.after, stack)]
        )
        self._on_grid = [file for file in files if file.offset is not None]
        self._elsewhere = [file for file in files if file.offset is None]

    def _opened(self, date: int, bands: tuple[ImageBand, ...], stack: ExitStack) -> Iterator[_File]:
        for path, group in groupby(bands, key=lambda band: band.path):
            own = tuple(group)
            dataset = stack.enter_context(opened(path))
            geobox = own[0].geobox or GeoBox.from_rio(dataset)
            is_displaced = self._displacements[date] is not None
            offset = None if is_displaced else pixel_offset(geobox, self._grid)
            yield _File(date, own, dataset, geobox, offset)

    @property
    def count(self) -> int:
        """Bands of both dates whose pixels are the mask's."""
        return sum(len(file.bands) for file in self._on_grid)

    def values(self, strip: Window, at: NDArray[np.intp]) -> Iterator[Floats]:
        """Yield the stored values (P,) of each of these bands, NaN where invalid.

        Args:
            strip: a window of the mask.
            at: (P,) pixels of it, counted row by row.
        """
        for file in self._on_grid:
            stored = _stored(file, strip)
            for number, band in enumerate(file.bands):
                found = np.ma.getdata(stored[number]).ravel()[at].astype(np.float64)
                for nodata in {band.nodata, file.dataset.nodatavals[band.index - 1]} - {None}:
                    found[found == nodata] = np.nan
                found[np.abs(found) >= LARGEST_VALUE] = np.nan
                if np.ma.isMaskedArray(stored):
                    found[np.ma.getmaskarray(stored)[number].ravel()[at]] = np.nan
                yield found

    def reflectance(self, regions: Regions, crs: pyproj.CRS) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Return the mean reflectance (N,) under each region by the band's name, before and after; NaN where unknown.

        Args:
            regions: of the mask, with the sums of what `values` gave.
            crs: of the mask.
        """
        found: tuple[dict[str, Floats], dict[str, Floats]] = {}, {}
        with np.errstate(invalid="ignore"):
            on_grid = regions.sums / regions.known
        columns = iter(on_grid.T)
        for file in self._on_grid:
            found[file.date].update((band.name, _physical(band, next(columns))) for band in file.bands)
        for file in self._elsewhere:
            pixels = _pixels_of(file.geobox, self._displaced(regions.pixels, file.date), self._grid, crs)
            under = means(pixels, file.dataset, [band.index for band in file.bands], [b.nodata for b in file.bands])
            found[file.date].update(
                (band.name, _physical(band, mean)) for band, mean in zip(file.bands, under.T, strict=True)
            )
        return found

    def _displaced(self, pixels: Geometries, date: int) -> Geometries:
        at = self._displacements[date]
        if at is None:
            return pixels

        def place(points: Floats) -> Floats:
            row, col = at(points[:, 1], points[:, 0])
            return points + np.column_stack([col, row])

        return np.asarray(shapely.transform(pixels, place), dtype=object)


def _stored(file: _File, window: Window) -> Any:
    """Return the stored values (B, H, W) of a window of the mask.

    Masked where the file has no pixels, or hides them otherwise than by a value.
    """
    row, col = file.offset or (0, 0)
    own = window.shifted(row, col)
    inside = own.intersect(Window(0, 0, file.dataset.height, file.dataset.width))
    indexes = [band.index for band in file.bands]
    # By a value is quicker to see in the few pixels that count.
    hides = any(set(flags) - _BY_VALUE for flags in file.dataset.mask_flag_enums)
    if inside == own:
        return file.dataset.read(indexes, window=rasterio_window(own), masked=hides)
    nothing = np.zeros((len(indexes), own.height, own.width), dtype=file.dataset.dtypes[0])
    stored = np.ma.MaskedArray(nothing, mask=True)
    if inside is not None:
        rows, cols = inside.relative_to(own).slices
        stored[:, rows, cols] = file.dataset.read(indexes, window=rasterio_window(inside), masked=hides)
    return stored


def _physical(band: ImageBand, stored: Floats) -> Floats:
    return stored * band.scale + band.offset


def _pixels_of(other: GeoBox, pixels: Geometries, grid: GeoBox, crs: pyproj.CRS) -> Geometries:
    """Return polygons on the pixels of `grid`, whose CRS is `crs`, in the pixel coordinates of another grid."""
    to_other = pyproj.Transformer.from_crs(crs, other.crs.proj, always_xy=True) if other.crs else None

    def place(points: Floats) -> Floats:
        x_y = moved(points, grid.affine)
        if to_other is not None and other.crs != grid.crs:
            x_y = np.column_stack(to_other.transform(*x_y.T))
        if is_geographic(other):
            x_y[:, 0] = near(x_y[:, 0], other)
        return moved(x_y, ~other.affine)

    return np.asarray(shapely.transform(pixels, place), dtype=object)
