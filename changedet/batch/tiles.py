"""Tile grids: windows of a mosaic by size, or by outlines of any shape: XYZ and MGRS tiles, or polygons of a layer.

All are columns, never an object a tile: a million tiles are planned in seconds.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from changedet.batch.mgrs import squares
from changedet.batch.names import distinct, slug
from changedet.errors import ConfigError, NotFoundError, SceneError
from changedet.grid import Lattice, Window
from changedet.grid.lattice import SAME_GRID_TOLERANCE, transformed
from changedet.read.align import ground_resolution

Floats = NDArray[np.float64]
Windows = NDArray[np.int32]
Names = NDArray[np.str_]

# Points along an edge of an outline, by which it is brought to another CRS, where straight lines bend.
_STEPS: Final = 4
# Outlines that are in memory at one time.
_AT_ONCE: Final = 65_536
# Ten times what a batch is planned for: more is a mistake, and would fill the memory before anybody is told.
_MOST: Final = 10_000_000
_MGRS_STEP_M: Final = 25_000.0
_UNITS: Final = {"": 0.0, "px": 0.0, "m": 1.0, "km": 1000.0}


class TileGrid(Protocol):
    """Something that cuts a mosaic into tiles."""

    def cut(self, geobox: GeoBox, mosaic: Window) -> tuple[Names, Windows]:
        """Return the tiles of a mosaic: their names, and row, column, height and width on `geobox` (tiles, 4).

        Args:
            geobox: grid of the batch.
            mosaic: the window of the mosaic on it; no tile reaches outside.
        """
        ...


@dataclass(frozen=True, slots=True)
class BySize:
    """Squares of about `size` px, whose edges are edges of cores, so that no chip is computed for two tiles.

    Attributes:
        size: px.
        lattice: of the chips.
    """

    size: int
    lattice: Lattice

    def cut(self, geobox: GeoBox, mosaic: Window) -> tuple[Names, Windows]:
        """See `TileGrid`; names say row and column of the tile, `r0c12`."""
        del geobox
        rows, cols = self._edges(mosaic.height), self._edges(mosaic.width)
        row, col = _crossed(np.arange(len(rows) - 1), np.arange(len(cols) - 1))
        windows = [mosaic.row + rows[row], mosaic.col + cols[col], np.diff(rows)[row], np.diff(cols)[col]]
        return _joined("r", row, "c", col), np.stack(windows, axis=1).astype(np.int32)

    def _edges(self, length: int) -> NDArray[np.int64]:
        *cores, end = self.lattice.edges(length)
        step = max(1, round(self.size * len(cores) / length))
        return np.array([*cores[::step], end])


class ByOutline(ABC):
    """Outlines on the ground; a tile is the smallest window that holds one, as far as the mosaic reaches."""

    @abstractmethod
    def outlines(self, geobox: GeoBox, mosaic: Window) -> Iterator[tuple[Names, Any]]:
        """Yield names and polygons, in pixels of `geobox` (x right, y down), of those that may meet a mosaic."""

    def cut(self, geobox: GeoBox, mosaic: Window) -> tuple[Names, Windows]:
        """See `TileGrid`."""
        found = [_windows(names, shapes, mosaic) for names, shapes in self.outlines(geobox, mosaic)]
        names = [names for names, _ in found] or [np.array([], np.str_)]
        windows = [windows for _, windows in found] or [np.empty((0, 4), np.int32)]
        return np.concatenate(names), np.concatenate(windows)


def _windows(names: Names, shapes: Any, mosaic: Window) -> tuple[Names, Windows]:
    """Return the windows of polygons (px) in a mosaic, without those that do not meet it."""
    area = shapely.box(mosaic.col, mosaic.row, mosaic.stop_col, mosaic.stop_row)
    shapely.prepare(area)
    meets = shapely.intersects(area, shapes)
    left, top, right, bottom = shapely.bounds(shapes[meets]).T
    # A corner that rounding put across the edge of a pixel is on the edge.
    first_row, first_col = np.floor(top + SAME_GRID_TOLERANCE), np.floor(left + SAME_GRID_TOLERANCE)
    stop_row, stop_col = np.ceil(bottom - SAME_GRID_TOLERANCE), np.ceil(right - SAME_GRID_TOLERANCE)
    row, col = np.maximum(first_row, mosaic.row), np.maximum(first_col, mosaic.col)
    height, width = np.minimum(stop_row, mosaic.stop_row) - row, np.minimum(stop_col, mosaic.stop_col) - col
    kept = (height > 0) & (width > 0)
    return names[meets][kept], np.stack([row, col, height, width], axis=1)[kept].astype(np.int32)


@dataclass(frozen=True)
class Xyz(ByOutline):
    """Tiles of a web map, or of any tile matrix set that `morecantile` knows.

    Attributes:
        zoom: level.
        scheme: name of the tile matrix set.
    """

    zoom: int
    scheme: str = "WebMercatorQuad"

    def outlines(self, geobox: GeoBox, mosaic: Window) -> Iterator[tuple[Names, Any]]:
        """See `ByOutline`; names are zoom-x-y."""
        crs, left, top, width, height, across, down = self._matrix()
        x, y = _points_of(geobox, mosaic, crs)
        first = max(0, math.floor((x.min() - left) / width)), max(0, math.floor((top - y.max()) / height))
        last = (
            min(across - 1, math.floor((x.max() - left) / width)),
            min(down - 1, math.floor((top - y.min()) / height)),
        )
        cols, rows = (np.arange(start, stop + 1) for start, stop in zip(first, last, strict=True))
        if rows.size * cols.size > _MOST:
            raise ConfigError(
                f"{rows.size * cols.size:,} tiles at zoom {self.zoom}", expected=f"{_MOST:,} at most; a lower zoom"
            )
        bring = to_pixels(crs, geobox)
        for part in np.array_split(rows, max(1, math.ceil(rows.size * cols.size / _AT_ONCE))):
            row, col = _crossed(part, cols)
            if row.size:
                boxes = _boxes(left + col * width, top - (row + 1) * height, width, height)
                yield from _finite(_joined(f"{self.zoom}-", col, "-", row), bring(boxes))

    def _matrix(self) -> tuple[Any, float, float, float, float, int, int]:
        """Return CRS, left and top of the first tile, a tile's width and height, and how many there are each way."""
        import morecantile  # not every batch needs it

        if self.scheme not in morecantile.tms.list():
            raise ConfigError(
                f"no tile matrix set {self.scheme}", expected=f"one of {', '.join(morecantile.tms.list())}"
            )
        scheme = morecantile.tms.get(self.scheme)
        if not scheme.minzoom <= self.zoom <= scheme.maxzoom:
            raise ConfigError(f"zoom {self.zoom}", expected=f"{scheme.minzoom} to {scheme.maxzoom} in {self.scheme}")
        matrix = scheme.matrix(self.zoom)
        if matrix.variableMatrixWidths:
            raise ConfigError(f"{self.scheme}, whose tiles differ in width", expected="one whose tiles do not")
        box = scheme.xy_bounds(morecantile.Tile(0, 0, self.zoom))
        size = box.right - box.left, box.top - box.bottom
        return scheme.crs.to_wkt(), box.left, box.top, *size, matrix.matrixWidth, matrix.matrixHeight


