import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changedet.errors import ConfigError
from changedet.grid.quantise import NODATA, STEPS, quantise, stored_threshold


def _stored(*values: float) -> list[int]:
    row = np.array([values], np.float32)
    return quantise(row, np.ones(row.shape, bool))[0].tolist()


def test_steps_survive_a_round_trip():
    steps = np.arange(STEPS + 1, dtype=np.uint8)[None]
    assert np.array_equal(quantise((steps / STEPS).astype(np.float32), np.ones(steps.shape, bool)), steps)


def test_out_of_range_is_clipped_and_never_nodata():
    assert _stored(-0.1, 0.0, 1.0, 1.000001, 7.0) == [0, 0, 254, 254, 254]


def test_not_finite_is_no_data():
    assert _stored(math.nan, math.inf, -math.inf, 0.5) == [255, 255, 255, 127]


def test_invalid_pixel_is_no_data_in_every_class():
    valid = np.array([[True, False]])
    assert quantise(np.full((3, 1, 2), 0.5, np.float32), valid).tolist() == [[[127, NODATA]]] * 3


@given(st.floats(0, 1), st.floats(0, 1, width=32))
def test_threshold_on_the_stored_value_agrees_with_the_stored_probability(threshold, probability):
    stored = _stored(probability)[0]
    # To a billionth of a step: 254 * (k / 254) is not always k.
    assert (stored >= stored_threshold(threshold)) == (stored >= STEPS * threshold - 1e-9)


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_threshold_at_a_step_is_that_step(step):
    assert stored_threshold(step / STEPS) == step


@pytest.mark.parametrize("threshold", [-0.01, 1.0001, 50, math.nan, math.inf])
def test_threshold_outside_0_to_1_is_refused(threshold):
    with pytest.raises(ConfigError, match="a probability from 0 to 1"):
        stored_threshold(threshold)
