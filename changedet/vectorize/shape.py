"""Outlines other than the pixels': without small holes, with fewer corners, smooth, or at right angles.

Polygons come and go in pixel coordinates. Between, lengths are metres on the ground where the polygons lie, whatever
the CRS. What touches goes on touching: a boundary of two polygons is changed once, for both.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window as RasterioWindow

from changedet.config import PolygonConfig
from changedet.errors import ConfigError
from changedet.vectorize.measure import geodesic_measures, on_earth
from changedet.vectorize.polygons import Geometries, as_multipolygons, moved, to_crs, without_straight_corners

Scale = tuple[float, float]

# A polygon that would lose or gain more than this share of its area keeps more of its corners: one of a few pixels is
# soon a triangle of half the size.
_AREA_SHARE = 0.05
_HALVINGS = 5
# Likewise while smoothing, where one of one or two pixels would lose a quarter and more.
_SMOOTH_SHARE = 0.2
# Share of an edge that is cut off at either end, in turn: halves make a slope of stairs, quarters then round its ends.
_CUTS = (0.5, 0.25)
# Outlines of buildings: edges nearer than this to parallel are one, in pixels.
_REGULAR_PX = 1.0


def shaped(
    pixels: Geometries, grid: GeoBox, crs: pyproj.CRS, config: PolygonConfig, mask: Any
) -> Iterator[tuple[str, Geometries]]:
    """Yield the name of each step that the options ask for and the polygons after it, in order.

    Args:
        pixels: MultiPolygons (N,) in pixel coordinates that follow the pixels.
        grid: grid of the mask.
        crs: its CRS.
        config: which steps.
        mask: the open mask, in which holes are looked into.
    """
    if len(pixels) == 0:
        return
    scale = ground_scale(pixels, grid, crs)
    if config.min_hole > 0:
        pixels = without_small_holes(pixels, grid, crs, config.min_hole, mask)
        yield "min_hole", pixels
    if config.simplify > 0:
        pixels = _scaled(simplified(_scaled(pixels, scale), config.simplify), scale, back=True)
        yield "simplify", pixels
    if config.smooth:
        pixels = _scaled(smoothed(_scaled(pixels, scale), longest_cut=0.5 * min(scale)), scale, back=True)
        yield "smooth", pixels
    if config.regularize:
        pixels = _scaled(regularized(_scaled(pixels, scale), tolerance=_REGULAR_PX * min(scale)), scale, back=True)
        yield "regularize", pixels


def ground_scale(pixels: Geometries, grid: GeoBox, crs: pyproj.CRS) -> Scale:
    """Return the width and height (m) of the pixel in the middle of some polygons."""
    left, top, right, bottom = shapely.total_bounds(pixels)
    col, row = (left + right) / 2, (top + bottom) / 2
    corners = moved(np.array([[col, row], [col + 1, row], [col, row + 1]]), grid.affine)
    geographic, geod = on_earth(crs)
    to_geographic = pyproj.Transformer.from_crs(crs, geographic, always_xy=True)
    factor = geographic.axis_info[0].unit_conversion_factor
    lon, lat = np.stack(to_geographic.transform(corners[:, 0], corners[:, 1])) * factor
    _, _, lengths = geod.inv(lon[[0, 0]], lat[[0, 0]], lon[1:], lat[1:], radians=True)
    return float(lengths[0]), float(lengths[1])


def _scaled(geometries: Geometries, scale: Scale, *, back: bool = False) -> Geometries:
    factors = 1 / np.array(scale) if back else np.array(scale)
    return np.asarray(shapely.transform(geometries, lambda points: points * factors), dtype=object)


def without_small_holes(pixels: Geometries, grid: GeoBox, crs: pyproj.CRS, smallest: float, mask: Any) -> Geometries:
    """Fill the holes (m², geodesic, smaller than `smallest`) that hold unchanged pixels only.

    A hole is what a polygon encloses, be it that its pixels meet at corners only. One in which another change or nodata
    lies stays, as it would come to lie under the polygon.
    """
    whole = pixels.copy()
    left, top, right, bottom = shapely.bounds(pixels).T
    box = (right - left) * (bottom - top)
    for index in np.flatnonzero((right - left > 2) & (bottom - top > 2) & (box > shapely.area(pixels))):
        holes = _holes(pixels[index])
        area, _ = geodesic_measures(to_crs(holes, grid.affine), crs)
        fill = [hole for hole in holes[area < smallest] if not _holds_something(hole, mask)]
        if fill:
            union = np.array([shapely.union_all([pixels[index], *fill])])
            whole[index] = without_straight_corners(as_multipolygons(union))[0]
    return whole


def _holes(polygon: shapely.MultiPolygon) -> Geometries:
    noded = shapely.union_all(shapely.boundary(polygon))
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(noded)))
    inside = shapely.contains_properly(polygon, shapely.point_on_surface(faces))
    return np.asarray(faces[~inside], dtype=object)


def _holds_something(hole: shapely.Polygon, mask: Any) -> bool:
    left, top, right, bottom = (int(bound) for bound in hole.bounds)
    values = mask.read(1, window=RasterioWindow(left, top, right - left, bottom - top))
    # Where nodata is 0, so is what nobody knows.
    row, col = np.nonzero((values != 0) | (values == mask.nodata))
    return bool(shapely.contains_xy(hole, col + left + 0.5, row + top + 0.5).any())


def simplified(polygons: Geometries, tolerance: float) -> Geometries:
    """Drop corners of MultiPolygons (N,) so that none of them comes to lie further than `tolerance` from the outline.

    Where GEOS's simplification of coverages, which measures areas, goes further than that, or changes the area of a
    polygon by over a twentieth, it is done again with half the tolerance for that polygon and what touches it.

    Source: M. Visvalingam, J. D. Whyatt, "Line generalisation by repeated elimination of points", The Cartographic
    Journal 30 (1993).
    """
    result, group = polygons.copy(), _touching(polygons)
    todo = np.ones(len(polygons), np.bool_)
    for halving in range(_HALVINGS):
        result[todo] = as_multipolygons(shapely.coverage_simplify(polygons[todo], tolerance / 2**halving))
        bad = np.flatnonzero(todo)[~_close(result[todo], polygons[todo], tolerance)]
        todo = np.isin(group, group[bad])
        if not todo.any():
            return result
    result[todo] = polygons[todo]
    return result


def _touching(polygons: Geometries) -> NDArray[np.int64]:
    """Return a number (N,) that polygons which touch, through others too, have in common."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    links = coo_array((np.ones(len(one), np.bool_), (one, other)), shape=(len(polygons), len(polygons)))
    group: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return group


