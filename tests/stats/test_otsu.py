import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changedet.stats.otsu import otsu_threshold


@settings(max_examples=40)
@given(st.lists(st.integers(min_value=0, max_value=30), min_size=2, max_size=40).filter(lambda v: len(set(v)) > 1))
def test_no_other_split_has_classes_further_apart(values: list[int]) -> None:
    array = np.array(values, dtype=np.float32)

    def between(threshold: float) -> float:
        low, high = array[array < threshold], array[array >= threshold]
        return float(len(low) * len(high) * (low.mean() - high.mean()) ** 2)

    best = max(between(value) for value in sorted(set(values))[1:])
    assert between(otsu_threshold(array)) == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("values", [np.empty(0), np.zeros(5), np.ones(1)])
def test_what_cannot_be_parted_is_not(values: np.ndarray) -> None:
    assert otsu_threshold(values) == float("inf")
