import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changedet.errors import ConfigError
from changedet.grid import ChipPlan, Lattice, Window, plan_again, plan_chips


@st.composite
def plans(draw) -> ChipPlan:
    """Draw a plan of any raster, chip, halo and stride that leaves a core."""
    stride = draw(st.sampled_from([1, 2, 8, 16, 32]))
    halo = draw(st.integers(0, 4)) * stride
    chip = 2 * halo + draw(st.integers(1, 8)) * stride
    height, width = (draw(st.integers(1, 16 * stride)) for _ in range(2))
    return plan_chips(height, width, chip=chip, halo=halo, stride=stride, fixed=draw(st.booleans()))


def _padded(length: int, stride: int) -> int:
    return -(-length // stride) * stride


@given(plans())
def test_cores_partition_the_raster(plan):
    count = np.zeros((plan.height, plan.width), int)
    for chip in plan.chips:
        count[chip.core.slices] += 1
    assert (count == 1).all()
    # A core that reached outside would be cut off by the slices.
    assert sum(chip.core.height * chip.core.width for chip in plan.chips) == plan.height * plan.width


@given(plans(), st.data())
def test_the_chips_within_a_window_keep_each_of_its_pixels_once_and_read_as_the_whole_plan_does(plan, data):
    row, col = data.draw(st.integers(0, plan.height - 1)), data.draw(st.integers(0, plan.width - 1))
    window = Window(row, col, data.draw(st.integers(1, plan.height)), data.draw(st.integers(1, plan.width)))
    count = np.zeros((plan.height, plan.width), int)
    whole = {chip.read: chip.core for chip in plan.chips}
    for chip in plan.within(window).chips:
        count[chip.core.slices] += 1
        assert chip.core == whole[chip.read].intersect(window)
    expected = np.zeros_like(count)
    expected[window.slices] = 1
    np.testing.assert_array_equal(count, expected)


def test_a_window_outside_the_raster_is_refused():
    plan = plan_chips(40, 30, chip=16, halo=0, stride=1)
    for window in (Window(40, 0, 8, 8), Window(0, 30, 8, 8), Window(-8, 0, 8, 8)):
        with pytest.raises(ConfigError, match="a window that meets the raster, 40 x 30 px"):
            plan.within(window)


@given(plans())
def test_core_lies_a_halo_inside_its_chip_unless_at_the_edge(plan):
    bottom, right = _padded(plan.height, plan.stride), _padded(plan.width, plan.stride)
    for chip in plan.chips:
        read, core = chip.read, chip.core
        assert core.row - read.row >= plan.halo or read.row == core.row == 0
        assert core.col - read.col >= plan.halo or read.col == core.col == 0
        assert read.stop_row - core.stop_row >= plan.halo or read.stop_row == bottom
        assert read.stop_col - core.stop_col >= plan.halo or read.stop_col == right


@given(plans())
def test_chips_start_at_the_stride_and_have_one_shape(plan):
    assert {(chip.read.height, chip.read.width) for chip in plan.chips} == {(plan.chip_height, plan.chip_width)}
    assert all(start % plan.stride == 0 for chip in plan.chips for start in (chip.read.row, chip.read.col))
    assert plan.chip_height % plan.stride == plan.chip_width % plan.stride == 0


@given(plans())
def test_no_window_is_read_twice_and_none_outside(plan):
    assert len({chip.read for chip in plan.chips}) == len(plan.chips)
    for read in (chip.read for chip in plan.chips):
        assert read.row >= 0
        assert read.col >= 0
        assert read.stop_row < plan.height + plan.stride
        assert read.stop_col < plan.width + plan.stride


def test_small_raster_is_one_chip_padded_to_the_stride():
    plan = plan_chips(50, 33, chip=512, halo=64, stride=16)
    (chip,) = plan.chips
    assert (chip.read.height, chip.read.width) == (64, 48)
    assert (chip.core.height, chip.core.width) == (50, 33)


def test_redundancy_counts_what_is_read_beyond_the_raster():
    # Two chips of 96 for an axis of 128, one for the other of 96.
    plan = plan_chips(128, 96, chip=96, halo=16, stride=16, fixed=True)
    assert plan.redundancy == pytest.approx(2 * 96 * 96 / (128 * 96) - 1)


@given(plans())
def test_lattice_says_how_to_make_the_same_plan(plan):
    told = json.loads(json.dumps(plan.lattice()))
    assert plan_again(told) == plan
    assert told["chips"] == len(plan.chips)


@given(plans(), st.integers(1, 8))
def test_chips_are_as_small_as_their_number_allows(plan, spare):
    chip = 2 * plan.halo + spare * plan.stride

    def planned(longest, **fixed):
        return plan_chips(plan.height, plan.width, chip=longest, halo=plan.halo, stride=plan.stride, **fixed)

    even, of_one_size = planned(chip), planned(chip, fixed=True)
    assert len(even.chips) == len(of_one_size.chips)
    assert even.redundancy <= of_one_size.redundancy
    longest = max(even.chip_height, even.chip_width)
    assert planned(longest) == even
    if longest > 2 * plan.halo + plan.stride:
        assert len(planned(longest - plan.stride).chips) > len(even.chips) or longest == plan.stride


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"chip": 100, "halo": 0, "stride": 16}, "multiples of the stride"),
        ({"chip": 128, "halo": 10, "stride": 16}, "multiples of the stride"),
        ({"chip": 64, "halo": 32, "stride": 16}, "a chip of more than 64 px"),
        ({"chip": 64, "halo": -16, "stride": 16}, "positive sizes"),
        ({"chip": 0, "halo": 0, "stride": 16}, "positive sizes"),
    ],
)
def test_plans_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(ConfigError, match=message):
        plan_chips(500, 500, **sizes)


@given(plans())
def test_a_lattice_tells_the_edges_of_the_cores_without_making_chips(plan):
    lattice = Lattice(max(plan.chip_height, plan.chip_width), plan.halo, plan.stride)
    made = lattice.over(plan.height, plan.width)
    cores = [chip.core for chip in made.chips]
    assert lattice.edges(plan.height) == [*sorted({core.row for core in cores}), plan.height]
    assert (lattice.side(plan.height), lattice.side(plan.width)) == (made.chip_height, made.chip_width)
    assert lattice.edges(plan.width) == [*sorted({core.col for core in cores}), plan.width]