def _close(new: Geometries, old: Geometries, tolerance: float) -> NDArray[np.bool_]:
    """Return (N,) where a new outline is near all corners of the old one, valid, and of nearly the same area."""
    before, after = shapely.area(old), shapely.area(new)
    fits = shapely.is_valid(new) & (np.abs(after - before) <= _AREA_SHARE * before)
    outline = shapely.boundary(new)
    shapely.prepare(outline)
    points, owner = shapely.get_coordinates(old, return_index=True)
    near = shapely.dwithin(outline[owner], shapely.points(points), tolerance * (1 + 1e-9))
    fits[owner[~near]] = False
    return np.asarray(fits, dtype=np.bool_)


def smoothed(polygons: Geometries, *, longest_cut: float) -> Geometries:
    """Round the corners of MultiPolygons (N,), stair-steps of one pixel to straight slopes.

    Lines between the points where three outlines or more meet are cut at their corners, so neighbours keep a common
    boundary. Cuts are no longer than `longest_cut`, at half a pixel too short to reach another outline. Where the area
    of a polygon would change by over a fifth, it and what touches it stay as they are.

    Source: G. M. Chaikin, "An algorithm for high-speed curve generation", Computer Graphics and Image Processing 3
    (1974).
    """
    noded = shapely.line_merge(shapely.union_all(shapely.boundary(polygons)))
    lines = [_cut(line, longest_cut) for line in shapely.get_parts(noded)]
    faces = shapely.get_parts(shapely.polygonize(lines))
    before = shapely.get_parts(shapely.polygonize(shapely.get_parts(noded)))
    # Faces have the same neighbours before and after, so a point deep in the old one tells whose the new one is.
    point = shapely.get_point(shapely.maximum_inscribed_circle(before), 0)
    inside, owner = shapely.STRtree(polygons).query(point, predicate="within")
    which, face = shapely.STRtree(faces).query(point[inside], predicate="within")
    result = as_multipolygons(
        np.array(
            [shapely.union_all(faces[face[owner[which] == index]]) for index in range(len(polygons))], dtype=object
        )
    )
    changed = np.abs(shapely.area(result) - shapely.area(polygons)) > _SMOOTH_SHARE * shapely.area(polygons)
    group = _touching(polygons)
    stays = np.isin(group, group[changed])
    result[stays] = polygons[stays]
    return result


def _cut(line: shapely.LineString, longest: float) -> shapely.LineString:
    points = shapely.get_coordinates(line)
    is_ring = bool((points[0] == points[-1]).all())
    for cut in _CUTS:
        edge = np.diff(points, axis=0)
        length = np.hypot(*edge.T)
        share = np.minimum(longest / length, cut)[:, None]
        ends = np.stack([points[:-1] + share * edge, points[1:] - share * edge], axis=1).reshape(-1, 2)
        points = np.concatenate([ends, ends[:1]]) if is_ring else np.concatenate([points[:1], ends[1:-1], points[-1:]])
        points = points[np.concatenate([[True], (np.diff(points, axis=0) != 0).any(axis=1)])]
    return shapely.LineString(points)


def regularized(polygons: Geometries, *, tolerance: float) -> Geometries:
    """Turn the outlines of MultiPolygons (N,) into right angles and their halves, as buildings have them.

    Each part is for itself, and stays as it is where the result would have little in common with it. What was a common
    boundary need not be one afterwards.

    Raises:
        ConfigError: the package that does it is not installed.
    """
    try:
        from buildingregulariser import regularize_geodataframe
    except ImportError as error:
        raise ConfigError(f"--regularize needs {error.name}", remedy="pip install 'changedet[regularize]'") from error
    parts, owner = shapely.get_parts(polygons, return_index=True)
    table = gpd.GeoDataFrame({"owner": owner}, geometry=parts)
    with warnings.catch_warnings():
        # It says so of every part that it leaves as it was.
        warnings.filterwarnings("ignore", "Regularized polygon has low IoU", UserWarning)
        regular = regularize_geodataframe(
            table, parallel_threshold=tolerance, simplify_tolerance=tolerance, allow_circles=False, num_cores=1
        )
    result = polygons.copy()
    for index, rows in regular.groupby("owner"):
        joined = shapely.make_valid(shapely.union_all(rows.geometry.to_numpy()))
        areas = [part for part in shapely.get_parts(joined) if part.geom_type in ("Polygon", "MultiPolygon")]
        if areas:
            result[int(index)] = shapely.union_all(areas)
    return as_multipolygons(result)
