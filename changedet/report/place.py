"""From a pixel of the grid to longitude and latitude, as a table that a page can interpolate in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Geod

from changedet.grid.lattice import without_jump
from changedet.read.align import ground_resolution, to_lonlat

_SIZES = (2, 3, 5, 9, 17, 33)
_WANTED_PX = 0.1
_METRES_A_DEGREE = 111_320.0


def lonlat_table(geobox: GeoBox) -> dict[str, Any]:
    """Return longitude and latitude at evenly spread points of the grid, the corners included.

    As many points as bring bilinear interpolation between them to a tenth of a pixel, 33 a side at most.

    Returns:
        `size` n; `lon` and `lat`, n rows of n degrees, west to east without a jump at the antimeridian (so lon may
        pass 180), None where the grid has no place on earth; `off_px`, how far interpolation is off at worst, None
        where no cell of the table has all its corners.
    """
    for size in _SIZES:
        lon, lat = _at(geobox, size)
        off = _worst(geobox, lon, lat)
        if off <= _WANTED_PX:
            break
    return {
        "size": size,
        "lon": _listed(lon),
        "lat": _listed(lat),
        "off_px": round(off, 3) if math.isfinite(off) else None,
    }


def _listed(degrees: NDArray[np.float64]) -> list[list[float | None]]:
    return [[value if math.isfinite(value) else None for value in row] for row in np.round(degrees, 7).tolist()]


def _at(geobox: GeoBox, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    height, width = geobox.shape
    rows, cols = np.meshgrid(np.linspace(0, height, size), np.linspace(0, width, size), indexing="ij")
    lon, lat = to_lonlat(geobox, rows.ravel(), cols.ravel())
    # Around the disc that a satellite far out sees, and at the rim of a map of the world, there is nothing.
    known = np.isfinite(lon) & np.isfinite(lat)
    lon[~known], lat[~known] = np.nan, np.nan
    if known.any():
        lon[known] = without_jump(lon[known])
    return lon.reshape(size, size), lat.reshape(size, size)


def _worst(geobox: GeoBox, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> float:
    """Return the largest distance, in px, between the middle of a cell and what its corners say of it.

    Infinite where no cell has all of them.
    """
    size = 2 * len(lon) - 1
    true_lon, true_lat = (axis[1::2, 1::2] for axis in _at(geobox, size))
    mid_lon, mid_lat = ((axis[:-1, :-1] + axis[:-1, 1:] + axis[1:, :-1] + axis[1:, 1:]) / 4 for axis in (lon, lat))
    east = (mid_lon - true_lon) * _METRES_A_DEGREE * np.cos(np.radians(true_lat))
    north = (mid_lat - true_lat) * _METRES_A_DEGREE
    off = np.hypot(east, north)
    known = off[np.isfinite(off)]
    return float(known.max()) / min(ground_resolution(geobox)) if known.size else math.inf


def up_azimuth(geobox: GeoBox) -> float:
    """Return the compass direction of the grid's upper edge, degrees clockwise from north, -180..180."""
    height, width = geobox.shape
    lon, lat = to_lonlat(geobox, np.array([height / 2, height / 2 - 1]), np.array([width / 2, width / 2]))
    azimuth, _, _ = Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])
    return math.remainder(float(azimuth), 360)
