"""The largest polygons in the grid's pixels, as compact integers, to a byte budget."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.read.align import to_lonlat

# More would make a browser on a phone slow, and nobody looks at the five thousand and first.
MOST = 5_000
MOST_BYTES = 2_800_000
# One polygon that winds through half of a noisy scene must not push all others out.
_MOST_BYTES_EACH = 60_000
# Coordinates are whole tenths of a pixel.
_PER_PX = 10


@dataclass(frozen=True)
class Shapes:
    """The polygons that are drawn, by falling area.

    Attributes:
        total: how many polygons there are, drawn or not.
        rings: of each polygon its rings, each a flat list: first x and y, then the steps to the next points, in tenths
            of a pixel of the grid. Holes are told from outlines by the even-odd rule.
        columns: attributes by name, a value a polygon, None where null; `lon` and `lat` (degrees) among them, of a
            point inside.
        coarsened: how many outlines had to be drawn with fewer points.
    """

    total: int
    rings: list[list[list[int]]]
    columns: dict[str, list[Any]]
    coarsened: int

    def __len__(self) -> int:
        return len(self.rings)


def read_measures(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Return `area_m2` and `probability_mean` of every polygon of the layer `changes`, indexed by feature id."""
    measures: pd.DataFrame = pyogrio.read_dataframe(
        path, layer="changes", columns=["area_m2", "probability_mean"], read_geometry=False, fid_as_index=True
    )
    return measures


def largest_shapes(
    path: str | os.PathLike[str],
    areas: pd.Series[float],
    geobox: GeoBox,
    *,
    most: int = MOST,
    most_bytes: int = MOST_BYTES,
) -> Shapes:
    """Read the largest polygons of the layer `changes`, as many as the budget holds.

    Args:
        path: a vector file.
        areas: of every polygon, indexed by feature id.
        geobox: the run's grid, which the polygons are in the CRS of.
        most: polygons.
        most_bytes: of all rings and attributes as text.
    """
    # A stable sort, so that of equal areas the first in the file comes first, every time.
    fids = areas.sort_values(ascending=False, kind="stable").index[:most]
    if len(fids) == 0:
        return Shapes(0, [], {}, 0)
    frame = pyogrio.read_dataframe(path, layer="changes", fids=np.sort(fids), fid_as_index=True).loc[fids]
    rings, coarsened = _within_budget(frame, geobox, most_bytes)
    frame = frame.iloc[: len(rings)]
    inside = shapely.get_coordinates(_in_pixels(frame.geometry.representative_point().array, geobox))
    lon, lat = to_lonlat(geobox, inside[:, 1], inside[:, 0])
    columns = {name: _values(frame[name]) for name in frame.columns if name != frame.geometry.name}
    return Shapes(
        total=len(areas),
        rings=rings,
        columns={**columns, "lon": _values(pd.Series(lon)), "lat": _values(pd.Series(lat))},
        coarsened=coarsened,
    )


def _within_budget(frame: gpd.GeoDataFrame, geobox: GeoBox, most_bytes: int) -> tuple[list[list[list[int]]], int]:
    """Return the rings of the first polygons that fit together, and how many of them lost points."""
    kept: list[list[list[int]]] = []
    coarsened = spent = 0
    shapes = _in_pixels(frame.geometry.array, geobox)
    for (rings, is_exact), attributes in zip(map(_encoded, shapes), _attribute_sizes(frame), strict=True):
        spent += _size(rings) + attributes
        if spent > most_bytes and kept:
            break
        kept.append(rings)
        coarsened += not is_exact
    return kept, coarsened


def _attribute_sizes(frame: gpd.GeoDataFrame) -> list[int]:
    """Return how many bytes, about and rather more, the attributes of each row take."""
    rows = frame.drop(columns=frame.geometry.name).itertuples(index=False)
    return [sum(len(str(value).encode()) + 3 for value in row) for row in rows]


def _in_pixels(shapes: Any, geobox: GeoBox) -> NDArray[Any]:
    """Return shapes of the grid's CRS as shapes of its columns (x) and rows (y)."""
    to_pixels = ~geobox.affine
    coefficients = np.array([[to_pixels.a, to_pixels.d], [to_pixels.b, to_pixels.e]])
    moved: NDArray[Any] = shapely.transform(
        np.asarray(shapes), lambda xy: xy @ coefficients + (to_pixels.c, to_pixels.f)
    )
    return moved


def _encoded(shape: Any, most_bytes: int = _MOST_BYTES_EACH) -> tuple[list[list[int]], bool]:
    """Return the rings of a polygon within the bytes a single one may take, and whether they are exact."""
    outlines = np.array(list(_rings(shape)), dtype=object)
    rings = [_steps(ring) for ring in outlines]
    tolerance, is_exact = 0.5, _size(rings) <= most_bytes
    while _size(rings) > most_bytes:
        tolerance *= 2
        rings = [_steps(ring) for ring in _coarser(outlines, tolerance)]
    return rings, is_exact


def _rings(shape: Any) -> Iterator[Any]:
    for part in shapely.get_parts(shape):
        yield part.exterior
        yield from part.interiors


def _coarser(rings: NDArray[Any], tolerance: float) -> NDArray[Any]:
    """Return the rings that enclose a square of `tolerance` (px), the largest in any case, without their details."""
    enclosed = shapely.area(shapely.polygons(rings))
    wanted = enclosed >= min(tolerance**2, enclosed.max())
    # Ring by ring and without regard to the others: this is for the eye, and fast.
    coarser: NDArray[Any] = shapely.simplify(rings[wanted], tolerance, preserve_topology=False)
    return coarser


def _steps(ring: Any) -> list[int]:
    """Return a ring as its first point and the steps from each point to the next, without the closing one."""
    points = np.rint(shapely.get_coordinates(ring)[:-1] * _PER_PX).astype(int)
    return np.diff(points, axis=0, prepend=0).ravel().tolist()


def _size(rings: list[list[int]]) -> int:
    return sum(len(str(ring)) - len(ring) for ring in rings)  # str puts a blank after each comma


def _values(column: pd.Series[Any]) -> list[Any]:
    """Return a column as JSON has it, floats with as many digits as mean something."""
    known = column.notna()
    if pd.api.types.is_bool_dtype(column):
        return [bool(value) if ok else None for value, ok in zip(column, known, strict=True)]
    if pd.api.types.is_integer_dtype(column):
        return [int(value) if ok else None for value, ok in zip(column, known, strict=True)]
    if pd.api.types.is_float_dtype(column):
        return [float(f"{value:.8g}") if ok else None for value, ok in zip(column, known, strict=True)]
    return [str(value) if ok else None for value, ok in zip(column, known, strict=True)]
