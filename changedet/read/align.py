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
from changedet.grid import Window, snap

# A grid that is off by less than this many pixels at its corners is the same grid: the numbers in headers are rounded.
SAME_GRID_TOLERANCE = 0.01

Floats = NDArray[np.float64]
Placing = Literal["direct", "warped"]


@dataclass(frozen=True, slots=True)
class Placement:
    """How the pixels of one file come to lie on the target grid.

    Attributes:
        how: `direct` reads whole source pixels at an offset; `warped` resamples once.
        row: target row 0 is this row of the source (direct only).
        col: target column 0 is this column of the source (direct only).
        geobox: the grid to warp to (warped only): the target, moved by the residual shift.
        x_scale: target pixels per source pixel along x, at most 1: the width of the resampling kernel (warped only).
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
    there = after.extent.to_crs(str(before.crs), resolution=_edge_step(after)).boundingbox
    corners = np.array([there.left, there.right] * 2), np.array([there.bottom, there.bottom, there.top, there.top])
    cols, rows = _transformed(~before.affine, *corners)
    tolerance = SAME_GRID_TOLERANCE
    row, col = (math.floor(axis.min() + tolerance) for axis in (rows, cols))
    stop_row, stop_col = (math.ceil(axis.max() - tolerance) for axis in (rows, cols))
    height, width = before.shape
    if min(stop_row, height) <= max(row, 0) or min(stop_col, width) <= max(col, 0):
        raise PairError(
            f"the scenes do not overlap: before covers {_place(before)}, after covers {_place(after)}",
            expected="two scenes of the same place",
        )
    return before[max(row, 0) : min(stop_row, height), max(col, 0) : min(stop_col, width)]


def place(source: GeoBox, target: GeoBox, *, shift: tuple[float, float] = (0.0, 0.0)) -> Placement:
    """Decide how a file on `source` gets onto `target`.

    Args:
        source: grid of the file.
        target: grid of the pair.
        shift: residual shift (row, col) in target px: what lies at (r, c) before is found at (r + row, c + col) in
            the file as its georeference has it.
    """
    offset = pixel_offset(source, target) if shift == (0.0, 0.0) else None
    if offset is not None:
        return Placement("direct", *offset, target, 1.0, 1.0)
    row, col = shift
    moved = target.translate_pix(col, row)
    return Placement("warped", 0, 0, moved, *_kernel_scale(source, moved))


def pixel_offset(source: GeoBox, target: GeoBox) -> tuple[int, int] | None:
    """Return the source (row, col) of the target's first pixel, or None where the two are not one lattice of pixels."""
    if source.crs != target.crs:
        return None
    height, width = target.shape
    # All four corners, so that a pixel size that differs a little counts at the far end, where it shows.
    cols, rows = np.array([0.0, width, 0.0, width]), np.array([0.0, 0.0, height, height])
    source_cols, source_rows = _transformed(~source.affine, *_transformed(target.affine, cols, rows))
    row, col = float(source_rows[0]), float(source_cols[0])
    off_lattice = np.hypot(source_rows - row - rows, source_cols - col - cols)
    if off_lattice.max() > SAME_GRID_TOLERANCE:
        return None
    try:
        return snap(row, SAME_GRID_TOLERANCE), snap(col, SAME_GRID_TOLERANCE)
    except ConfigError:
        return None


def _kernel_scale(source: GeoBox, target: GeoBox) -> tuple[float, float]:
    """Return target pixels per source pixel along the source's x and y, at the middle of the target.

    One constant for the whole pair: left to itself GDAL derives it from each window and windows then differ from the
    whole. Above 0.95 it is 1: plain interpolation, as GDAL itself does.
    """
    height, width = target.shape
    cols = width / 2 + np.array([0.0, 1.0, 0.0])
    rows = height / 2 + np.array([0.0, 0.0, 1.0])
    x, y = _transformed(target.affine, cols, rows)
    if source.crs != target.crs:
        x, y = Transformer.from_crs(target.crs, source.crs, always_xy=True).transform(x, y)
    source_cols, source_rows = _transformed(~source.affine, np.asarray(x), np.asarray(y))
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
    x, y = _transformed(geobox.affine, np.asarray(cols, dtype=float), np.asarray(rows, dtype=float))
    lon, lat = Transformer.from_crs(geobox.crs, "EPSG:4326", always_xy=True).transform(x, y)
    return np.asarray(lon), np.asarray(lat)


def _transformed(affine: Affine, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Apply `affine` to arrays; its own `*` is for single points."""
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def window_of(geobox: GeoBox, part: GeoBox) -> Window:
    """Return where `part`, a crop of `geobox`, lies in it."""
    offset = pixel_offset(geobox, part)
    if offset is None:
        raise ConfigError("a grid that is not a crop of the other")
    height, width = part.shape
    return Window(*offset, height, width)


def _edge_step(geobox: GeoBox) -> float:
    """Length (CRS units) between points added to an edge before it is reprojected, so that a curved edge stays one."""
    height, width = geobox.shape
    return float(max(height * abs(geobox.resolution.y), width * abs(geobox.resolution.x)) / 20)


def _place(geobox: GeoBox) -> str:
    box = geobox.geographic_extent.boundingbox
    return f"longitude {box.left:.4f} to {box.right:.4f}, latitude {box.bottom:.4f} to {box.top:.4f}"
