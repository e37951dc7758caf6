import pytest

from changedet.grid.lattice import pixel_offset
from tests.data import geobox


@pytest.mark.parametrize(("row", "col"), [(0, 0), (4, -7), (4.004, -7.004)])
def test_whole_pixels_apart_within_the_rounding_of_headers(row, col):
    assert pixel_offset(geobox(300, 200), geobox(50, 60, row=row, col=col)) == (round(row), round(col))
