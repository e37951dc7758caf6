"""The 100 km squares of the Military Grid Reference System, which names Sentinel-2's tiles too.

Source: NGA.STND.0037, "Universal Grids and Grid Reference Systems", version 2.0.0 (2014), chapter 3: zones, bands and
their exceptions around Norway and Svalbard, and the letters of the squares (scheme AA, of WGS 84). The poles, beyond
84° N and 80° S, have grids of their own and no squares here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

_BANDS: Final = "CDEFGHJKLMNPQRSTUVWX"
_COLUMNS: Final = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS: Final = "ABCDEFGHJKLMNPQRSTUV"
_SIDE_M: Final = 100_000.0
_LEAST_M2: Final = 100.0
# West and east of the zones that are wider or narrower than 6°; those that are empty there are not named.
_EXCEPTIONS: Final = {
    "V": {31: (0.0, 3.0), 32: (3.0, 12.0)},
    "X": {31: (0.0, 9.0), 33: (9.0, 21.0), 35: (21.0, 33.0), 37: (33.0, 42.0)},
}
_EMPTY: Final = {("X", 32), ("X", 34), ("X", 36)}
# By this angle the edge of a zone is taken for straight in its projection: off by less than a metre.
_STEP_DEGREES: Final = 0.25


class Squares(NamedTuple):
    """The squares of one grid zone, clipped to it: their names, and polygons in the CRS `epsg` of the zone."""

    epsg: int
    names: NDArray[np.str_]
    shapes: Any


def squares(west: float, south: float, east: float, north: float) -> Iterator[Squares]:
    """Yield the squares of all grid zones that meet a box of longitudes and latitudes (degrees)."""
    for number, band in enumerate(_BANDS):
        low, high = -80.0 + 8 * number, 84.0 if band == "X" else -72.0 + 8 * number
        if low <= north and high >= south:
            for zone in range(1, 61):
                left, right = _EXCEPTIONS.get(band, {}).get(zone, (6.0 * zone - 186, 6.0 * zone - 180))
                if (band, zone) not in _EMPTY and left <= east and right >= west:
                    yield _of_zone(zone, band, shapely.box(left, low, right, high))


def _of_zone(zone: int, band: str, area: Any) -> Squares:
    is_north = band >= "N"
    epsg = (32600 if is_north else 32700) + zone
    to_utm = Transformer.from_crs(4326, epsg, always_xy=True)
    degrees = shapely.segmentize(area, _STEP_DEGREES)
    outline = shapely.transform(degrees, lambda points: np.stack(to_utm.transform(*points.T), axis=1))
    left, bottom, right, top = outline.bounds
    cols = np.arange(max(1, math.floor(left / _SIDE_M)), min(8, math.floor(right / _SIDE_M)) + 1)
    rows = np.arange(math.floor(bottom / _SIDE_M), math.floor(top / _SIDE_M) + 1)
    row, col = (axis.ravel() for axis in np.meshgrid(rows, cols, indexing="ij"))
    boxes = shapely.box(col * _SIDE_M, row * _SIDE_M, (col + 1) * _SIDE_M, (row + 1) * _SIDE_M)
    shapes = shapely.intersection(boxes, outline)
    names = np.array([f"{zone:02d}{band}{_letters(zone, *at)}" for at in zip(col, row, strict=True)])
    # Rounding leaves slivers along the meridian that a zone ends at and is measured from.
    there = shapely.area(shapes) > _LEAST_M2
    return Squares(epsg, names[there], shapes[there])


def _letters(zone: int, col: int, row: int) -> str:
    """Return the two letters of a square, by its easting and northing in units of its side."""
    # Rows repeat every 2,000 km, and begin five letters later in even zones.
    first = 0 if zone % 2 else 5
    return _COLUMNS[(zone - 1) % 3][col - 1] + _ROWS[(row + first) % 20]
