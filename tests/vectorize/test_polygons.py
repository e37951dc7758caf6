import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.features import rasterize
from scipy import ndimage

from changedet.vectorize.polygons import as_multipolygons, polygon_batches, to_crs

MASKS = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14), elements=st.sampled_from([0, 1, 2, 255])
)
PLACES = st.sampled_from(
    [
        Affine(10, 0, 500_000, 0, -10, 5_600_000),
        Affine(1e-4, 0, 179.123456789, 0, -1e-4, 60.987654321),
        Affine(2.1, 3.8, 300_000.3, 1.4, -5.9, 10.7),
    ]
)
STRUCTURES = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}


def traced(path, connectivity, **options):
    with rasterio.open(path) as dataset:
        batches = list(polygon_batches(dataset, connectivity=connectivity, **options))
        transform = dataset.transform
    values = np.concatenate([np.empty(0, np.uint8), *(values for values, _ in batches)])
    pixels = np.concatenate([np.empty(0, object), *(pixels for _, pixels in batches)])
    return values, pixels, transform


def burnt(geometries, values, shape, transform):
    if len(values) == 0:
        return np.zeros(shape, np.uint8)
    return rasterize(zip(geometries, values.tolist(), strict=True), out_shape=shape, transform=transform, dtype="uint8")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mask=MASKS, place=PLACES, connectivity=st.sampled_from([4, 8]), size=st.sampled_from([1, 3, 1000]))
def test_rasterizing_the_polygons_gives_the_mask_back(make_raster, mask, place, connectivity, size):
    values, pixels, transform = traced(make_raster(mask, transform=place), connectivity, size=size)

    assert np.array_equal(burnt(pixels, values, mask.shape, Affine.identity()), mask)
    assert np.array_equal(burnt(to_crs(pixels, transform), values, mask.shape, transform), mask)
    regions = [ndimage.label(mask == value, STRUCTURES[connectivity])[1] for value in (1, 2, 255)]
    assert [int((values == value).sum()) for value in (1, 2, 255)] == regions
    assert shapely.is_valid(to_crs(pixels, transform)).all()
    assert {geometry.geom_type for geometry in pixels} <= {"MultiPolygon"}
    corners = shapely.get_coordinates(pixels)
    assert np.array_equal(corners, np.rint(corners))


@pytest.mark.parametrize("connectivity", [4, 8])
def test_a_region_across_blocks_is_one_polygon(make_raster, connectivity):
    mask = np.zeros((1100, 1200), np.uint8)
    mask[500:530, 10:1190] = 1
    mask[20:1090, 505:520] = 1
    path = make_raster(mask, tiled=True, blockxsize=512, blockysize=512)

    values, pixels, _ = traced(path, connectivity)

    assert values.tolist() == [1]
    assert len(pixels[0].geoms) == 1
    assert pixels[0].area == mask.sum()


def test_holes_and_islands_in_them_are_kept(make_raster):
    mask = np.ones((9, 9), np.uint8)
    mask[2:7, 2:7] = 0
    mask[4, 4] = 1

    _, pixels, _ = traced(make_raster(mask), 8)

    ring, island = sorted(pixels, key=lambda polygon: -polygon.area)
    assert [len(part.interiors) for part in ring.geoms] == [1]
    assert (ring.area, island.area) == (81 - 25, 1)


def test_a_ring_that_touches_itself_at_corners_becomes_one_valid_multipolygon(make_raster):
    mask = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8)

    values, pixels, _ = traced(make_raster(mask), 8)

    assert values.tolist() == [1]
    assert pixels[0].is_valid
    assert pixels[0].area == 4
    assert not pixels[0].contains(shapely.Point(1.5, 1.5))


def test_regions_of_zero_on_demand(make_raster):
    values, pixels, _ = traced(make_raster(np.array([[0, 1], [0, 1]], np.uint8)), 8, keep_zero=True)

    assert sorted(values.tolist()) == [0, 1]
    assert shapely.area(pixels).tolist() == [2, 2]


def test_as_multipolygons_keeps_empty_places():
    geometries = np.array([shapely.box(0, 0, 1, 1), shapely.Polygon()], dtype=object)

    assert [geometry.area for geometry in as_multipolygons(geometries)] == [1, 0]
    assert len(as_multipolygons(np.empty(0, object))) == 0
