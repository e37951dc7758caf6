"""Whether two grids are one lattice of pixels, where points lie on them, and what their CRS is called."""

from __future__ import annotations

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from changedet.errors import ConfigError
from changedet.grid.window import snap

# A grid that is off by less than this many pixels at its corners is the same grid: the numbers in headers are rounded.
SAME_GRID_TOLERANCE = 0.01

Floats = NDArray[np.float64]


def pixel_offset(source: GeoBox, target: GeoBox) -> tuple[int, int] | None:
    """Return the source (row, col) of the target's first pixel, or None where the two are not one lattice of pixels."""
    if source.crs != target.crs:
        return None
    height, width = target.shape
    # All four corners, so that a pixel size that differs a little counts at the far end, where it shows.
    cols, rows = np.array([0.0, width, 0.0, width]), np.array([0.0, 0.0, height, height])
    source_cols, source_rows = transformed(~source.affine, *transformed(target.affine, cols, rows))
    row, col = float(source_rows[0]), float(source_cols[0])
    off_lattice = np.hypot(source_rows - row - rows, source_cols - col - cols)
    if off_lattice.max() > SAME_GRID_TOLERANCE:
        return None
    try:
        return snap(row, SAME_GRID_TOLERANCE), snap(col, SAME_GRID_TOLERANCE)
    except ConfigError:
        return None


def crs_name(crs: CRS | None) -> str:
    """Return what people call a CRS: `EPSG:…` where it has a code, else its name."""
    if crs is None:
        return "no CRS"
    return f"EPSG:{crs.epsg}" if crs.epsg else str(crs.proj.name)


def transformed(affine: Affine, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Apply an affine transform to arrays; its own `*` is for single points."""
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def is_geographic(geobox: GeoBox) -> bool:
    """Return whether coordinates are longitudes and latitudes."""
    return geobox.crs is not None and geobox.crs.geographic


def near(lon: Floats, geobox: GeoBox) -> Floats:
    """Return longitudes (degrees) turned by whole circles to lie as near to the middle of `geobox` as can be."""
    height, width = geobox.shape
    middle = geobox.affine.a * width / 2 + geobox.affine.b * height / 2 + geobox.affine.c
    return lon - 360.0 * np.round((lon - middle) / 360.0)


def without_jump(lon: Floats) -> Floats:
    """Return longitudes (degrees, (N,)) within half a circle of the first, which may then pass 180."""
    turned: Floats = lon[0] + (lon - lon[0] + 180.0) % 360.0 - 180.0
    return turned


def wrapped(lon: float) -> float:
    """Return a longitude (degrees) from -180, included, to 180.

    >>> wrapped(180.5), wrapped(-190), wrapped(12.5)
    (-179.5, 170.0, 12.5)
    """
    return lon if -180.0 <= lon < 180.0 else (lon + 180.0) % 360.0 - 180.0
