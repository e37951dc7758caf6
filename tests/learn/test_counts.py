import json
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn import metrics

from changedet.learn.counts import ChangeCounts, ProbabilityHistogram

Maps = tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]


@st.composite
def maps(draw: st.DrawFn) -> Maps:
    """Stored probability, truth and validity of one scene; 255 where invalid."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    truth, valid = draw(arrays(np.bool_, shape)), draw(arrays(np.bool_, shape))
    stored = draw(arrays(np.uint8, shape, elements=st.integers(0, 254)))
    return np.where(valid, stored, 255).astype(np.uint8), truth, valid


def _confusion(mask: NDArray[np.bool_], truth: NDArray[np.bool_], valid: NDArray[np.bool_]) -> ChangeCounts:
    matrix = np.zeros((2, 2), int)  # truth, mask
    for t, m in zip(truth[valid], mask[valid], strict=True):
        matrix[int(t), int(m)] += 1
    return ChangeCounts(tp=int(matrix[1, 1]), fp=int(matrix[0, 1]), fn=int(matrix[1, 0]), tn=int(matrix[0, 0]))


@given(maps(), st.floats(0, 1))
def test_counts_are_those_of_the_mask(scene: Maps, threshold: float) -> None:
    stored, truth, valid = scene
    mask = stored >= math.ceil(254 * threshold - 1e-9)
    assert ProbabilityHistogram.of(stored, truth, valid).counts(threshold) == _confusion(mask, truth, valid)


@given(maps(), maps(), st.floats(0, 1))
def test_counts_add_up(one: Maps, other: Maps, threshold: float) -> None:
    histograms = [ProbabilityHistogram.of(*scene) for scene in (one, other)]
    pooled = sum(histograms, start=ProbabilityHistogram.empty()).counts(threshold)
    assert pooled == histograms[0].counts(threshold) + histograms[1].counts(threshold)
    assert pooled.tp + pooled.fp + pooled.fn + pooled.tn == one[2].sum() + other[2].sum()


@given(maps())
def test_the_best_threshold_has_the_highest_f1(scene: Maps) -> None:
    stored, truth, valid = scene
    assume((truth & valid).any())
    histogram = ProbabilityHistogram.of(stored, truth, valid)
    best = histogram.best_threshold()
    every = [_confusion(stored >= k, truth, valid).f1 for k in range(1, 255)]
    assert histogram.counts(best).f1 == max(every)
    assert round(best * 254) == 1 + every.index(max(every))


@pytest.mark.parametrize("unchanged", [0, 7])
def test_where_nothing_changed_nor_is_called_so_no_threshold_is_better_than_half(unchanged: int) -> None:
    histogram = ProbabilityHistogram.empty()
    histogram.unchanged[0] = unchanged
    assert histogram.best_threshold() == 0.5


def test_the_mask_shrinks_as_the_threshold_grows() -> None:
    stored = np.arange(254, dtype=np.uint8).reshape(2, 127)
    histogram = ProbabilityHistogram.of(stored, stored % 2 == 0, np.ones_like(stored, np.bool_))
    found = [histogram.counts(k / 254) for k in range(255)]
    assert all(a.tp + a.fp == b.tp + b.fp + 1 for a, b in pairwise(found))


@given(maps())
def test_a_histogram_survives_json(scene: Maps) -> None:
    histogram = ProbabilityHistogram.of(*scene)
    again = ProbabilityHistogram.from_json(json.loads(json.dumps(histogram.as_json())))
    assert np.array_equal(again.changed, histogram.changed)
    assert np.array_equal(again.unchanged, histogram.unchanged)


def test_ratios() -> None:
    counts = ChangeCounts(tp=6, fp=2, fn=4, tn=100)
    assert (counts.precision, counts.recall) == (0.75, 0.6)
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))


@given(maps(), st.floats(0, 1))
def test_ratios_are_those_of_scikit_learn(scene: Maps, threshold: float) -> None:
    stored, truth, valid = scene
    mask = stored >= math.ceil(254 * threshold - 1e-9)
    counts = ProbabilityHistogram.of(stored, truth, valid).counts(threshold)
    oracles = {
        "precision": partial(metrics.precision_score, zero_division=math.nan),
        "recall": partial(metrics.recall_score, zero_division=math.nan),
        "f1": partial(metrics.f1_score, zero_division=math.nan),
        "iou": partial(metrics.jaccard_score, zero_division=0),
    }
    for name, oracle in oracles.items():
        if not math.isnan(getattr(counts, name)):
            assert getattr(counts, name) == pytest.approx(oracle(truth[valid], mask[valid]))
    if not math.isnan(counts.kappa):
        labels = [False, True]
        assert counts.kappa == pytest.approx(metrics.cohen_kappa_score(truth[valid], mask[valid], labels=labels))


def test_kappa_of_a_billion_pixels_is_exact() -> None:
    half = 10**15
    assert ChangeCounts(tp=half, fp=0, fn=1, tn=half).kappa == pytest.approx(1, abs=1e-14)
    assert ChangeCounts(tp=half, fp=half, fn=half, tn=half).kappa == 0


@pytest.mark.parametrize(
    ("counts", "undefined"),
    [
        (ChangeCounts(), {"precision", "recall", "f1", "iou", "kappa"}),
        (ChangeCounts(tn=5), {"precision", "recall", "f1", "iou", "kappa"}),
        (ChangeCounts(fn=5), {"precision"}),
        (ChangeCounts(fp=5), {"recall"}),
    ],
)
def test_undefined_ratios_are_nan_and_null_in_json(counts: ChangeCounts, undefined: set[str]) -> None:
    ratios = counts.ratios()
    assert {name for name, value in ratios.items() if math.isnan(value)} == undefined
    assert {name for name, value in counts.figures().items() if value is None} == undefined
