"""MAD and IR-MAD against plain numpy written from the papers."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, rankdata

from changedet.errors import PairError
from changedet.stats.mad import Mad, fit_irmad
from changedet.stats.moments import Moments

Floats = NDArray[np.float64]


def _pixels(bands: int = 4, count: int = 4000, *, changed: float = 0.1, seed: int = 0) -> Floats:
    """Return stacked pixels of two dates whose bands share a few signals; some of the pixels changed."""
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(bands, count))
    before = rng.normal(size=(bands, bands)) @ signals + 0.2 * rng.normal(size=(bands, count)) + 100
    after = rng.normal(size=(bands, bands)) @ signals + 0.2 * rng.normal(size=(bands, count)) - 7
    after[:, : int(changed * count)] += 6 * rng.normal(size=(bands, int(changed * count)))
    return np.concatenate([before, after])


def _oracle(samples: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Nielsen 2007: variates (C, N), correlations ascending, chi-square statistic, of weighted samples."""
    bands = len(samples) // 2
    mean = np.average(samples, axis=1, weights=weights)
    covariance = np.cov(samples, aweights=weights, ddof=0)
    s11, s12, s22 = covariance[:bands, :bands], covariance[:bands, bands:], covariance[bands:, bands:]
    # Sigma12 Sigma22^-1 Sigma21 a = rho^2 Sigma11 a, and b = Sigma22^-1 Sigma21 a / rho
    rho2, a = np.linalg.eig(np.linalg.solve(s11, s12 @ np.linalg.solve(s22, s12.T)))
    order = np.argsort(rho2.real)
    rho, a = np.sqrt(rho2.real[order]), a.real[:, order]
    a = a / np.sqrt(np.einsum("ij,ik,kj->j", a, s11, a))
    b = np.linalg.solve(s22, s12.T @ a) / rho
    centred = samples - mean[:, None]
    variates = a.T @ centred[:bands] - b.T @ centred[bands:]
    return variates, rho, (variates**2 / (2 * (1 - rho))[:, None]).sum(axis=0)


def _same_up_to_sign(found: Floats, expected: Floats, tolerance: float) -> None:
    sign = np.sign((found * expected).sum(axis=1))[:, None]
    np.testing.assert_allclose(sign * found, expected, atol=tolerance)


@pytest.mark.parametrize("bands", [1, 3, 7])
def test_mad_is_that_of_the_paper(bands: int) -> None:
    samples = _pixels(bands)
    mad = Mad.from_moments(Moments.of(samples))
    variates, rho, statistic = _oracle(samples, np.ones(samples.shape[1]))
    np.testing.assert_allclose(mad.correlations, rho, atol=1e-9)
    _same_up_to_sign(mad.variates(samples[:bands], samples[bands:]), variates, 1e-7)
    np.testing.assert_allclose(mad.statistic(samples[:bands], samples[bands:]), statistic, rtol=1e-6)


def test_irmad_is_that_of_the_paper() -> None:
    samples = _pixels()
    mad = fit_irmad(samples, consistent=False)
    weights, last = np.ones(samples.shape[1]), np.zeros(4)
    iterations = 0
    while True:
        variates, rho, statistic = _oracle(samples, weights)
        if np.abs(rho - last).max() < 1e-3:
            break
        iterations, last, weights = iterations + 1, rho, chi2.sf(statistic, 4)
    assert (mad.iterations, mad.converged) == (iterations, True)
    assert iterations > 2
    np.testing.assert_allclose(mad.correlations, rho, atol=1e-8)
    _same_up_to_sign(mad.variates(samples[:4], samples[4:]), variates, 1e-6)
    np.testing.assert_allclose(mad.no_change(samples[:4], samples[4:]), chi2.sf(statistic, 4), atol=1e-6)


def test_irmad_tells_the_changed_from_the_unchanged_better_than_mad() -> None:
    samples = _pixels(changed=0.3)
    ranks = [
        rankdata(mad.statistic(samples[:4], samples[4:]))[:1200].mean()
        for mad in (Mad.from_moments(Moments.of(samples)), fit_irmad(samples))
    ]
    highest = samples.shape[1] - 600  # mean rank of the changed pixels where all stand above the others
    assert (highest - ranks[1]) < 0.5 * (highest - ranks[0])


def _without_change(bands: int, count: int = 60_000) -> Floats:
    samples = _pixels(bands, count, changed=0)
    return samples + np.random.default_rng(9).normal(size=samples.shape)


@pytest.mark.parametrize("bands", [1, 4, 9])
def test_without_change_irmad_stays_where_mad_is(bands: int) -> None:
    samples = _without_change(bands)
    plain, reweighted = Mad.from_moments(Moments.of(samples)), fit_irmad(samples)
    assert reweighted.converged
    np.testing.assert_allclose(reweighted.correlations, plain.correlations, atol=0.03)
    assert reweighted.no_change(samples[:bands], samples[bands:]).mean() == pytest.approx(0.5, abs=0.02)


def test_the_published_irmad_narrows_without_change() -> None:
    samples = _without_change(4)
    published = fit_irmad(samples, consistent=False)
    assert published.no_change(samples[:4], samples[4:]).mean() < 0.2


def test_with_change_irmad_keeps_the_distribution_of_the_unchanged() -> None:
    samples = _pixels(4, 60_000, changed=0.1)
    unchanged = fit_irmad(samples).statistic(samples[:4], samples[4:])[6000:]
    assert np.median(unchanged) == pytest.approx(chi2.median(4), rel=0.15)


def test_variates_have_the_variance_that_their_correlation_says() -> None:
    samples = _pixels(5)
    mad = Mad.from_moments(Moments.of(samples))
    covariance = np.cov(mad.variates(samples[:5], samples[5:]), ddof=0)
    np.testing.assert_allclose(covariance, np.diag(2 * (1 - mad.correlations)), atol=1e-8)


def test_a_change_of_units_changes_nothing() -> None:
    samples = _pixels(4)
    rng = np.random.default_rng(3)
    gains = rng.uniform(0.001, 1000, (8, 1)) * rng.choice([-1, 1], (8, 1))
    other = samples * gains + rng.normal(size=(8, 1)) * gains * 100
    expected, found = (Mad.from_moments(Moments.of(s)).statistic(s[:4], s[4:]) for s in (samples, other))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_constant_band_and_a_repeated_one_take_part_in_nothing() -> None:
    samples = _pixels(3)
    constant, repeated = np.full((1, samples.shape[1]), 9.0), samples[:1]
    more = np.concatenate([samples[:3], constant, repeated, samples[3:], constant, samples[3:4]])
    mad = Mad.from_moments(Moments.of(more))
    assert mad.freedom == 3
    expected = Mad.from_moments(Moments.of(samples)).statistic(samples[:3], samples[3:])
    np.testing.assert_allclose(mad.statistic(more[:5], more[5:]), expected, rtol=1e-6)


def test_equal_dates_have_no_statistic() -> None:
    samples = np.concatenate([_pixels(4)[:4]] * 2)
    mad = fit_irmad(samples)
    np.testing.assert_allclose(mad.statistic(samples[:4], samples[4:]), 0, atol=1e-9)
    assert mad.no_change(samples[:4], samples[4:]).min() > 0.999


def test_a_date_that_does_not_vary_is_refused() -> None:
    samples = _pixels(2)
    samples[:2] = 4.0
    with pytest.raises(PairError, match="every valid pixel is the same"):
        fit_irmad(samples)
