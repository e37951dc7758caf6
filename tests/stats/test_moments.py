import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from changedet.stats.moments import Moments


@settings(max_examples=20)
@given(st.lists(st.integers(min_value=0, max_value=40), min_size=1, max_size=6), st.booleans())
def test_parts_add_up_to_the_whole(sizes: list[int], weighted: bool) -> None:
    rng = np.random.default_rng(sum(sizes))
    samples = rng.normal(size=(3, sum(sizes))) * [[1.0], [50.0], [0.01]] + [[1e4], [-3.0], [0.0]]
    weights = rng.random(sum(sizes)) if weighted else None
    stops = np.cumsum(sizes)[:-1]
    parts = [
        Moments.of(part, None if weights is None else share)
        for part, share in zip(
            np.split(samples, stops, axis=1),
            np.split(np.empty(sum(sizes)) if weights is None else weights, stops),
            strict=True,
        )
    ]
    total, whole = Moments.total(3, parts), Moments.of(samples, weights)
    np.testing.assert_allclose(total.weight, whole.weight, rtol=1e-12)
    np.testing.assert_allclose(total.mean, whole.mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(total.scatter, whole.scatter, rtol=1e-9, atol=1e-9)


def test_the_covariance_is_numpys() -> None:
    rng = np.random.default_rng(1)
    samples, weights = rng.normal(size=(4, 500)).astype(np.float32), rng.random(500)
    np.testing.assert_allclose(Moments.of(samples).covariance, np.cov(samples, ddof=0), rtol=1e-5)
    expected = np.cov(samples.astype(np.float64), aweights=weights, ddof=0)
    np.testing.assert_allclose(Moments.of(samples, weights).covariance, expected, rtol=1e-12)


def test_large_numbers_of_small_spread_keep_their_digits() -> None:
    values = np.random.default_rng(2).normal(size=(1, 100_000))
    parts = (Moments.of(part + 1e9) for part in np.split(values, 100, axis=1))
    np.testing.assert_allclose(Moments.total(1, parts).covariance, values.var(), rtol=1e-6)


def test_the_moments_of_nothing_are_unknown_and_add_nothing() -> None:
    none, some = Moments.none(2), Moments.of(np.arange(6.0).reshape(2, 3))
    assert np.isnan(none.covariance).all()
    assert none + some == some == some + none
    assert Moments.of(np.empty((2, 0))).weight == 0
