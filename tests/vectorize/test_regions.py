import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
import rasterio.env
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.features import rasterize
from scipy import ndimage

from changedet.vectorize.polygons import to_crs
from changedet.vectorize.regions import Regions, connected_regions

MASKS = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14), elements=st.sampled_from([0, 1, 1, 2, 255])
)
PLACES = st.sampled_from(
    [
        Affine(10, 0, 500_000, 0, -10, 5_600_000),
        Affine(1e-4, 0, 179.123456789, 0, -1e-4, 60.987654321),
        Affine(2.1, 3.8, 300_000.3, 1.4, -5.9, 10.7),
    ]
)
STRUCTURES = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}
SAME_FOLDER = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def regions_of(path, probability=None, *, connectivity=8, nodata=255, rows=1000):
    with rasterio.open(path) as mask, rasterio.open(probability or path) as stored:
        found = Regions.none()
        options = {"connectivity": connectivity, "nodata": nodata, "strip_px": rows * mask.width}
        for more in connected_regions(mask, stored if probability else None, **options):
            found = found.and_(more)
    return found


def burnt(geometries, values, shape, transform):
    if len(values) == 0:
        return np.zeros(shape, np.uint8)
    return rasterize(zip(geometries, values.tolist(), strict=True), out_shape=shape, transform=transform, dtype="uint8")


@SAME_FOLDER
@given(mask=MASKS, place=PLACES, connectivity=st.sampled_from([4, 8]), rows=st.sampled_from([1, 3, 1000]))
def test_rasterizing_the_polygons_gives_the_mask_back(make_raster, mask, place, connectivity, rows):
    found = regions_of(make_raster(mask, transform=place), connectivity=connectivity, rows=rows)

    assert np.array_equal(burnt(found.pixels, found.values, mask.shape, Affine.identity()), mask)
    assert np.array_equal(burnt(to_crs(found.pixels, place), found.values, mask.shape, place), mask)
    counts = [ndimage.label(mask == value, STRUCTURES[connectivity])[1] for value in (1, 2, 255)]
    assert [int((found.values == value).sum()) for value in (1, 2, 255)] == counts
    assert shapely.is_valid(to_crs(found.pixels, place)).all()
    assert {geometry.geom_type for geometry in found.pixels} <= {"MultiPolygon"}
    corners = shapely.get_coordinates(found.pixels)
    assert np.array_equal(corners, np.rint(corners))


def told(found):
    columns = (found.values, found.at_edge, found.count, found.total, found.largest)
    return sorted(
        zip(map(shapely.to_wkt, shapely.normalize(found.pixels)), *(column.tolist() for column in columns), strict=True)
    )


@SAME_FOLDER
@given(mask=MASKS, connectivity=st.sampled_from([4, 8]), rows=st.sampled_from([1, 2, 5]), seed=st.integers(0, 99))
def test_strips_make_no_difference(make_raster, mask, connectivity, rows, seed):
    stored = np.random.default_rng(seed).integers(0, 256, mask.shape, dtype=np.uint8)
    paths = make_raster(mask), make_raster(stored)

    whole, strips = (regions_of(*paths, connectivity=connectivity, rows=n) for n in (1000, rows))

    assert told(strips) == told(whole)


@SAME_FOLDER
@given(mask=MASKS, rows=st.sampled_from([1, 1000]), seed=st.integers(0, 99))
def test_statistics_are_those_of_the_pixels(make_raster, mask, rows, seed):
    stored = np.random.default_rng(seed).integers(0, 256, mask.shape, dtype=np.uint8)
    found = regions_of(make_raster(mask), make_raster(stored), rows=rows)

    for index, polygon in enumerate(found.pixels):
        values = stored[rasterize([polygon], out_shape=mask.shape) == 1]
        known = values[values != 255]
        expected = (len(known), known.sum(), known.max(initial=0) if len(known) else -np.inf)
        assert (found.count[index], found.total[index], found.largest[index]) == expected


