import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changedet.errors import ConfigError
from changedet.grid import Window, snap
from changedet.grid.window import blocks

windows = st.builds(Window, st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 20), st.integers(1, 20))


def _pixels(window: Window) -> set[tuple[int, int]]:
    return {(r, c) for r in range(window.row, window.stop_row) for c in range(window.col, window.stop_col)}


@pytest.mark.parametrize("fields", [(0.5, 0, 1, 1), (0, 0, 1.0, 1), (0, 0, True, 1), (0, 0, 1, np.int64(1))])
def test_window_holds_nothing_but_integers(fields):
    with pytest.raises(ConfigError, match="four integers"):
        Window(*fields)


@pytest.mark.parametrize(("height", "width"), [(0, 1), (1, 0), (-3, 5)])
def test_window_is_never_empty(height, width):
    with pytest.raises(ConfigError, match="at least 1 x 1"):
        Window(0, 0, height, width)


@given(windows, windows)
def test_intersect_is_the_intersection_of_the_pixels(one, other):
    shared = one.intersect(other)
    assert (set() if shared is None else _pixels(shared)) == _pixels(one) & _pixels(other)


@given(windows, windows)
def test_relative_to_counts_from_the_origin(window, origin):
    assert window.relative_to(origin).shifted(origin.row, origin.col) == window


def test_slices_cut_the_pixels():
    image = np.arange(48).reshape(6, 8)
    assert np.array_equal(image[Window(2, 3, 2, 4).slices], image[2:4, 3:7])


@given(st.integers(-(10**6), 10**6), st.floats(-0.009, 0.009))
def test_snap_finds_the_integer_nearby(whole, error):
    assert snap(whole + error, 0.01) == whole


@pytest.mark.parametrize("value", [0.5, 3.02, -1.011, math.nan, math.inf])
def test_snap_refuses_what_is_no_pixel(value):
    with pytest.raises(ConfigError, match="whole number of pixels"):
        snap(value, 0.01)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70))
def test_blocks_partition_a_raster(height, width, size):
    count = np.zeros((height, width), int)
    for block in blocks(height, width, size):
        assert max(block.height, block.width) <= size
        count[block.slices] += 1
    assert (count == 1).all()


@given(st.integers(-50, 50), st.integers(1, 90), st.integers(1, 90), st.integers(1, 5000))
def test_strips_are_whole_rows_in_order_that_partition_a_window(row, height, width, pixels):
    strips = Window(row, 3, height, width).strips(pixels)

    assert [strip.row for strip in strips] == [row, *[strip.stop_row for strip in strips[:-1]]]
    assert strips[-1].stop_row == row + height
    assert {(strip.col, strip.width) for strip in strips} == {(3, width)}
    assert all(strip.height == 1 or strip.height * width <= pixels for strip in strips)