@dataclass(frozen=True)
class Mgrs(ByOutline):
    """The 100 km squares of the Military Grid Reference System, cut at the edges of their zones."""

    def outlines(self, geobox: GeoBox, mosaic: Window) -> Iterator[tuple[Names, Any]]:
        """See `ByOutline`; names are those of Sentinel-2's tiles, `32TQM`."""
        lon, lat = _points_of(geobox, mosaic, "EPSG:4326")
        for zone in squares(lon.min(), lat.min(), lon.max(), lat.max()):
            shapes = to_pixels(zone.epsg, geobox)(shapely.segmentize(zone.shapes, _MGRS_STEP_M))
            yield from _finite(zone.names, shapes)


@dataclass(frozen=True)
class Layer(ByOutline):
    """Polygons of a vector file.

    Attributes:
        path: of the file, whose first layer counts.
        column: whose values are the names; None takes `id` or `name`, else the number of the row.
    """

    path: str
    column: str | None = None

    def outlines(self, geobox: GeoBox, mosaic: Window) -> Iterator[tuple[Names, Any]]:
        """See `ByOutline`."""
        del mosaic
        crs, names, shapes = self._polygons
        bring = to_pixels(crs, geobox)
        for start in range(0, len(names), _AT_ONCE):
            part = shapes[start : start + _AT_ONCE]
            left, bottom, right, top = shapely.bounds(part).T
            steps = np.maximum(right - left, top - bottom) / _STEPS
            yield from _finite(names[start : start + _AT_ONCE], bring(shapely.segmentize(part, steps)))

    @cached_property
    def _polygons(self) -> tuple[Any, Names, Any]:
        """CRS, names and polygons of the file."""
        table = _read_polygons(self.path)
        column = self.column or next((name for name in ("id", "name") if name in table.columns), None)
        if column is not None and column not in table.columns:
            raise ConfigError(f"{self.path} has no column {column}", expected=f"one of {', '.join(table.columns)}")
        names = [slug(str(name)) for name in (table.index if column is None else table[column])]
        return table.crs, np.array(distinct(names)), table.geometry.to_numpy()


