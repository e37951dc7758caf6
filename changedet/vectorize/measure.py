"""What is known of a polygon from its shape and place alone: area, perimeter, compactness, edges, identity."""

from __future__ import annotations

import hashlib
import json
import math
from itertools import pairwise

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray

from changedet.errors import SceneError
from changedet.vectorize.polygons import Geometries

# An edge that is straight in the CRS is not a geodesic: along a parallel at 60 degrees north the two are 100 m apart
# after 55 km, but 3 cm after 1 km, where the area between them no longer counts.
_LONGEST_EDGE_M = 1000.0
_LONGEST_EDGE_RAD = math.radians(0.01)
# Wider ones are measured in strips: the formula cannot tell half of the globe, or a ring along the antimeridian.
_WIDEST_M = 5e6
_WIDEST_RAD = math.radians(45.0)


def geodesic_measures(geometries: Geometries, crs: pyproj.CRS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return areas (m²) and perimeters (m), both (N,), on the ellipsoid of a CRS.

    Vertices go to the geographic coordinates of the same datum, so nothing depends on the projection. A perimeter
    counts the rims of the holes too.

    Source: C. F. F. Karney, "Algorithms for geodesics", Journal of Geodesy 87 (2013), section 6.

    Args:
        geometries: valid polygons or multipolygons (N,) in `crs`.
        crs: any CRS with an ellipsoid.

    Raises:
        SceneError: the CRS has no ellipsoid (a local or engineering one).
    """
    areas, perimeters = _measured(geometries, crs)
    left, _, right, _ = shapely.bounds(geometries).T
    widest = _in_units(_WIDEST_RAD, _WIDEST_M, crs)
    for index in np.flatnonzero(right - left > widest):
        areas[index] = _measured(_strips(geometries[index], widest), crs)[0].sum()
    return areas, perimeters


def _strips(geometry: shapely.Geometry, widest: float) -> Geometries:
    """Return the polygons of a geometry cut into strips of equal width, at most `widest`, from left to right."""
    left, bottom, right, top = shapely.bounds(geometry)
    edges = np.linspace(left, right, math.ceil((right - left) / widest) + 1)
    parts = shapely.get_parts(shapely.intersection(geometry, shapely.box(edges[:-1], bottom, edges[1:], top)))
    polygons: Geometries = parts[shapely.get_dimensions(parts) == 2]
    return polygons


def _measured(geometries: Geometries, crs: pyproj.CRS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    geographic, geod = on_earth(crs)
    longest = _in_units(_LONGEST_EDGE_RAD, _LONGEST_EDGE_M, crs)
    rings, owners, signs = _rings(_with_short_edges(geometries, longest))
    points, ring_of_point = shapely.get_coordinates(rings, return_index=True)
    to_geographic = pyproj.Transformer.from_crs(crs, geographic, always_xy=True)
    # Not every geographic CRS counts in degrees (NTF Paris has grads), so radians it is.
    angles = (
        np.stack(to_geographic.transform(points[:, 0], points[:, 1])) * geographic.axis_info[0].unit_conversion_factor
    )
    # A grid that is told by the middles of its pixels passes a pole by half of one, where there is no ground. Neither
    # is there beside the disc of the earth.
    angles[1] = np.clip(angles[1], -np.pi / 2, np.pi / 2)
    on_ground = np.isfinite(angles).all(axis=0)
    angles, ring_of_point = angles[:, on_ground], ring_of_point[on_ground]
    starts = np.searchsorted(ring_of_point, np.arange(len(rings) + 1))
    measured = [_ring_measures(geod, angles[:, start:stop]) for start, stop in pairwise(starts)]
    area, perimeter = np.array(measured, dtype=np.float64).reshape(-1, 2).T
    totals = np.zeros((2, len(geometries)))
    np.add.at(totals.T, owners, np.column_stack([area * signs, perimeter]))
    return totals[0], totals[1]


def on_earth(crs: pyproj.CRS) -> tuple[pyproj.CRS, pyproj.Geod]:
    """Return the geographic CRS of the same datum, and its ellipsoid.

    Raises:
        SceneError: the CRS has no ellipsoid (a local or engineering one).
    """
    geographic, geod = crs.geodetic_crs, crs.get_geod()
    if geographic is None or geod is None:
        raise SceneError(
            f"the coordinate system '{crs.name}' is not tied to the earth",
            expected="a geographic or projected one, from which areas in m² follow",
            remedy="georeference the raster (gdalwarp -t_srs, gdal_edit.py -a_srs)",
        )
    return geographic, geod


def _in_units(radians: float, metres: float, crs: pyproj.CRS) -> float:
    """Return a length in units of the CRS: radians of a geographic one, else metres."""
    return float((radians if crs.is_geographic else metres) / crs.axis_info[0].unit_conversion_factor)


def _with_short_edges(geometries: Geometries, longest: float) -> Geometries:
    """Return polygons (N,) with vertices added to edges longer than this (CRS units)."""
    left, bottom, right, top = shapely.bounds(geometries).T
    may_have = np.maximum(right - left, top - bottom) > longest / np.sqrt(2)
    if not may_have.any():
        return geometries
    short = geometries.copy()
    short[may_have] = shapely.segmentize(geometries[may_have], longest)
    return short


def _rings(geometries: Geometries) -> tuple[Geometries, NDArray[np.int64], NDArray[np.float64]]:
    """Return all rings, the index of each one's geometry, and +1 for a shell or -1 for a hole."""
    parts, geometry_of_part = shapely.get_parts(geometries, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    is_shell = np.diff(part_of_ring, prepend=-1) != 0
    return rings, geometry_of_part[part_of_ring], np.where(is_shell, 1.0, -1.0)


def _ring_measures(geod: pyproj.Geod, angles: NDArray[np.float64]) -> tuple[float, float]:
    area, perimeter = geod.polygon_area_perimeter(angles[0], angles[1], radians=True)
    return abs(area), perimeter


def compactness(area: NDArray[np.float64], perimeter: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 4πA/P² (N,), 0 to 1: 1 for a disc, 0.79 for a square, near 0 for a thread (Polsby and Popper 1991)."""
    return 4 * np.pi * area / perimeter**2


def first_pixels(pixels: Geometries) -> NDArray[np.int64]:
    """Return row and column (N, 2) of each polygon's first pixel in scan order, unique within one mask."""
    points, owners = shapely.get_coordinates(pixels, return_index=True)
    if len(points) == 0:
        return np.empty((0, 2), np.int64)
    col, row = points.T.astype(np.int64)
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    # The topmost vertex furthest left is the upper left corner of the first pixel.
    width = int(col.max()) + 1
    first = np.minimum.reduceat(row * width + col, starts)
    return np.column_stack(np.divmod(first, width))


def polygon_ids(
    first: NDArray[np.int64], *, crs_name: str, transform: Affine, dates: tuple[str | None, str | None]
) -> list[str]:
    """Return one hash (16 hexadecimal digits) a polygon: equal for the same place in the same grid and dates.

    Args:
        first: row and column (N, 2) of the polygons' first pixels.
        crs_name: the grid's CRS, as its authority's code or as WKT.
        transform: the grid's affine.
        dates: before and after, ISO 8601, where known.
    """
    affine = [float(number) for number in transform[:6]]
    common = hashlib.sha256(json.dumps([crs_name, affine, *dates]).encode())
    return [_continued(common, f"{row},{col}") for row, col in first.tolist()]


def _continued(common: hashlib._Hash, text: str) -> str:
    own = common.copy()
    own.update(text.encode())
    return own.hexdigest()[:16]
