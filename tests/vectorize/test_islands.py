import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from changedet.grid.window import Window
from changedet.vectorize import Labels, vectorize
from changedet.vectorize.islands import Island, islands_of
from changedet.vectorize.regions import Regions, connected_regions
from tests.vectorize.tables import Tables

SIDE = 16
WINDOWS = st.lists(
    st.builds(
        lambda row, col, height, width: Window(row, col, min(height, SIDE - row), min(width, SIDE - col)),
        *(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1), st.integers(1, 6), st.integers(1, 6)),
    ),
    max_size=6,
)
MASKS = arrays(np.uint8, (SIDE, SIDE), elements=st.sampled_from([0, 1, 1, 2, 255]))
SAME_FOLDER = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def covered(windows):
    where = np.zeros((SIDE, SIDE), bool)
    for window in windows:
        where[window.slices] = True
    return where


def corners(windows):
    return np.array([(w.row, w.col, w.height, w.width) for w in windows], np.int32).reshape(-1, 4)


def told(found):
    columns = (found.values, found.at_edge, found.count, found.total)
    return sorted(
        zip(map(shapely.to_wkt, shapely.normalize(found.pixels)), *(column.tolist() for column in columns), strict=True)
    )


def gathered(path, islands, **options):
    found = Regions.none()
    with rasterio.open(path) as mask:
        for island in islands:
            for more in connected_regions(mask, mask, island=island, connectivity=8, nodata=255, **options):
                found = found.and_(more)
    return found


@given(windows=WINDOWS)
def test_islands_hold_every_window_once_and_are_apart(windows):
    islands = islands_of(corners(windows))

    assert sum(len(island.windows) for island in islands) == len(windows)
    for island in islands:
        first, stop = island.windows[:, :2].min(axis=0), island.windows[:, 2:].max(axis=0)
        assert island.bounds == Window(*first.tolist(), *(stop - first).tolist())
    apart = np.zeros((SIDE + 2, SIDE + 2), int)
    for island in islands:
        bounds = island.bounds
        assert not apart[bounds.row : bounds.stop_row + 2, bounds.col : bounds.stop_col + 2].any()
        apart[bounds.shifted(1, 1).slices] = 1


@SAME_FOLDER
@given(mask=MASKS, windows=WINDOWS, rows=st.sampled_from([1, 3, SIDE]))
def test_regions_are_those_of_the_mask_that_is_unknown_elsewhere(make_raster, mask, windows, rows):
    asked = covered(windows)
    hidden = np.where(asked, mask, 255).astype(np.uint8)

    found = gathered(make_raster(mask), islands_of(corners(windows)), strip_px=rows * SIDE)

    of_all = gathered(make_raster(hidden), [Island.whole(SIDE, SIDE)])
    changed = of_all.where(of_all.values != 255)
    assert told(found.where(found.values != 255)) == told(changed)
    _, unknown = ndimage.label(asked & (mask == 255), np.ones((3, 3)))
    assert (found.values == 255).sum() == unknown


@SAME_FOLDER
@given(mask=MASKS, windows=WINDOWS)
def test_footprint_and_unknown_are_what_was_asked_for(make_raster, mask, windows):
    sink = Tables()

    vectorize(make_raster(mask), sink=sink, labels=Labels(), islands=islands_of(corners(windows)))

    asked = covered(windows)
    for layer, where in (("unknown", asked & (mask == 255)), ("footprint", asked & (mask != 255))):
        area = sum(table.geometry.area.sum() for table in sink.batches[layer])
        assert area == pytest.approx(where.sum() * 100)


def test_ground_between_far_apart_windows_is_not_read(make_raster):
    mask = np.ones((SIDE, SIDE), np.uint8)
    windows = [Window(0, 0, 3, 3), Window(12, 12, 4, 4)]
    read = []
    with rasterio.open(make_raster(mask)) as dataset:

        class Told:
            shape = dataset.shape

            def read(self, band, window):
                read.append((window.row_off, window.col_off, window.height, window.width))
                return dataset.read(band, window=window)

        for island in islands_of(corners(windows)):
            list(connected_regions(Told(), island=island, connectivity=8, nodata=255))
    assert read == [(0, 0, 3, 3), (12, 12, 4, 4)]
