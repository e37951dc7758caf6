"""Which grid a pair is compared on, and how each file gets onto it: as it is, or warped on read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from changedet.errors import ConfigError, PairError
from changedet.grid import Window
from changedet.grid.lattice import SAME_GRID_TOLERANCE, is_geographic, near, pixel_offset, transformed
from changedet.read.displacement import NONE, Displacement

# Points along each axis by which a scene's footprint is brought to another CRS: enough for edges that bend.
_STEPS = 22

Floats = NDArray[np.float64]
Placing = Literal["direct", "warped", "displaced"]


@dataclass(frozen=True, slots=True)
class Placement:
    """How the pixels of one file come to lie on the target grid.

    Attributes:
        how: `direct` reads whole source pixels at an offset; `warped` resamples once, by GDAL; `displaced` resamples
            once too, by `changedet.read.resample`: along a field of displacements, or by control points that bend.
        row: target row 0 is this row of the source (direct only).
        col: target column 0 is this column of the source (direct only).
        geobox: the grid to resample to: the target, moved by the residual shift where that is one.
        x_scale: target pixels per source pixel along x, at most 1: the width of the resampling kernel.
        y_scale: likewise along y.
    """

    how: Placing
    row: int
    col: int
    geobox: GeoBox
    x_scale: float
    y_scale: float


def overlap(before: GeoBox, after: GeoBox) -> GeoBox:
    """Return the before grid, cropped to the pixels that the after scene's extent touches.

    Raises:
        PairError: the scenes do not overlap.
    """
    window = footprint_window(before, after)
    height, width = before.shape
    inside = window and window.intersect(Window(0, 0, height, width))
    if inside is None:
        raise _apart(before, after)
    return before[inside.slices]


def footprint_window(grid: GeoBox, part: GeoBox) -> Window | None:
    """Return the whole pixels of a grid, continued in all directions, that another grid's extent touches.

    None where it has no place there, such as a pole in Mercator's projection.
    """
    rows, cols = _footprint(part, grid)
    if not rows.size:
        return None
    row, col = (math.floor(axis.min() + SAME_GRID_TOLERANCE) for axis in (rows, cols))
    stop_row, stop_col = (math.ceil(axis.max() - SAME_GRID_TOLERANCE) for axis in (rows, cols))
    return Window(row, col, stop_row - row, stop_col - col) if stop_row > row and stop_col > col else None


def place(source: GeoBox, target: GeoBox, *, displacement: Displacement = NONE, straight: bool = True) -> Placement:
    """Decide how a file on `source` gets onto `target`.

    Args:
        source: grid of the file.
        target: grid of the pair.
        displacement: of the file against the before date.
        straight: False where `source` is only about where the file lies, see `Band.by_gcps`.
    """
    offset = pixel_offset(source, target) if displacement.is_none and straight else None
    if offset is not None:
        return Placement("direct", *offset, target, 1.0, 1.0)
    # GDAL's warp through rasterio follows no field and no control points, and without a CRS knows no target.
    if not (displacement.is_constant and straight and source.crs):
        return Placement("displaced", 0, 0, target, *_kernel_scale(source, target))
    row, col = displacement.mean
    moved = target.translate_pix(col, row)
    return Placement("warped", 0, 0, moved, *_kernel_scale(source, moved))


def _kernel_scale(source: GeoBox, target: GeoBox) -> tuple[float, float]:
    """Return target pixels per source pixel along the source's x and y, at the middle of the target.

    One constant for the whole pair: left to itself GDAL derives it from each window and windows then differ from the
    whole. Above 0.95 it is 1: plain interpolation, as GDAL itself does.
    """
    height, width = target.shape
    cols = width / 2 + np.array([0.0, 1.0, 0.0])
    rows = height / 2 + np.array([0.0, 0.0, 1.0])
    x, y = transformed(target.affine, cols, rows)
    if source.crs != target.crs:
        x, y = Transformer.from_crs(target.crs, source.crs, always_xy=True).transform(x, y)
    source_cols, source_rows = transformed(~source.affine, np.asarray(x), np.asarray(y))
    # The length of both steps together: a turned grid of the same resolution has scale 1 and is not blurred.
    per_pixel = (np.hypot(*(axis[1:] - axis[0])) for axis in (source_cols, source_rows))
    x_scale, y_scale = (1.0 / max(float(extent), 1e-9) for extent in per_pixel)
    return (1.0 if x_scale > 0.95 else x_scale), (1.0 if y_scale > 0.95 else y_scale)


def ground_resolution(geobox: GeoBox) -> tuple[float, float]:
    """Return the height and width of the middle pixel on the ground, in metres, in any CRS."""
    height, width = geobox.shape
    cols = width / 2 + np.array([0.0, 1.0, 0.0])
    rows = height / 2 + np.array([0.0, 0.0, 1.0])
    lon, lat = to_lonlat(geobox, rows, cols)
    _, _, metres = Geod(ellps="WGS84").inv(lon[[0, 0]], lat[[0, 0]], lon[[1, 2]], lat[[1, 2]])
    return float(metres[1]), float(metres[0])


def to_lonlat(geobox: GeoBox, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
    """Return WGS 84 longitude and latitude (degrees) of points given in pixels of `geobox`."""
    x, y = transformed(geobox.affine, np.asarray(cols, dtype=float), np.asarray(rows, dtype=float))
    lon, lat = Transformer.from_crs(geobox.crs, "EPSG:4326", always_xy=True).transform(x, y)
    return np.asarray(lon), np.asarray(lat)


def window_of(geobox: GeoBox, part: GeoBox) -> Window:
    """Return where `part`, a crop of `geobox`, lies in it."""
    offset = pixel_offset(geobox, part)
    if offset is None:
        raise ConfigError("a grid that is not a crop of the other")
    height, width = part.shape
    return Window(*offset, height, width)


def _footprint(geobox: GeoBox, grid: GeoBox) -> tuple[Floats, Floats]:
    """Return rows and columns on `grid` of points all over `geobox`, edges included; none where they have none.

    Points and not a polygon: one that crosses the antimeridian or holds a pole has no simple edge.
    """
    height, width = geobox.shape
    rows, cols = np.meshgrid(np.linspace(0, height, _STEPS), np.linspace(0, width, _STEPS), indexing="ij")
    x, y = transformed(geobox.affine, cols.ravel(), rows.ravel())
    if geobox.crs != grid.crs:
        x, y = Transformer.from_crs(geobox.crs, grid.crs, always_xy=True).transform(x, y)
    x, y = np.asarray(x), np.asarray(y)
    finite = np.isfinite(x) & np.isfinite(y)
    if is_geographic(grid):
        x = near(x, grid)
    grid_cols, grid_rows = transformed(~grid.affine, x[finite], y[finite])
    return grid_rows, grid_cols


def turned_to(geobox: GeoBox, other: GeoBox) -> GeoBox:
    """Return a geographic grid turned by whole circles to lie near `other`: 181° E is 179° W."""
    if not is_geographic(geobox) or geobox.crs != other.crs:
        return geobox
    height, width = geobox.shape
    a, b, c, d, e, f = geobox.affine[:6]
    middle = np.array([a * width / 2 + b * height / 2 + c])
    turn = float(near(middle, other)[0] - middle[0])
    return GeoBox(geobox.shape, Affine(a, b, c + turn, d, e, f), geobox.crs) if turn else geobox


def _apart(before: GeoBox, after: GeoBox) -> PairError:
    return PairError(
        f"the scenes do not overlap: before covers {_place(before)}, after covers {_place(after)}",
        expected="two scenes of the same place",
    )


def _place(geobox: GeoBox) -> str:
    box = geobox.geographic_extent.boundingbox
    return f"longitude {box.left:.4f} to {box.right:.4f}, latitude {box.bottom:.4f} to {box.top:.4f}"
