"""From the shifts of windows to what is removed."""

import numpy as np
import pytest

from changedet.read.coregister import ShiftEstimate, WindowShifts, agree
from changedet.read.displacement import NONE, Displacement
from changedet.read.field import register

RNG = np.random.default_rng(7)


def _bend(row: float, col: float) -> np.ndarray:
    """Return a displacement of up to 1.5 px that bends over 1000 px."""
    return np.array([1.2 * np.sin(row / 400) - 0.3, 0.9 * np.cos(col / 350) + 0.2 * row / 1000])


def _windows(shift, *, per_axis: int = 8, noise: float = 0.03, wrong: int = 0) -> list[WindowShifts]:
    """Return windows of three bands that measure `shift(row, col)`; the first `wrong` of them measure anything."""
    places = [(96 + 115 * i, 96 + 115 * j) for i in range(per_axis) for j in range(per_axis)]
    order = RNG.permutation(len(places))
    windows = []
    for number, (row, col) in enumerate(places):
        true = shift(row, col) if order[number] >= wrong else RNG.uniform(-3.5, 3.5, 2)
        windows.append(WindowShifts(row, col, true + RNG.normal(0, noise, (3, 2))))
    return windows


@pytest.mark.parametrize("wrong", [0, 10])
def test_a_bend_becomes_a_field_that_windows_with_change_do_not_pull(wrong: int) -> None:
    windows = _windows(_bend, wrong=wrong)
    found = register(windows, agree(windows))
    assert found.why.startswith("a field removed")
    rows, cols = np.meshgrid(np.linspace(96, 900, 30), np.linspace(96, 900, 30), indexing="ij")
    down, right = found.displacement.at(rows, cols)
    error = np.hypot(*(np.stack([down, right]) - _bend(rows, cols)))
    assert np.median(error) < 0.05
    assert np.percentile(error, 95) < 0.15


def test_windows_that_agree_on_one_shift_need_no_field() -> None:
    windows = _windows(lambda row, col: np.array([0.7, -1.2]))
    found = register(windows, agree(windows))
    assert found.displacement.is_constant
    assert found.displacement.mean == pytest.approx((0.7, -1.2), abs=0.02)
    assert "a field would not be better" in found.why


def test_windows_that_disagree_at_random_fall_back_to_one_shift() -> None:
    windows = _windows(lambda row, col: np.array([0.7, -1.2]) + RNG.normal(0, 0.3, 2))
    found = register(windows, agree(windows))
    assert found.displacement.is_constant
    assert found.why.startswith("one shift removed")


def test_few_windows_fall_back_to_one_shift() -> None:
    windows = _windows(_bend, per_axis=3)
    found = register(windows, agree(windows))
    assert found.displacement.is_constant
    assert "too few for a field" in found.why


def test_windows_that_agree_on_nothing_remove_nothing() -> None:
    windows = _windows(lambda row, col: np.zeros(2), wrong=64)
    found = register(windows, agree(windows))
    assert found.displacement == NONE
    assert "nothing removed" in found.why


@pytest.mark.parametrize("field", [True, False])
def test_dates_that_lie_on_each_other_have_no_shift_to_remove(field: bool) -> None:
    found = register([WindowShifts(96.0, 96.0, np.zeros((8, 2)))], ShiftEstimate(0.0, 0.0, 8, 8, 0.0), field=field)
    assert found.displacement == NONE
    assert found.why.startswith("no shift to remove")


def test_one_shift_can_be_asked_for() -> None:
    windows = _windows(_bend)
    assert register(windows, agree(windows), field=False).displacement.is_constant


def test_a_field_goes_through_its_nodes_and_stays_beyond_them() -> None:
    field = Displacement((0.0, 50.0), (0.0, 100.0), ((0.0, 1.0), (2.0, 3.0)), ((0.0, 0.0), (0.5, 0.5)))
    down, right = field.at(np.array([[0.0, 50.0, -90.0, 25.0]]), np.array([[0.0, 100.0, 400.0, 50.0]]))
    assert down.tolist() == [[0.0, 3.0, 1.0, 1.5]]
    assert right.tolist() == [[0.0, 0.5, 0.0, 0.25]]
    assert field.largest == pytest.approx(np.hypot(3, 0.5))
