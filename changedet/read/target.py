"""The grid a pair is compared on: the before grid over the overlap, unless the user asks for another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely import box, get_parts, make_valid, union_all
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from changedet.errors import ConfigError, NotFoundError, PairError, SceneError
from changedet.grid import Window
from changedet.grid.lattice import is_geographic
from changedet.read.align import overlap

Bounds = tuple[float, float, float, float]

# How many times smaller than those of the before scene the pixels of --res may be.
_MOST_FINER = 100
# Pieces that an edge as long as all of an area is brought to another CRS in.
_PIECES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """Polygons to compare within, in their own CRS (`crs`, as pyproj takes it)."""

    polygons: BaseGeometry
    crs: Any
    path: str

    def on(self, geobox: GeoBox) -> Any:
        """Return the polygons in the CRS of a grid, as a GeoSeries of one."""
        return _on(self, geobox)

    def covers(self, geobox: GeoBox, window: Window) -> NDArray[np.bool_]:
        """Return which pixels of a window have their middle inside, bool (height, width)."""
        transform = geobox.translate_pix(window.col, window.row).affine
        shape = window.height, window.width
        inside: NDArray[np.bool_] = rasterize(self.on(geobox), out_shape=shape, transform=transform) == 1
        return inside


@lru_cache(maxsize=4)  # asked for every chip
def _on(area: Area, geobox: GeoBox) -> Any:
    import geopandas as gpd  # half a second that runs without an area need not spend

    own = gpd.GeoSeries([area.polygons], crs=area.crs)
    left, bottom, right, top = own.total_bounds
    # What is straight in its own CRS bends in another: over 100 km by 100 m, in pieces of a thousandth by nothing.
    there = own.segmentize(max(right - left, top - bottom) / _PIECES).to_crs(geobox.crs.proj if geobox.crs else None)
    return there.map(lambda polygons: _turned(polygons, geobox)) if is_geographic(geobox) else there


def _turned(polygons: BaseGeometry, geobox: GeoBox) -> BaseGeometry:
    """Return polygons of longitudes and latitudes turned by whole circles to where they lie on a grid, cut to it.

    A grid may count beyond 180° where polygons go on from -180°. What lies elsewhere stays as it is.
    """
    frame, whole = box(*geobox.boundingbox.bbox), make_valid(polygons)
    parts = get_parts([frame.intersection(translate(whole, xoff=turn)) for turn in (-360.0, 0.0, 360.0)])
    inside = [part for part in parts if part.area > 0]  # not an edge that both have
    return union_all(inside) if inside else polygons


@dataclass(frozen=True, slots=True)
class GridOptions:
    """What a user may say about the grid.

    Attributes:
        like: a grid to take whole, wherever the scenes lie in it; excludes `res`.
        res: height and width of a pixel in the units of the before scene's CRS.
        bounds: left, bottom, right, top in the CRS of the grid.
        area: polygons outside which nothing is compared.
    """

    like: GeoBox | None = None
    res: tuple[float, float] | None = None
    bounds: Bounds | None = None
    area: Area | None = None


def target_grid(before: GeoBox, after: GeoBox, options: GridOptions) -> GeoBox:
    """Return the grid to compare on.

    Raises:
        PairError: the scenes do not overlap, or not where they were to be compared.
    """
    return series_grid([before, after], options)


def series_grid(dates: Sequence[GeoBox], options: GridOptions) -> GeoBox:
    """Return the grid to compare several dates on: the first one's over what all cover, unless asked otherwise.

    Raises:
        PairError: the scenes do not overlap, or not where they were to be compared.
    """
    grid = reduce(overlap, dates)
    if options.res is not None:
        grid = with_resolution(grid, *options.res)
    if options.like is not None:
        overlap(options.like, grid)  # refuses a template that lies elsewhere
        grid = options.like
    return crop_to(grid, options)


def crop_to(grid: GeoBox, options: GridOptions) -> GeoBox:
    """Return the part of a grid that the user's bounds and area leave.

    Raises:
        PairError: they lie outside.
    """
    if options.bounds is not None:
        grid = crop(grid, options.bounds)
    if options.area is not None:
        grid = _crop_to_area(grid, options.area)
    return grid


def with_resolution(geobox: GeoBox, height: float, width: float) -> GeoBox:
    """Return pixels of another size from the same first corner on, so many that the last reach the other edges.

    Raises:
        ConfigError: they are so much smaller that it must be a slip, and planning them would take forever.
    """
    affine = geobox.affine
    own_width, own_height = math.hypot(affine.a, affine.d), math.hypot(affine.b, affine.e)
    if min(height / own_height, width / own_width) < 1 / _MOST_FINER:
        raise ConfigError(
            f"--res {min(height, width):g}, where the pixels of the before scene are {own_height:g} x {own_width:g}",
            expected=f"pixels at most {_MOST_FINER} times smaller, in the units of the before scene's CRS",
        )
    rows, cols = geobox.shape
    # Less a little, or rounding would add a row that lies outside by a billionth of a pixel.
    new_rows, new_cols = math.ceil(rows * own_height / height - 1e-6), math.ceil(cols * own_width / width - 1e-6)
    wider, higher = width / own_width, height / own_height
    scaled = Affine(affine.a * wider, affine.b * higher, affine.c, affine.d * wider, affine.e * higher, affine.f)
    return GeoBox((max(1, new_rows), max(1, new_cols)), scaled, geobox.crs)


def crop(geobox: GeoBox, bounds: Bounds) -> GeoBox:
    """Return the whole pixels of `geobox` that `bounds` (left, bottom, right, top in its CRS) touch.

    Raises:
        PairError: the bounds lie outside.
        ConfigError: they hold nothing.
    """
    left, bottom, right, top = bounds
    if not (-math.inf < left < right < math.inf and -math.inf < bottom < top < math.inf):
        raise ConfigError(f"bounds {bounds}", expected="left < right and bottom < top, finite, in the CRS of the grid")
    area = GeoBox.from_bbox((left, bottom, right, top), geobox.crs, shape=(1, 1), tight=True)
    try:
        return overlap(geobox, area)
    except PairError as error:
        raise PairError(f"bounds {bounds} lie outside the pair, {geobox.boundingbox.bbox}") from error


def _crop_to_area(geobox: GeoBox, area: Area) -> GeoBox:
    try:
        return crop(geobox, tuple(map(float, area.on(geobox).total_bounds)))  # type: ignore[arg-type]  # four of them
    except PairError as error:
        raise PairError(f"the area {area.path} lies outside the pair") from error


def open_area(path: str) -> Area:
    """Read the polygons of the first layer of a vector file.

    Raises:
        NotFoundError: there is no such file.
        SceneError: it is no vector file, has no CRS or no polygon.
    """
    import geopandas as gpd
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    if not Path(path).exists():
        raise NotFoundError(f"no area file {path}")
    try:
        layer = str(pyogrio.list_layers(path)[0][0])
        table = gpd.read_file(path, layer=layer, columns=[])
    except (DataSourceError, DataLayerError, IndexError) as error:
        raise SceneError(f"{path} cannot be read as polygons ({error})", expected="a vector file") from error
    polygons = table.geometry[table.geometry.geom_type.isin(["Polygon", "MultiPolygon"])]
    if table.crs is None or polygons.empty:
        raise SceneError(
            f"{path} has {len(polygons)} polygons" + ("" if table.crs else " and no CRS"),
            expected="at least one polygon, with a CRS",
        )
    return Area(polygons.make_valid().union_all(), table.crs, path)
