import numpy as np
import pytest
from scipy.special import expit, logit

from changedet.stats.neighbourhood import RADIUS, reinforced


def _plain(probability: np.ndarray, valid: np.ndarray, weight: float, slope: float, offset: float) -> np.ndarray:
    """Pixel by pixel, as it is written down."""
    own = expit((logit(probability) - offset) / slope)
    moved = np.full(probability.shape, np.nan)
    for row, col in np.argwhere(valid):
        square = tuple(slice(max(at - RADIUS, 0), at + RADIUS + 1) for at in (row, col))
        share = own[square][valid[square]].mean()
        moved[row, col] = expit(logit(probability[row, col]) + weight * np.log(share / 0.08))
    return moved


@pytest.mark.parametrize("all_valid", [True, False])
def test_odds_follow_from_the_mean_of_the_valid_pixels_around(all_valid: bool) -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.01, 0.9, (50, 61)).astype(np.float32)
    valid = all_valid | (rng.random(probability.shape) > 0.3)
    found = reinforced(probability, valid, 1.5, slope=0.7, offset=-1.0)
    expected = _plain(probability.astype(float), valid, 1.5, 0.7, -1.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[valid], expected[valid], rtol=1e-4)


def test_what_is_invalid_counts_for_nothing() -> None:
    rng = np.random.default_rng(1)
    probability, valid = rng.random((40, 40), dtype=np.float32), rng.random((40, 40)) > 0.5
    other = np.where(valid, probability, np.float32(0.999))
    first, second = (reinforced(each, valid, 2.0) for each in (probability, other))
    np.testing.assert_array_equal(first[valid], second[valid])


def test_a_calibration_only_stretches_the_logit() -> None:
    """Which pixels come first is the same: the logit of the moved probability is stretched as that of the pixel is."""
    rng = np.random.default_rng(2)
    own = rng.uniform(0.02, 0.95, (45, 45)).astype(np.float32)
    slope, offset, valid = 0.4, -1.3, np.ones(own.shape, np.bool_)
    plain = reinforced(own, valid, 2.0)
    calibrated = reinforced(expit(slope * logit(own) + offset), valid, 2.0 * slope, slope=slope, offset=offset)
    np.testing.assert_allclose(logit(calibrated), slope * logit(plain) + offset, atol=2e-3)


def test_among_much_change_a_pixel_is_likelier_changed_than_alone() -> None:
    probability = np.full((80, 80), 0.01, np.float32)
    probability[20, 20] = probability[60, 60] = 0.3
    probability[50:70, 50:70] = np.maximum(probability[50:70, 50:70], 0.25)
    moved = reinforced(probability, np.ones(probability.shape, np.bool_), 1.0)
    assert moved[60, 60] > 0.3 > moved[20, 20]


def test_certainty_stays_finite() -> None:
    for value in (0.0, 1.0):
        moved = reinforced(np.full((5, 5), value, np.float32), np.ones((5, 5), np.bool_), 2.0, slope=0.1)
        assert np.isfinite(moved).all()
