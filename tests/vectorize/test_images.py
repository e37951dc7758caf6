from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from changedet.vectorize.images import ImageBand, Imagery, Images
from changedet.vectorize.regions import Regions, connected_regions
from tests.vectorize.conftest import NORTH_UP, UTM

GRID = GeoBox((40, 40), NORTH_UP, UTM)
CRS = pyproj.CRS(UTM)
RANDOM = np.random.default_rng(11)
SCENE = RANDOM.integers(1, 3000, (3, 40, 40), dtype=np.uint16)
MASK = (RANDOM.random((40, 40)) < 0.4).astype(np.uint8)


def still(rows, cols):
    return np.zeros_like(rows), np.zeros_like(cols)


def bands(path, count=3, nodata=0.0):
    return tuple(ImageBand(f"B0{i + 2}", str(path), i + 1, 1e-4, -0.1, nodata) for i in range(count))


def reflectance(mask_path, imagery, *, rows=1000):
    """Return the regions of a mask and their means at both dates, (N, B) each."""
    with ExitStack() as stack:
        mask = stack.enter_context(rasterio.open(mask_path))
        images = Images(imagery, GeoBox.from_rio(mask), stack)
        found = Regions.none(images.count)
        for more in connected_regions(mask, None, images, connectivity=8, nodata=255, strip_px=rows * mask.width):
            found = found.and_(more)
        before, after = images.reflectance(found, CRS)
        return found, *(np.column_stack([date[band.name] for band in imagery.before]) for date in (before, after))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), rows=st.sampled_from([1, 7, 100]), offset=st.tuples(*[st.integers(-9, 9)] * 2))
def test_sums_of_strips_are_what_exactextract_finds_on_the_same_pixels(make_raster, seed, rows, offset):
    random = np.random.default_rng(seed)
    mask = make_raster((random.random((40, 40)) < 0.3).astype(np.uint8))
    stored = random.integers(0, 4, (3, 40, 40)).astype(np.uint16)  # a quarter is nodata
    place = NORTH_UP @ Affine.translation(*offset)
    imagery = bands(make_raster(SCENE)), bands(make_raster(stored, transform=place, nodata=3))

    _, before, after = reflectance(mask, Imagery(*imagery), rows=rows)
    _, same, oracle = reflectance(mask, Imagery(*imagery, (None, still)), rows=rows)  # a displacement, of nothing

    assert before == pytest.approx(same, rel=1e-9)
    assert after == pytest.approx(oracle, rel=1e-6, nan_ok=True)


def test_pixels_that_a_file_hides_do_not_count(make_raster):
    image = np.array([[10.0, np.nan, 30.0, 40.0]], np.float32)
    path = make_raster(image, nodata=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.array([[255, 255, 255, 0]], np.uint8))
    band = (ImageBand("B04", str(path), 1, 1.0, 0.0, None),)

    _, before, _ = reflectance(make_raster(np.ones((1, 4), np.uint8)), Imagery(band, band))

    assert before == pytest.approx(np.array([[20.0]]))


@pytest.mark.parametrize("displaced", [None, still])
def test_the_largest_values_do_not_count_whatever_their_tag_says(make_raster, displaced):
    image = np.array([[10.0, 30.0, -3.4028235e38, np.inf]], np.float32)
    band = (ImageBand("B04", str(make_raster(image, nodata=None)), 1, 1.0, 0.0, -np.inf),)

    _, before, _ = reflectance(make_raster(np.ones((1, 4), np.uint8)), Imagery(band, band, (displaced, None)))

    assert before == pytest.approx(np.array([[20.0]]))


def test_a_date_that_is_displaced_is_looked_up_where_it_lies(make_raster):
    moved = Affine(10, 0, NORTH_UP.c - 80, 0, -10, NORTH_UP.f)
    scenes = bands(make_raster(SCENE)), bands(make_raster(SCENE, transform=moved))

    def there(rows, cols):
        return 0 * rows, 0 * cols - 8

    _, before, after = reflectance(make_raster(MASK), Imagery(*scenes, (None, there)))
    _, other, same = reflectance(make_raster(MASK), Imagery(*reversed(scenes), (there, None)))

    assert other == pytest.approx(same, rel=1e-6)
    assert after == pytest.approx(before, rel=1e-6)


def test_a_date_in_another_crs_is_read_on_its_own_pixels(make_raster):
    # Web Mercator pixels of about the same ground, whose values say where they are.
    x, y = Transformer.from_crs(UTM, 3857, always_xy=True).transform(NORTH_UP.c, NORTH_UP.f)
    place = Affine(15.6, 0, x - 80, 0, -15.6, y + 80)
    col = np.arange(60, dtype=np.uint16)[None].repeat(60, axis=0) * 100 + 100
    later = (ImageBand("B04", str(make_raster(col, crs="EPSG:3857", transform=place, nodata=0)), 1, 1.0, 0.0, 0),)
    earlier = (ImageBand("B04", str(make_raster(np.ones((40, 40), np.uint16), nodata=0)), 1, 1.0, 0.0, 0),)
    mask = np.zeros((40, 40), np.uint8)
    mask[5:30, np.arange(40) % 8 > 1] = 1

    found, _, after = reflectance(make_raster(mask), Imagery(earlier, later))

    centres = shapely.get_coordinates(shapely.centroid(found.pixels)) * [10, -10] + [NORTH_UP.c, NORTH_UP.f]
    x, _ = Transformer.from_crs(UTM, 3857, always_xy=True).transform(*centres.T)
    assert after[:, 0] == pytest.approx(((x - place.c) / 15.6 - 0.5) * 100 + 100, rel=1e-3)


def test_a_date_a_whole_circle_away_or_placed_by_control_points_is_read_where_it_lies(make_raster):
    degrees = Affine(1e-4, 0, 179.998, 0, -1e-4, 10)
    mask = make_raster(MASK, crs="EPSG:4326", transform=degrees)
    moved = make_raster(SCENE, crs="EPSG:4326", transform=Affine(1e-4, 0, -180.002, 0, -1e-4, 10))
    lost = make_raster(SCENE, transform=Affine.translation(7, 7))
    grid = GeoBox((40, 40), degrees, "EPSG:4326")
    before = bands(make_raster(SCENE, crs="EPSG:4326", transform=degrees))
    placed = tuple(replace(band, geobox=grid) for band in bands(lost))
    # Of another lattice, so that it is not read with the mask.
    finer = make_raster(np.repeat(SCENE, 2, axis=2), crs="EPSG:4326", transform=Affine(5e-5, 0, -180.002, 0, -1e-4, 10))

    for after in (bands(finer), placed):
        _, first, second = reflectance(mask, Imagery(before, after))
        assert second == pytest.approx(first, rel=1e-6)
    _, first, second = reflectance(mask, Imagery(before, tuple(replace(band, geobox=grid) for band in bands(moved))))
    assert second == pytest.approx(first, rel=1e-6)


def test_what_a_date_does_not_show_is_unknown(make_raster):
    far = make_raster(SCENE, transform=Affine(10, 0, 9e5, 0, -10, NORTH_UP.f))

    _, before, after = reflectance(make_raster(MASK), Imagery(bands(make_raster(SCENE)), bands(far)))

    assert np.isfinite(before).all()
    assert np.isnan(after).all()


def test_without_scenes_nothing_is_summed(make_raster):
    with ExitStack() as stack:
        images = Images(None, GRID, stack)

        assert images.count == 0
        assert images.reflectance(Regions.none(), CRS) == ({}, {})
