import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy.ndimage import gaussian_filter

from changedet.errors import ConfigError
from changedet.vectorize.shape import ground_scale, simplified, smoothed
from tests.vectorize.tables import tables
from tests.vectorize.test_regions import regions_of

PIXEL_M2 = 100 / 0.9996**2
FEW = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


def blobs(seed, classes=2, size=60):
    """Smooth shapes of several classes that share boundaries, as a network draws them."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 4)
    return np.digitize(noise, np.quantile(noise, np.linspace(0.5, 1, classes + 1))[:-1]).astype(np.uint8)


def overlap(polygons):
    one, other = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    pairs = one < other
    return shapely.area(shapely.intersection(polygons[one[pairs]], polygons[other[pairs]])).sum()


def shared(polygons):
    """Length of the boundaries that two polygons have in common."""
    return shapely.length(polygons).sum() - shapely.length(shapely.union_all(shapely.boundary(polygons)))


@pytest.mark.parametrize(
    ("crs", "place"),
    [
        ("EPSG:32633", Affine(10, 0, 5e5, 0, -10, 66.6e5)),
        ("EPSG:4326", Affine(1e-4, 0, 15, 0, -1e-4, 60)),
        ("EPSG:3857", Affine(20, 0, 1669792, 0, -20, 8399738)),
        ("EPSG:2263", Affine(30, 0, 981106, 0, -30, 195544)),
    ],
)
def test_the_ground_scale_is_in_metres_whatever_the_crs(crs, place):
    box = np.array([shapely.box(0, 0, 10, 10)], dtype=object)
    x, y = ground_scale(box, GeoBox((10, 10), place, crs), pyproj.CRS(crs))

    expected = {
        "EPSG:32633": (10.004, 10.004),
        "EPSG:4326": (5.580, 11.141),  # at 60 degrees north on WGS 84
        "EPSG:3857": (10.02, 10.02),  # where a metre of the map is half a metre
        "EPSG:2263": (9.144, 9.144),  # feet
    }
    assert (x, y) == pytest.approx(expected[crs], rel=2e-3)


@FEW
@given(seed=st.integers(0, 1000), tolerance=st.sampled_from([0.7, 1.0, 2.0, 4.0]))
def test_simplified_outlines_keep_near_and_neighbours_keep_their_boundary(make_raster, seed, tolerance):
    polygons = regions_of(make_raster(blobs(seed)), nodata=None).pixels
    result = simplified(polygons, tolerance)

    assert shapely.is_valid(result).all()
    for before, after in zip(polygons, result, strict=True):
        corners = shapely.points(shapely.get_coordinates(before))
        assert shapely.distance(corners, after.boundary).max() <= tolerance + 1e-6
        assert abs(after.area - before.area) <= 0.05 * before.area + 1e-9
    assert overlap(result) < 1e-9
    assert (shared(polygons) > 0) == (shared(result) > 0)


@FEW
@given(seed=st.integers(0, 1000))
def test_smoothed_outlines_are_valid_and_neighbours_keep_their_boundary(make_raster, seed):
    polygons = regions_of(make_raster(blobs(seed)), nodata=None).pixels
    result = smoothed(polygons, longest_cut=0.5)

    assert shapely.is_valid(result).all()
    assert {geometry.geom_type for geometry in result} == {"MultiPolygon"}
    assert overlap(result) < 1e-9
    assert shapely.area(shapely.symmetric_difference(polygons, result)).sum() < 0.1 * shapely.area(polygons).sum()
    for before, after in zip(polygons, result, strict=True):
        assert shapely.hausdorff_distance(before, after) < 1


def test_a_stair_becomes_a_slope(make_raster):
    stairs = np.tril(np.ones((30, 30), np.uint8))
    (polygon,) = smoothed(regions_of(make_raster(stairs), nodata=None).pixels, longest_cut=0.5)

    slope = shapely.LineString([(1, 0.5), (29.5, 29)])
    assert shapely.hausdorff_distance(slope.intersection(polygon.boundary.buffer(1e-6)), slope) < 1e-3
    assert shapely.get_num_coordinates(shapely.simplify(polygon, 1e-9)) < 25


def test_small_empty_holes_are_filled_and_others_kept(make_raster):
    mask = np.zeros((12, 40), np.uint8)
    mask[1:11, 1:11] = 1
    mask[3:5, 3:5] = 0  # small and empty
    mask[1:11, 13:23] = 1
    mask[3:9, 15:21] = 0  # large
    mask[1:11, 25:35] = 1
    mask[3:6, 27:30] = 0
    mask[4, 28] = 1  # small, with something in it
    mask[5, 37:39], mask[6, [36, 39]], mask[7, 37:39] = 1, 1, 1  # enclosed by pixels that touch at corners
    path = make_raster(mask)

    found = tables(path, min_hole=10 * PIXEL_M2)

    areas = (found.changes.area_m2 / PIXEL_M2).round().astype(int).tolist()
    assert sorted(areas) == sorted([100, 100 - 36, 100 - 9, 1, 8])
    assert found.findings.steps == {"min_hole": {"gained_m2": pytest.approx(6 * PIXEL_M2, rel=1e-6), "lost_m2": 0.0}}
    assert found.changes.geometry.is_valid.all()
    assert tables(path, min_hole=1e6).changes.area_m2.max() == pytest.approx(100 * PIXEL_M2, rel=1e-6)


def test_a_hole_of_nodata_is_kept_where_that_is_0(make_raster):
    mask = np.ones((5, 5), np.uint8)
    mask[2, 2] = 0
    found = tables(make_raster(mask, nodata=0), min_hole=1e6)
    assert found.changes.area_m2.item() == pytest.approx(24 * PIXEL_M2, rel=1e-6)
    assert found.findings.changed_m2 + found.findings.unknown_m2 == pytest.approx(25 * PIXEL_M2, rel=1e-6)


def test_steps_change_shapes_and_areas_but_not_ids_or_probabilities(make_raster):
    mask = blobs(3, classes=1)
    paths = make_raster(mask), make_raster((mask * 180).astype(np.uint8), scale=1 / 254)

    exact, changed = tables(*paths), tables(*paths, simplify=10, smooth=True)

    columns = ["id", "probability_mean", "probability_max", "touches_edge"]
    assert changed.changes[columns].equals(exact.changes[columns])
    assert list(changed.findings.steps) == ["simplify", "smooth"]
    net = sum(step["gained_m2"] - step["lost_m2"] for step in changed.findings.steps.values())
    assert changed.findings.changed_m2 - exact.findings.changed_m2 == pytest.approx(net, abs=1e-3)
    assert changed.findings.changed_m2 == pytest.approx(changed.changes.area_m2.sum())
    assert changed.changes.perimeter_m.sum() < exact.changes.perimeter_m.sum()


def test_buildings_become_rectangles(make_raster):
    pytest.importorskip("buildingregulariser", reason="the extra regularize is not installed")
    rectangle = shapely.affinity.rotate(shapely.box(15, 20, 45, 40), 17)
    mask = rasterio.features.rasterize([rectangle], out_shape=(60, 60), dtype="uint8")

    (polygon,) = tables(make_raster(mask), regularize=True).changes.geometry

    (part,) = polygon.geoms
    assert len(part.exterior.coords) == 5
    assert part.area == pytest.approx(part.minimum_rotated_rectangle.area, rel=1e-3)
    assert part.area == pytest.approx(600 * 100, rel=0.05)


def test_smooth_and_regular_at_once_is_refused(make_raster):
    with pytest.raises(ConfigError, match="choose one"):
        tables(make_raster(blobs(1)), smooth=True, regularize=True)
