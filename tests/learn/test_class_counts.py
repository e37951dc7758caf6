import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score

from changedet.learn.class_counts import ClassCounts


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
