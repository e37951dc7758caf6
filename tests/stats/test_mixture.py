import numpy as np
import pytest
from scipy import stats

from changedet.stats.mixture import Gamma, fit_mixture


@pytest.mark.parametrize("shape", [0.3, 1.0, 6.5, 40.0])
def test_a_gamma_distribution_is_fitted_as_scipy_does(shape: float) -> None:
    values = np.random.default_rng(0).gamma(shape, 3.0, 5000)
    expected, _, scale = stats.gamma.fit(values, floc=0)
    found = Gamma.of(float(values.mean()), float(np.log(values).mean()))
    assert (found.shape, found.scale) == pytest.approx((expected, scale), rel=1e-6)
    np.testing.assert_allclose(found.log_density(values), stats.gamma.logpdf(values, expected, scale=scale), rtol=1e-5)


def test_two_populations_are_found() -> None:
    rng = np.random.default_rng(0)
    mixture = fit_mixture(np.concatenate([rng.gamma(2, 1.0, 95_000), rng.gamma(9, 3.0, 5_000)]))
    assert mixture.two
    assert mixture.share == pytest.approx(0.05, abs=0.005)
    assert (mixture.unchanged.mean, mixture.changed.mean) == pytest.approx((2, 27), rel=0.05)


def test_the_posterior_is_bayes_rule() -> None:
    rng = np.random.default_rng(0)
    changed = rng.random(100_000) < 0.1
    values = np.where(changed, rng.gamma(5, 4.0, changed.size), rng.gamma(2, 2.0, changed.size))
    posterior = fit_mixture(values).posterior(values)
    for low in np.arange(0.0, 1, 0.2):
        inside = (posterior >= low) & (posterior < low + 0.2)
        assert changed[inside].mean() == pytest.approx(posterior[inside].mean(), abs=0.05)


@pytest.mark.parametrize(("low", "high"), [((2, 1.0), (1, 30.0)), ((0.5, 8.0), (40, 1.0)), ((3, 1.0), (8, 4.0))])
def test_the_posterior_never_falls_and_is_a_half_at_the_threshold(
    low: tuple[float, float], high: tuple[float, float]
) -> None:
    rng = np.random.default_rng(1)
    mixture = fit_mixture(np.concatenate([rng.gamma(*low, 90_000), rng.gamma(*high, 10_000)]))
    assert mixture.two
    assert (np.diff(mixture.posterior(np.geomspace(1e-6, 1e6, 4001))) >= 0).all()
    assert mixture.posterior(np.array([mixture.threshold()]))[0] == pytest.approx(0.5, abs=1e-6)
    assert mixture.posterior(np.zeros(1))[0] < 0.1


@pytest.mark.parametrize("freedom", [1, 3, 13])
def test_without_change_there_is_one_population_and_no_posterior(freedom: int) -> None:
    mixture = fit_mixture(np.random.default_rng(freedom).chisquare(freedom, 100_000))
    assert not mixture.two
    assert mixture.threshold() == float("inf")
    assert not mixture.posterior(np.array([0.0, 1.0, 100.0])).any()


def test_without_change_two_bands_that_go_together_are_one_population_too() -> None:
    deviates = np.array([[1.6, 0.3], [0.8, 1.9]]) @ np.random.default_rng(0).normal(size=(2, 100_000))
    assert not fit_mixture((deviates**2).sum(axis=0)).two


@pytest.mark.parametrize("share", [0.003, 0.02, 0.3])
def test_rare_change_is_seen(share: float) -> None:
    rng = np.random.default_rng(0)
    changed = rng.random(200_000) < share
    mixture = fit_mixture(rng.chisquare(4, changed.size) * np.where(changed, 16.0, 1.0))
    assert mixture.share == pytest.approx(share, rel=0.25)


@pytest.mark.parametrize("values", [np.empty(0), np.zeros(9), np.full(3, 7.0)])
def test_what_does_not_vary_is_one_population(values: np.ndarray) -> None:
    assert not fit_mixture(values).two
    assert fit_mixture(values).threshold() == float("inf")


def test_pixels_that_are_identical_at_both_dates_are_no_population_of_their_own() -> None:
    noise = np.random.default_rng(0).chisquare(3, 50_000)
    assert not fit_mixture(np.concatenate([np.zeros(40_000), noise])).two
