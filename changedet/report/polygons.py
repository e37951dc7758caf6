"""The largest polygons in the grid's pixels, as compact integers, to a byte budget."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
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
    for shape, (rings, size), attributes in zip(shapes, _encoded(shapes), _attribute_sizes(frame), strict=True):
        is_exact = size <= _MOST_BYTES_EACH
        drawn = rings if is_exact else _coarsened(shape)
        spent += (size if is_exact else _size(drawn)) + attributes
        if spent > most_bytes and kept:
            break
        kept.append(drawn)
        coarsened += not is_exact
    return kept, coarsened


def _encoded(shapes: NDArray[Any]) -> Iterator[tuple[list[list[int]], int]]:
    """Yield the rings of each polygon, and how many bytes they take."""
    parts, shape_of_part = shapely.get_parts(shapes, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    steps, starts = _steps(rings)
    sizes = np.add.reduceat(_characters(steps) + 1, starts[:-1]) if len(rings) else np.empty(0, np.int64)
    # All numbers become Python's at once: one by one would take most of the time of a report.
    numbers, bounds, costs = steps.tolist(), starts.tolist(), sizes.tolist()
    of_shape = np.searchsorted(shape_of_part[part_of_ring], np.arange(len(shapes) + 1)).tolist()
    for first, stop in pairwise(of_shape):
        yield [numbers[bounds[ring] : bounds[ring + 1]] for ring in range(first, stop)], sum(costs[first:stop])


def _steps(rings: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each ring's first point and the steps from each point to the next, without the closing one.

    All in one row, (N,), x and y in turn, and where each ring starts in it, and its end, (R + 1,).
    """
    coordinates, ring_of_point = shapely.get_coordinates(rings, return_index=True)
    points = np.rint(coordinates * _PER_PX).astype(np.int64)
    first = np.flatnonzero(np.diff(ring_of_point, prepend=-1))
    steps = np.diff(points, axis=0, prepend=0)
    steps[first] = points[first]
    closing = np.append(first[1:], len(points)) - 1 if len(first) else first
    starts = 2 * (np.append(first, len(points)) - np.arange(len(first) + 1))
    return np.delete(steps, closing, axis=0).ravel(), starts


def _characters(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many characters each number is written with."""
    digits = np.searchsorted(10 ** np.arange(1, 18), np.abs(numbers), side="right") + 1
    return digits + (numbers < 0)


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


def _coarsened(shape: Any, most_bytes: int = _MOST_BYTES_EACH) -> list[list[int]]:
    """Return the rings of a polygon that takes more bytes than a single one may, with fewer points."""
    outlines = shapely.get_rings(shapely.get_parts(shape))
    tolerance = 1.0
    while _size(rings := _listed(_coarser(outlines, tolerance))) > most_bytes:
        tolerance *= 2
    return rings


def _listed(rings: NDArray[Any]) -> list[list[int]]:
    steps, starts = _steps(rings)
    return [steps[start:stop].tolist() for start, stop in pairwise(starts.tolist())]


def _coarser(rings: NDArray[Any], tolerance: float) -> NDArray[Any]:
    """Return the rings that enclose a square of `tolerance` (px), the largest in any case, without their details."""
    enclosed = shapely.area(shapely.polygons(rings))
    wanted = enclosed >= min(tolerance**2, enclosed.max())
    # Ring by ring and without regard to the others: this is for the eye, and fast.
    coarser: NDArray[Any] = shapely.simplify(rings[wanted], tolerance, preserve_topology=False)
    return coarser


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