@SAME_FOLDER
@given(mask=MASKS, rows=st.sampled_from([1, 3, 1000]))
def test_a_region_at_the_border_or_at_nodata_is_told(make_raster, mask, rows):
    found = regions_of(make_raster(mask), rows=rows)

    beyond = np.pad(mask == 255, 1, constant_values=True)
    near = ndimage.binary_dilation(beyond, STRUCTURES[8])[1:-1, 1:-1]
    for polygon, at_edge in zip(found.pixels, found.at_edge, strict=True):
        assert at_edge == (near & (rasterize([polygon], out_shape=mask.shape) == 1)).any()


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("rows", [64, 2000])
def test_a_region_across_blocks_and_strips_is_one_polygon(make_raster, connectivity, rows):
    mask = np.zeros((1100, 1200), np.uint8)
    mask[500:530, 10:1190] = 1
    mask[20:1090, 505:520] = 1
    path = make_raster(mask, tiled=True, blockxsize=512, blockysize=512)

    found = regions_of(path, connectivity=connectivity, rows=rows)

    assert found.values.tolist() == [1]
    assert len(found.pixels[0].geoms) == 1
    assert found.pixels[0].area == mask.sum()
    assert shapely.get_num_coordinates(found.pixels[0]) == 13  # a cross, and no vertex where a strip ended


def test_holes_and_islands_in_them_are_kept(make_raster):
    mask = np.ones((9, 9), np.uint8)
    mask[2:7, 2:7] = 0
    mask[4, 4] = 1

    ring, island = sorted(regions_of(make_raster(mask)).pixels, key=lambda polygon: -polygon.area)

    assert [len(part.interiors) for part in ring.geoms] == [1]
    assert (ring.area, island.area) == (81 - 25, 1)


@pytest.mark.parametrize("rows", [1, 10])
def test_a_ring_of_pixels_that_touch_at_corners_is_one_valid_multipolygon(make_raster, rows):
    mask = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8)

    found = regions_of(make_raster(mask), rows=rows)

    assert found.values.tolist() == [1]
    assert found.pixels[0].is_valid
    assert found.pixels[0].area == 4
    assert not found.pixels[0].contains(shapely.Point(1.5, 1.5))


def test_regions_of_zero_where_it_is_nodata(make_raster):
    path = make_raster(np.array([[0, 1], [0, 1]], np.uint8), nodata=0)

    assert sorted(regions_of(path, nodata=0).values.tolist()) == [0, 1]
    assert regions_of(path, nodata=None).values.tolist() == [1]


def test_floats_and_another_band_for_another_class(make_raster):
    mask = np.array([[1, 1, 0, 2]], np.uint8)
    floats = np.array([[[0.25, np.nan, 1, 0]], [[0, 0, 1, 0.5]]], np.float32)

    found = regions_of(make_raster(mask), make_raster(floats, nodata=None))

    assert (found.count.tolist(), found.total.tolist(), found.largest.tolist()) == ([1, 1], [0.25, 0.5], [0.25, 0.5])


class Seen:
    """Images of one band that note GDAL's options where they are read."""

    count = 1

    def __init__(self):
        self.options = []

    def values(self, strip, at):
        self.options.append(rasterio.env.getenv())
        yield np.zeros(len(at))


def test_strips_are_read_with_the_options_of_whoever_asks(make_raster):
    path, images = make_raster(np.ones((6, 4), np.uint8)), Seen()
    asked = {"GDAL_HTTP_MAX_RETRY": "7", "AWS_ACCESS_KEY_ID": "key"}

    def ask():
        with rasterio.Env(), rasterio.open(path) as mask:
            rasterio.env.setenv(**asked)
            return [len(done) for done in connected_regions(mask, None, images, connectivity=8, nodata=255, strip_px=8)]

    with ThreadPoolExecutor(1) as worker:
        assert worker.submit(ask).result() == ask() == [0, 0, 1]
    assert len(images.options) == 6
    assert all(asked.items() <= options.items() for options in images.options)


def test_an_error_in_a_strip_is_raised_and_no_thread_is_left(make_raster):
    class Broken(Seen):
        def values(self, strip, at):
            raise RuntimeError("damaged")

    before = threading.active_count()
    with rasterio.open(make_raster(np.ones((6, 4), np.uint8))) as mask:
        regions = connected_regions(mask, None, Broken(), connectivity=8, nodata=255, strip_px=8)
        with pytest.raises(RuntimeError, match="damaged"):
            next(regions)
    assert threading.active_count() == before
