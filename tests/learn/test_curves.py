import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.curves import BINS, PrecisionRecall, Reliability

_VALUES = arrays(np.uint8, 40, elements=st.integers(0, 254))
_FLAGS = arrays(np.bool_, 40)


@given(_VALUES, _FLAGS, _FLAGS)
def test_average_precision_is_scikit_learns(stored: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> None:
    stored = np.maximum(stored, 1)  # a threshold of 0 would call everything changed, and is not part of the curve
    assume((truth & valid).any())
    curve = PrecisionRecall.of(ProbabilityHistogram.of(stored, truth, valid))
    expected = metrics.average_precision_score(truth[valid], stored[valid])
    assert curve.average_precision == pytest.approx(expected)


@given(_VALUES, _FLAGS)
def test_the_curve_goes_through_the_masks_of_all_thresholds(stored: np.ndarray, truth: np.ndarray) -> None:
    histogram = ProbabilityHistogram.of(stored, truth, np.ones(40, np.bool_))
    curve = PrecisionRecall.of(histogram)
    for at in (0, 100, 253):
        counts = histogram.counts(curve.threshold[at])
        np.testing.assert_allclose([curve.precision[at], curve.recall[at]], [counts.precision, counts.recall])


def test_without_change_it_is_undefined() -> None:
    curve = PrecisionRecall.of(ProbabilityHistogram.empty())
    assert math.isnan(curve.average_precision)


@given(_VALUES, _FLAGS)
def test_the_expected_error_is_that_of_its_definition(stored: np.ndarray, truth: np.ndarray) -> None:
    reliability = Reliability.of(ProbabilityHistogram.of(stored, truth, np.ones(40, np.bool_)))
    bins = [stored // 17 == index for index in range(BINS)]
    expected = sum(abs(truth[b].mean() - stored[b].mean() / 254) * b.mean() for b in bins if b.any())
    assert reliability.expected_error == pytest.approx(expected)
    assert reliability.pixels.sum() == 40


def test_probabilities_that_come_true_have_no_error() -> None:
    changed = np.zeros(255, np.int64)
    changed[[0, 127, 254]] = 0, 500, 1000
    unchanged = np.zeros(255, np.int64)
    unchanged[[0, 127, 254]] = 1000, 500, 0
    assert Reliability.of(ProbabilityHistogram(changed, unchanged)).expected_error == 0
    assert Reliability.of(ProbabilityHistogram(unchanged, changed)).expected_error == pytest.approx(2 / 3)
    assert math.isnan(Reliability.of(ProbabilityHistogram.empty()).expected_error)
