import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from changedet.vectorize import zonal
from changedet.vectorize.polygons import polygon_batches

SHAPE = (11, 13)
LABELS = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 1]))
STORED = arrays(np.uint8, SHAPE, elements=st.integers(0, 255))


def statistics(mask_path, probability_path, **options):
    with rasterio.open(mask_path) as mask, rasterio.open(probability_path) as probability:
        pixels = np.concatenate([np.empty(0, object), *(pixels for _, pixels in polygon_batches(mask, connectivity=8))])
        return pixels, *zonal.mean_and_max(pixels, probability, **options)


def covered(polygon, shape):
    return rasterio.features.rasterize([polygon], out_shape=shape).astype(bool)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mask=LABELS, stored=STORED)
def test_mean_and_maximum_of_the_stored_values_against_numpy(make_raster, mask, stored):
    pixels, mean, largest = statistics(make_raster(mask), make_raster(stored, scale=1 / 254))

    for index, polygon in enumerate(pixels):
        values = stored[covered(polygon, SHAPE) & (stored != 255)] / 254
        expected = (values.mean(), values.max()) if values.size else (np.nan, np.nan)
        assert (mean[index], largest[index]) == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_neighbours_do_not_leak_in_at_coordinates_that_round(make_raster):
    place = Affine(9.6e-6, 2.9e-6, 179.123456789, 2.9e-6, -9.6e-6, 60.1)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 1
    stored = np.where(mask == 1, 100, 254).astype(np.uint8)

    _, mean, largest = statistics(
        make_raster(mask, transform=place), make_raster(stored, transform=place, scale=1 / 254)
    )

    assert (mean[0], largest[0]) == pytest.approx((100 / 254, 100 / 254), rel=1e-12)


def test_a_polygon_larger_than_what_is_read_at_once(make_raster, monkeypatch):
    monkeypatch.setattr(zonal, "_MAX_CELLS", 500)
    stored = np.random.default_rng(0).integers(0, 255, (90, 80), dtype=np.uint8)

    _, mean, largest = statistics(make_raster(np.ones_like(stored)), make_raster(stored, scale=1 / 254))

    assert mean == pytest.approx([stored.mean() / 254])
    assert largest == pytest.approx([stored.max() / 254])


def test_another_band_and_floats_with_nan(make_raster):
    mask = np.array([[1, 1, 0]], np.uint8)
    floats = np.array([[[0, 0, 0]], [[0.25, np.nan, 1]]], np.float32)

    _, mean, largest = statistics(make_raster(mask), make_raster(floats, nodata=None), band=2)

    assert (mean.tolist(), largest.tolist()) == ([0.25], [0.25])


def test_no_polygons(make_raster):
    empty = make_raster(np.zeros((3, 3), np.uint8))

    assert [len(column) for column in statistics(empty, empty)] == [0, 0, 0]
