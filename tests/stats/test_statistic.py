"""Statistics as images: what they are, and that a pixel's value does not depend on the chip it lies in."""

import numpy as np
import pytest
from numpy.typing import NDArray

from changedet.errors import PairError
from changedet.stats.chisquare import ChiSquare
from changedet.stats.cva import Cva
from changedet.stats.mad import Mad
from changedet.stats.moments import Moments
from changedet.stats.pca_kmeans import PcaKmeans, filled_magnitude, fit_pca_kmeans, neighbourhoods
from changedet.stats.sfa import SlowFeatures
from changedet.stats.statistic import Statistic
from changedet.stats.urban import fit_urban

Image = NDArray[np.float32]


def _dates(height: int = 150, width: int = 170, bands: int = 3) -> tuple[Image, Image]:
    """Return two dates (C, H, W) that differ by a gain, an offset, noise and a bright square."""
    rng = np.random.default_rng(0)
    before = rng.normal(0.2, 0.05, (bands, height, width)) * np.linspace(0.5, 1.5, bands)[:, None, None]
    after = 1.3 * before + 0.02 + rng.normal(0, 0.01, before.shape)
    after[:, 40:60, 50:80] += 0.3
    return before.astype(np.float32), after.astype(np.float32)


def _moments(before: Image, after: Image) -> Moments:
    return Moments.of(np.concatenate([before, after]).reshape(2 * len(before), -1))


def _statistic(name: str, before: Image, after: Image) -> Statistic:
    moments = _moments(before, after)
    if name == "pca-kmeans":
        cva = Cva.from_moments(moments)
        magnitude = filled_magnitude(cva, before, after, np.ones(before.shape[1:], np.bool_), 0.0)
        return fit_pca_kmeans(cva, 0.5, neighbourhoods(magnitude, 0.5).reshape(25, -1))
    if name == "urban":
        return fit_urban(moments, ("B04", "B08", "B03")[: len(before)])
    fits = {"cva": Cva.from_moments, "mad": Mad.from_moments, "sfa": SlowFeatures.from_moments}
    fitted = fits[name](moments)
    return fitted if isinstance(fitted, Cva) else ChiSquare(fitted)


@pytest.mark.parametrize("name", ["cva", "mad", "sfa", "pca-kmeans", "urban"])
def test_a_pixels_value_is_the_same_in_every_chip(name: str) -> None:
    before, after = _dates()
    statistic = _statistic(name, before, after)
    valid = np.random.default_rng(1).random(before.shape[1:]) > 0.05
    whole = statistic.image(before, after, valid)
    rows, cols, halo = slice(20, 91), slice(33, 140), statistic.halo
    part = statistic.image(before[:, rows, cols], after[:, rows, cols], valid[rows, cols])
    core = slice(halo, -halo or None)
    np.testing.assert_array_equal(part[:, core, core], whole[:, rows, cols][:, core, core])


@pytest.mark.parametrize("name", ["cva", "mad", "sfa", "pca-kmeans", "urban"])
def test_what_changed_stands_out(name: str) -> None:
    before, after = _dates()
    statistic = _statistic(name, before, after)
    image = statistic.image(before, after, np.ones(before.shape[1:], np.bool_))
    assert (image.dtype, image.shape) == (np.float32, (len(statistic.names), *before.shape[1:]))
    changed = np.zeros(before.shape[1:], np.bool_)
    changed[43:57, 53:77] = True
    unchanged = np.ones_like(changed)
    unchanged[37:63, 47:83] = False
    assert image[0][changed].min() > np.quantile(image[0][unchanged], 0.999)
    squares = statistic.squares(image[0])
    assert statistic.from_square(float(squares[0, 0])) == pytest.approx(image[0, 0, 0], rel=1e-5)


def test_the_direction_tells_brightening_from_darkening() -> None:
    cva = Cva(np.zeros((2, 3)), np.ones((2, 3)))
    before = np.zeros((3, 4))
    after = np.array([[1, 1, 1], [-2, -2, -2], [1, -1, 0], [0, 0, 0]], dtype=float).T
    np.testing.assert_allclose(cva.direction(before, after), [0, 180, 90, np.nan], atol=1e-5)
    np.testing.assert_allclose(cva.magnitude(before, after), np.sqrt([3, 12, 2, 0]))


