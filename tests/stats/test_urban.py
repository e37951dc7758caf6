"""MAD averaged around each pixel, against the definition written out, and what it is to leave out."""

import numpy as np
import pytest
from scipy.special import expit, gamma, logit

from changedet.stats.moments import Moments
from changedet.stats.urban import UrbanChange, fit_urban, joined, strips

BANDS = ("B04", "B03", "B02", "B08")


def _dates(height: int = 60, width: int = 70) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    before = rng.normal(0.2, 0.03, (4, height, width)).astype(np.float32)
    after = (0.9 * before + rng.normal(0.01, 0.01, before.shape)).astype(np.float32)
    return before, after


def _fitted(before: np.ndarray, after: np.ndarray, bands: tuple[str, ...] = BANDS) -> UrbanChange:
    stacked = np.concatenate([before, after]).reshape(2 * len(before), -1)
    return fit_urban(Moments.of(stacked), bands)


def test_is_the_weighted_mean_of_its_surroundings() -> None:
    before, after = _dates()
    valid = np.random.default_rng(1).random(before.shape[1:]) > 0.2
    urban = _fitted(before, after)
    image = urban.image(before, after, valid)[0]

    def mean_around(values: np.ndarray, row: int, col: int, deviation: float) -> float:
        rows, cols = np.ogrid[: values.shape[0], : values.shape[1]]
        near = (abs(rows - row) <= round(4 * deviation)) & (abs(cols - col) <= round(4 * deviation)) & valid
        weight = np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2 * deviation**2)) * near
        return float((values * weight).sum() / weight.sum())

    root = np.sqrt(urban.mad.statistic(before.reshape(4, -1), after.reshape(4, -1))).reshape(valid.shape)
    index = np.minimum(*((date[3] - date[0]) / (date[3] + date[0]) for date in (before, after)))
    noise = np.sqrt(2) * gamma(5 / 2) / gamma(4 / 2)
    for row, col in ((30, 30), (0, 0), (59, 12), (7, 69)):
        bare = 1 / (1 + np.exp((mean_around(index, row, col, 1.0) - 0.35) / 0.08))
        assert image[row, col] == pytest.approx(mean_around(root, row, col, 2.5) / noise * bare, rel=1e-4)


def test_noise_is_one_and_a_building_far_above_it() -> None:
    before, after = _dates()
    after[:, 20:32, 30:42] += 0.15
    image = _fitted(before, after).image(before, after, np.ones(before.shape[1:], np.bool_))[0]
    assert 0.6 < np.median(image[:, :15]) < 1.1
    assert image[26, 36] > 2


def test_what_is_green_at_both_dates_is_faded_and_what_lost_its_green_is_not() -> None:
    before, after = _dates()
    before[3, 10:30], after[3, 10:30] = 0.8, 0.9
    before[3, 40:60] = 0.8
    valid = np.ones(before.shape[1:], np.bool_)
    plain = _fitted(before, after, ("B01", "B02", "B03", "B05")).image(before, after, valid)[0]
    faded = _fitted(before, after).image(before, after, valid)[0] / plain
    assert faded[15:25].max() < 0.1
    assert faded[45:55].min() > 0.8


def test_survives_json() -> None:
    before, after = _dates()
    urban = _fitted(before, after)
    valid = np.ones(before.shape[1:], np.bool_)
    again = UrbanChange.from_json(urban.as_json())
    np.testing.assert_array_equal(again.image(before, after, valid), urban.image(before, after, valid))


@pytest.mark.parametrize("invalid", [0.0, 0.1])
def test_strips_and_parts_of_an_image_are_those_of_the_whole(invalid: float, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = _dates()
    valid = np.random.default_rng(2).random(before.shape[1:]) >= invalid
    urban = _fitted(before, after)
    whole = urban.image(before, after, valid)
    halo = urban.halo
    part = urban.image(before[:, 5:50], after[:, 5:50], valid[5:50])
    np.testing.assert_array_equal(part[:, halo:-halo], whole[:, 5 + halo : 50 - halo])
    monkeypatch.setattr("changedet.stats.urban._STRIP_PX", 8 * valid.shape[1])
    assert [(rows.start, rows.stop) for rows in strips(20, 70)] == [(0, 8), (8, 16), (16, 20)]
    np.testing.assert_array_equal(urban.image(before, after, valid), whole)


def test_where_all_is_valid_the_weights_are_those_that_would_be_summed() -> None:
    before, after = _dates()
    urban = _fitted(before, after)
    valid = np.ones(before.shape[1:], np.bool_)
    all_but_one = valid.copy()
    all_but_one[40, 40] = False
    one, other = (urban.image(before, after, which)[0] for which in (valid, all_but_one))
    np.testing.assert_array_equal(one[:20, :20], other[:20, :20])


def test_joined_moves_the_logit() -> None:
    rng = np.random.default_rng(0)
    probability = np.concatenate([rng.random(1000), [0, 1, 1e-9]]).astype(np.float32)
    statistic = np.concatenate([rng.exponential(3, 1000), [0, 60, 300]]).astype(np.float32)
    known = probability.astype(float).clip(1e-7, 1 - 1e-7)
    expected = expit(logit(known) + 2.5 * (statistic.astype(float) - 1.7))
    found = joined(probability, statistic, 2.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
