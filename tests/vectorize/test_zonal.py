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
        return zonal.means(np.array(polygons, dtype=object), dataset, 1, **{"nodata": None, **options})


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