@pytest.mark.parametrize("name", ["cva", "sfa", "mad"])
def test_a_gain_and_an_offset_of_a_whole_band_change_nothing(name: str) -> None:
    before, after = _dates()
    valid = np.ones(before.shape[1:], np.bool_)
    expected = _statistic(name, before, after).image(before, after, valid)[0]
    other = (after.astype(np.float64) * np.array([40, 0.3, 7])[:, None, None] + 3).astype(np.float32)
    np.testing.assert_allclose(_statistic(name, before, other).image(before, other, valid)[0], expected, rtol=2e-3)


def test_slow_features_are_those_of_the_paper() -> None:
    before, after = (image.reshape(3, -1).astype(np.float64) for image in _dates())
    x, y = ((z - z.mean(axis=1)[:, None]) / z.std(axis=1)[:, None] for z in (before, after))
    count = x.shape[1]
    differences, both = (x - y) @ (x - y).T / count, (x @ x.T + y @ y.T) / (2 * count)
    variances, features = np.linalg.eig(np.linalg.solve(both, differences))
    order = np.argsort(variances)
    features = features[:, order] / np.sqrt(np.einsum("ij,ik,kj->j", features[:, order], both, features[:, order]))
    expected = ((features.T @ (x - y)) ** 2 / variances[order][:, None]).sum(axis=0)
    fitted = SlowFeatures.from_moments(Moments.of(np.concatenate([before, after])))
    np.testing.assert_allclose(fitted.variances, variances[order], rtol=1e-6)
    np.testing.assert_allclose(fitted.statistic(before, after), expected, rtol=1e-5)


def test_slow_features_of_equal_dates_are_zero_and_of_dates_that_do_not_vary_refused() -> None:
    before = _dates()[0].reshape(3, -1)
    fitted = SlowFeatures.from_moments(Moments.of(np.concatenate([before, before])))
    np.testing.assert_allclose(fitted.statistic(before, before), 0, atol=1e-12)
    with pytest.raises(PairError, match="every valid pixel is the same"):
        SlowFeatures.from_moments(Moments.of(np.ones((6, 50))))


def test_the_kernel_does_what_projecting_and_clustering_do() -> None:
    before, after = _dates(60, 70)
    cva = Cva.from_moments(_moments(before, after))
    valid = np.ones(before.shape[1:], np.bool_)
    magnitude = filled_magnitude(cva, before, after, valid, 0.0)
    vectors = neighbourhoods(magnitude, 0.5).reshape(25, -1).astype(np.float64)
    fitted = fit_pca_kmeans(cva, 0.5, vectors.astype(np.float32))
    upper = fitted.image(before, after, valid)[0].ravel() >= fitted.midpoint
    # Lloyd's two conditions: each vector is with the nearer centre, in the space of the first three components.
    centred = vectors - vectors.mean(axis=1)[:, None]
    scores = np.linalg.svd(centred, full_matrices=False)[0][:, :3].T @ centred
    low, high = scores[:, ~upper].mean(axis=1), scores[:, upper].mean(axis=1)
    nearer = ((scores - high[:, None]) ** 2).sum(axis=0) < ((scores - low[:, None]) ** 2).sum(axis=0)
    assert (nearer != upper).mean() < 1e-3
    assert 0.05 < upper.mean() < 0.3


def test_neighbours_that_are_not_valid_are_filled_with_the_mean() -> None:
    cva = Cva(np.zeros((2, 1)), np.ones((2, 1)))
    fitted = PcaKmeans(cva, np.full((5, 5), 0.2), 0.0, 0.5)
    before, after = np.zeros((1, 9, 9), np.float32), np.ones((1, 9, 9), np.float32)
    valid = np.ones((9, 9), np.bool_)
    valid[4, 5] = False
    assert fitted.image(before, after, valid)[0, 4, 4] == pytest.approx(0.2 * 24.5)
    assert fitted.image(before, after, valid)[0, 0, 0] == pytest.approx(0.2 * (9 + 16 * 0.5))


def test_neighbourhoods_that_are_all_alike_have_no_border() -> None:
    fitted = fit_pca_kmeans(Cva(np.zeros((2, 1)), np.ones((2, 1))), 0.0, np.zeros((25, 30), np.float32))
    assert fitted.midpoint == float("inf")
