import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score

from changedet.learn.class_counts import ClassCounts, ClassHistogram
from changedet.learn.counts import ProbabilityHistogram
from changedet.write.raster import mask_of


def test_figures_are_scikit_learns_and_counts_add_up() -> None:
    rng = np.random.default_rng(3)
    truth, mask = rng.integers(0, 4, (2, 30, 40), dtype=np.uint8)
    valid = rng.random((30, 40)) > 0.2
    counts = ClassCounts.of(mask, truth, valid, classes=3)
    assert np.array_equal(counts.confusion, confusion_matrix(truth[valid], mask[valid]))
    assert counts.kappa == pytest.approx(cohen_kappa_score(truth[valid], mask[valid]))
    assert counts.mean_f1 == pytest.approx(f1_score(truth[valid], mask[valid], labels=[1, 2, 3], average="macro"))
    assert counts.change().f1 == pytest.approx(f1_score(truth[valid] > 0, mask[valid] > 0))
    halves = [ClassCounts.of(mask[part], truth[part], valid[part], classes=3) for part in (slice(15), slice(15, None))]
    assert np.array_equal((halves[0] + halves[1]).confusion, counts.confusion)


def test_nothing_has_no_ratios() -> None:
    nothing = np.zeros((2, 2), np.uint8)
    counts = ClassCounts.of(nothing, nothing, np.zeros((2, 2), np.bool_), classes=2)
    assert math.isnan(counts.mean_f1)
    assert math.isnan(counts.kappa)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_a_histogram_gives_the_counts_of_the_mask_of_any_threshold(threshold: float) -> None:
    rng = np.random.default_rng(4)
    stored = rng.integers(0, 100, (3, 30, 40), dtype=np.uint8)
    stored[:, 3:6, 5] = 255
    truth, valid = rng.integers(0, 4, (30, 40), dtype=np.uint8), rng.random((30, 40)) > 0.2
    histogram = ClassHistogram.of(stored, truth, valid)
    counted = valid & (stored[0] != 255)
    mask = mask_of(stored, math.ceil(254 * threshold))
    expected = ClassCounts.of(mask, truth, counted, classes=3)
    assert np.array_equal(histogram.counts(threshold).confusion, expected.confusion)
    change = ProbabilityHistogram.of(stored.sum(axis=0, dtype=np.uint16).clip(max=254), truth > 0, counted)
    assert histogram.change().counts(threshold) == change.counts(threshold) == expected.change()
    halves = np.arange(255) // 2
    assert histogram.moved(halves).change().counts(0.1) == change.moved(halves).counts(0.1)


def test_the_figures_are_by_name() -> None:
    truth, mask = np.array([[1, 1, 2, 0]], np.uint8), np.array([[1, 2, 2, 0]], np.uint8)
    figures = ClassCounts.of(mask, truth, np.ones((1, 4), np.bool_), classes=2).figures(("built", "cleared"))
    assert figures["classes"]["built"]["recall"] == 0.5
    assert figures["classes"]["cleared"]["precision"] == 0.5
    assert figures["mean_f1"] == pytest.approx(2 / 3, abs=1e-4)
