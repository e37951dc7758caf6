"""Connected pixels as polygons in pixel coordinates: columns and rows counted from the raster's first corner."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray

Geometries: TypeAlias = NDArray[np.object_]

# Outlines that are Python objects at the same time (1 kB each) before they become arrays.
_BATCH = 20_000


def outlines(labels: NDArray[np.int32], count: int, *, row: int = 0, col: int = 0) -> Geometries:
    """Return the outline of each label as a valid MultiPolygon, (count,); holes are kept.

    Args:
        labels: (H, W), 0 for none, 1..count otherwise.
        count: labels.
        row: row of the raster that the first row of `labels` is (px).
        col: likewise, the column.
    """
    owners, parts = [np.empty(0, np.int64)], [np.empty(0, object)]
    for values, polygons in _traced(labels, row, col):
        broken, index = shapely.get_parts(polygons, return_index=True)
        owners.append(values[index])
        parts.append(broken)
    owner, part = np.concatenate(owners), np.concatenate(parts)
    order = np.argsort(owner, kind="stable")
    # Parts of one label share corners at most, so side by side they are a valid MultiPolygon.
    return np.asarray(
        shapely.multipolygons(part[order], indices=owner[order], out=np.full(count, None, dtype=object)), dtype=object
    )


def _traced(labels: NDArray[np.int32], row: int, col: int) -> Iterator[tuple[NDArray[np.int64], Geometries]]:
    """Yield label - 1 and polygon of every patch of pixels that share edges."""
    # Along edges only, since a ring that runs through a corner twice would be invalid.
    shapes = rasterio.features.shapes(labels, mask=labels > 0, connectivity=4, transform=Affine.translation(col, row))
    while batch := list(islice(shapes, _BATCH)):
        yield (
            np.array([value for _, value in batch], dtype=np.int64) - 1,
            _polygons([geometry["coordinates"] for geometry, _ in batch]),
        )


def _polygons(polygons: list[list[list[tuple[float, float]]]]) -> Geometries:
    rings = [ring for polygon in polygons for ring in polygon]
    points = np.array([point for ring in rings for point in ring], dtype=np.float64)
    traced = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (_offsets(rings), _offsets(polygons)))
    # A patch that closes around others at a corner comes as one ring that touches itself there, which the OGC's rules
    # forbid. All crossings are at pixel corners, so making it valid moves nothing.
    invalid = ~shapely.is_valid(traced)
    traced[invalid] = shapely.make_valid(traced[invalid])
    return np.asarray(traced, dtype=object)


def _offsets(parts: list[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)])


def joined(pieces: Geometries, owners: NDArray[np.int64]) -> Geometries:
    """Return one MultiPolygon for each owner, (M,), in the order of owners, of pieces that meet along pixel edges.

    Args:
        pieces: MultiPolygons (N,) in pixel coordinates that do not overlap.
        owners: (N,) 0..M-1, sorted, none left out.
    """
    starts = np.searchsorted(owners, np.arange(owners[-1] + 2)) if len(owners) else np.zeros(1, np.int64)
    whole = pieces[starts[:-1]].copy()
    for owner in np.flatnonzero(np.diff(starts) > 1):
        whole[owner] = shapely.union_all(pieces[starts[owner] : starts[owner + 1]])
    several = np.diff(starts) > 1
    whole[several] = without_straight_corners(as_multipolygons(whole[several]))
    return whole


def without_straight_corners(polygons: Geometries) -> Geometries:
    """Return MultiPolygons (N,) of horizontal and vertical edges without the vertices at which nothing turns."""
    if len(polygons) == 0:
        return polygons
    kind, points, (ring_ends, *rest) = shapely.to_ragged_array(polygons)
    sizes = np.diff(ring_ends) - 1  # the last point of a ring repeats the first
    ring = np.repeat(np.arange(len(sizes)), sizes)
    corners = np.delete(points, ring_ends[1:] - 1, axis=0)
    first = np.cumsum(sizes) - sizes
    place = np.arange(len(corners)) - first[ring]
    before = corners[first[ring] + (place - 1) % sizes[ring]]
    after = corners[first[ring] + (place + 1) % sizes[ring]]
    turns = ~((corners == before) & (corners == after)).any(axis=1)
    kept, left = corners[turns], np.bincount(ring[turns], minlength=len(sizes))
    stops = np.cumsum(left)
    closed = np.insert(kept, stops, kept[stops - left], axis=0)
    ends = np.concatenate([[0], np.cumsum(left + 1)])
    return np.asarray(shapely.from_ragged_array(kind, closed, (ends, *rest)), dtype=object)


def as_multipolygons(geometries: Geometries) -> Geometries:
    """Return the same areas, (N,), as MultiPolygons, so that a layer has one geometry type."""
    parts, owners = shapely.get_parts(geometries, return_index=True)
    # `out` keeps a place for a geometry without parts.
    empty = np.full(len(geometries), shapely.MultiPolygon(), dtype=object)
    return np.asarray(shapely.multipolygons(parts, indices=owners, out=empty), dtype=object)


def to_crs(pixels: Geometries, transform: Affine) -> Geometries:
    """Return polygons (N,) in pixel coordinates moved to the CRS of `transform`, an affine from pixels to CRS units."""
    return np.asarray(shapely.transform(pixels, lambda points: moved(points, transform)), dtype=object)


def moved(points: NDArray[np.float64], affine: Affine) -> NDArray[np.float64]:
    """Return x and y (N, 2) after an affine."""
    x, y = points.T
    return np.column_stack([affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f])