def _read_polygons(path: str) -> Any:
    import geopandas as gpd
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    if not Path(path).exists():
        raise NotFoundError(f"no file of tiles {path}")
    try:
        table = gpd.read_file(path, layer=str(pyogrio.list_layers(path)[0][0]))
    except (DataSourceError, DataLayerError, IndexError) as error:
        raise SceneError(f"{path} cannot be read as polygons ({error})", expected="a vector file") from error
    table = table[table.geometry.geom_type.isin(["Polygon", "MultiPolygon"])].reset_index(drop=True)
    if table.crs is None or table.empty:
        raise SceneError(
            f"{path} has {len(table)} polygons" + ("" if table.crs else " and no CRS"), expected="polygons, with a CRS"
        )
    return table


def parse_size(text: str, geobox: GeoBox) -> int:
    """Return the px of `2048`, `2048px`, `5000m` or `5km`.

    Raises:
        ConfigError: it is none of these, or less than a pixel.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(px|m|km|)\s*", text.lower())
    if match is None:
        raise ConfigError(f"--tile-size {text}", expected="a number of pixels, or metres such as 5000m or 5km")
    metres = float(match[1]) * _UNITS[match[2]]
    size = round(metres / math.sqrt(math.prod(ground_resolution(geobox))) if metres else float(match[1]))
    if size < 1:
        raise ConfigError(f"--tile-size {text}", expected="at least a pixel")
    return size


def _crossed(rows: NDArray[Any], cols: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the row and the column of every place in a grid, row by row."""
    return np.repeat(rows, len(cols)), np.tile(cols, len(rows))


def _joined(*parts: str | NDArray[np.int64]) -> Names:
    """Return texts that have `parts` one after the other."""
    texts = [part if isinstance(part, str) else part.astype(np.str_) for part in parts]
    joined: Any = texts[0]
    for text in texts[1:]:
        joined = np.strings.add(joined, text)
    return np.asarray(joined)


def _boxes(left: Floats, bottom: Floats, width: float, height: float) -> Any:
    """Return boxes of one size as polygons with `_STEPS` points along each edge."""
    along = np.arange(_STEPS) / _STEPS
    zero, one = np.zeros(_STEPS), np.ones(_STEPS)
    x = np.concatenate([along, one, 1 - along, zero, [0.0]]) * width
    y = np.concatenate([zero, along, one, 1 - along, [0.0]]) * height
    return shapely.polygons(np.stack([left[:, None] + x, bottom[:, None] + y], axis=-1))


def to_pixels(crs: Any, geobox: GeoBox) -> Any:
    """Return what brings shapes in a CRS to pixels of a grid."""
    to_crs = Transformer.from_crs(crs, geobox.crs, always_xy=True)

    def to_pixel(points: Floats) -> Floats:
        x, y = to_crs.transform(*points.T)
        return np.stack(transformed(~geobox.affine, np.asarray(x), np.asarray(y)), axis=1)

    return partial(shapely.transform, transformation=to_pixel)


def _finite(names: Names, shapes: Any) -> Iterator[tuple[Names, Any]]:
    """Yield the shapes that have a place on the grid."""
    placed = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    yield names[placed], shapes[placed]


def _points_of(geobox: GeoBox, mosaic: Window, crs: Any) -> tuple[Floats, Floats]:
    """Return x and y in a CRS of points all over a mosaic, its edges included."""
    part = geobox[mosaic.slices]
    rows, cols = _crossed(*(np.linspace(0, length, 33) for length in part.shape))
    x, y = Transformer.from_crs(part.crs, crs, always_xy=True).transform(*transformed(part.affine, cols, rows))
    finite = np.isfinite(x) & np.isfinite(y)
    return np.asarray(x)[finite], np.asarray(y)[finite]
