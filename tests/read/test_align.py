import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from changedet.errors import ConfigError
from changedet.grid import Window
from changedet.grid.lattice import pixel_offset
from changedet.read.align import ground_resolution, overlap, place, window_of
from changedet.read.displacement import Displacement
from tests.data import geobox

GRID = geobox(300, 200)


@pytest.mark.parametrize(
    "target",
    [
        geobox(50, 60, row=0.02),
        geobox(50, 60, crs="EPSG:32632"),
        GRID.flipy(),
        # The first pixels agree; at the far end the grids are 0.03 px apart.
        geobox(300, 200, transform=Affine(10.0015, 0, 500_000, 0, -10, 5_600_000)),
    ],
    ids=["part of a pixel", "other CRS", "south up", "other pixel size"],
)
def test_other_lattices_are_told_apart(target):
    assert pixel_offset(GRID, target) is None
    assert place(GRID, target).how == "warped"


def test_a_shift_always_warps_to_where_the_pixels_are_found():
    placement = place(GRID, GRID, displacement=Displacement.constant(0.7, -1.3))
    assert placement.how == "warped"
    assert placement.geobox == geobox(300, 200, row=0.7, col=-1.3)


@pytest.mark.parametrize(
    ("source", "scale"),
    [
        (GRID.zoom_out(2), 1.0),
        (GRID.zoom_to(resolution=5), 0.5),
        (GRID.flipy().translate_pix(0.5, 0), 1.0),
        (GRID.rotate(30), 1.0),
    ],
    ids=["coarser", "finer", "south up", "turned"],
)
def test_kernel_is_widened_only_for_finer_sources(source, scale):
    placement = place(source, GRID)
    assert (placement.x_scale, placement.y_scale) == pytest.approx((scale, scale))


def test_overlap_takes_every_pixel_that_is_touched_and_no_sliver():
    assert overlap(GRID, geobox(10, 10, row=19.5, col=29.995)) == GRID[19:30, 30:40]


def test_ground_resolution_is_in_metres_in_any_crs():
    assert ground_resolution(GRID) == pytest.approx((10, 10), rel=0.001)
    degrees = GeoBox((100, 100), Affine(1e-4, 0, 15, 0, -1e-4, 60), "EPSG:4326")
    height, width = ground_resolution(degrees)
    # A degree of latitude is 111.4 km at 60° N, one of longitude about half of that.
    assert height == pytest.approx(11.14, abs=0.01)
    assert width == pytest.approx(5.58, abs=0.01)


def test_window_of_a_crop():
    assert window_of(GRID, GRID[10:40, 5:25]) == Window(10, 5, 30, 20)
    with pytest.raises(ConfigError, match="not a crop"):
        window_of(GRID, geobox(5, 5, row=0.5))
