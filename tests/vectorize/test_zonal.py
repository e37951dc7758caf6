import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changedet.vectorize import zonal

STORED = np.random.default_rng(4).integers(1, 255, (50, 60), dtype=np.uint8)


def mean_of(path, polygons, **options):
    with rasterio.open(path) as dataset:
        nodata = [options.get("nodata")] * dataset.count
        return zonal.means(np.array(polygons, dtype=object), dataset, dataset.indexes, nodata).T[0]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bounds=st.tuples(*[st.integers(0, 49)] * 4))
def test_whole_pixels_count_once_each(make_raster, bounds):
    left, right = sorted(bounds[:2])
    top, bottom = sorted(bounds[2:])

    found = mean_of(make_raster(STORED), [shapely.box(left, top, right + 1, bottom + 1)])

    assert found == pytest.approx([STORED[top : bottom + 1, left : right + 1].mean()], rel=1e-12)


def test_pixels_count_with_the_part_that_is_covered_and_invalid_ones_do_not(make_raster):
    row = np.array([[10, 20, 0, 200]], np.uint8)

    assert mean_of(make_raster(row), [shapely.box(0.5, 0, 2, 1)]) == pytest.approx([(5 + 20) / 1.5])
    found = mean_of(make_raster(row, nodata=200), [shapely.box(1, 0, 4, 1), shapely.box(3, 0, 4, 1)], nodata=0)
    assert found == pytest.approx([20, np.nan], nan_ok=True)


def test_polygons_keep_their_order_over_pieces_of_the_raster(make_raster, monkeypatch):
    monkeypatch.setattr(zonal, "_MAX_CELLS", 300)
    boxes = [shapely.box(col, row, col + 3, row + 2) for row, col in [(40, 50), (0, 0), (20, 30), (47, 2), (-9, -9)]]

    found = mean_of(make_raster(STORED), boxes)

    assert found[:4] == pytest.approx(
        [STORED[r : r + 2, c : c + 3].mean() for r, c in [(40, 50), (0, 0), (20, 30), (47, 2)]]
    )
    assert np.isnan(found[4])


def test_bands_have_each_their_own_values_and_nodata(make_raster):
    row = np.array([[[1, 2, 3]], [[4, 5, 6]]], np.uint8)

    with rasterio.open(make_raster(row)) as dataset:
        found = zonal.means(np.array([shapely.box(0, 0, 3, 1)], dtype=object), dataset, [2, 1], [4, None])

    assert found == pytest.approx(np.array([[5.5, 2.0]]))


def test_polygons_beside_the_raster_and_touching_it_are_no_crash(make_raster):
    # exactextract alone ends the process on the first.
    corner = "MULTIPOLYGON (((-2 12,-2 13,1 13,1 12,0 12,0 10,-1 10,-1 12,-2 12)),((-3 12,-5 12,-5 13,-3 13,-3 12)))"
    polygons = [
        *shapely.from_wkt([corner]),
        shapely.box(-1, 0, 0, 3),
        shapely.box(59, 49, 70, 70),
        shapely.MultiPolygon(),
    ]

    found = mean_of(make_raster(STORED), polygons)

    assert found == pytest.approx([STORED[12, 0], np.nan, STORED[49, 59], np.nan], nan_ok=True)
    assert len(mean_of(make_raster(STORED), [])) == 0
