"""Connected regions of a mask as polygons in pixel coordinates, streamed.

GDAL traces the regions line by line over the whole raster, so no polygon is split where the file's blocks or our
chips meet, and only the lines at hand and the finished polygons are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal, TypeAlias

import numpy as np
import rasterio
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray

Connectivity: TypeAlias = Literal[4, 8]
Geometries: TypeAlias = NDArray[np.object_]

# Polygons that are Python objects at the same time before the small ones are dropped.
BATCH = 20_000


def polygon_batches(
    dataset: Any, *, connectivity: Connectivity, keep_zero: bool = False, size: int = BATCH
) -> Iterator[tuple[NDArray[np.uint8], Geometries]]:
    """Yield the values and the polygons of a mask's connected regions, some at a time.

    Args:
        dataset: an open rasterio dataset with one uint8 band.
        connectivity: 8 joins pixels that share an edge or a corner, 4 only those that share an edge.
        keep_zero: trace the regions of 0 too; otherwise they are skipped.
        size: most polygons in one batch.

    Yields:
        Values (N,) uint8 and valid MultiPolygons (N,) whose coordinates are columns and rows counted from the
        raster's first corner (px, rows downwards). Holes are kept.
    """
    # As a rasterio.band both the image and its mask are read by GDAL itself, a line at a time; an array would be
    # the whole raster in memory.
    band = rasterio.band(dataset, 1)
    shapes = rasterio.features.shapes(band, mask=None if keep_zero else band, connectivity=connectivity)
    while batch := list(islice(shapes, size)):
        values = np.array([value for _, value in batch], dtype=np.uint8)
        # For a band GDAL applies the file's own affine, whatever transform is asked for: undone here.
        yield values, _multipolygons([geometry["coordinates"] for geometry, _ in batch], to_pixels=~dataset.transform)


def _multipolygons(polygons: list[list[list[tuple[float, float]]]], *, to_pixels: Affine) -> Geometries:
    rings = [ring for polygon in polygons for ring in polygon]
    points = np.array([point for ring in rings for point in ring], dtype=np.float64)
    # Corners of pixels are whole numbers: rounding leaves nothing of the way through the CRS.
    corners = np.rint(moved(points, to_pixels))
    offsets = _offsets(rings), _offsets(polygons)
    traced = shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, offsets)
    # Regions joined at a corner come as one ring that touches itself there, which the OGC's rules forbid. All crossings
    # are at pixel corners, so making them valid moves nothing.
    invalid = ~shapely.is_valid(traced)
    traced[invalid] = shapely.make_valid(traced[invalid])
    return as_multipolygons(traced)


def _offsets(parts: list[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)])


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
