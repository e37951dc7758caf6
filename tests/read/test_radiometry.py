import numpy as np
import pytest

from changedet.read.radiometry import (
    BRIGHT_REFLECTANCE,
    DARK_REFLECTANCE,
    Curves,
    match_histograms,
    normalise_on_invariant,
    plan_radiometry,
)

RNG = np.random.default_rng(11)
GAIN, OFFSET = np.array([1.25, 0.8, 1.1]), np.array([0.02, -0.01, 0.03])
BANDS = ("B04", "B03", "B08")


def _ground(pixels: int = 8000) -> np.ndarray:
    """Return correlated reflectance, (3, pixels)."""
    mixing = np.array([[0.05, 0.02, 0.0], [0.04, 0.03, 0.01], [0.01, -0.03, 0.08]])
    return 0.25 + mixing @ RNG.normal(size=(3, pixels))


def _other_sun(ground: np.ndarray, *, changed: float = 0.0) -> np.ndarray:
    """Return the ground under another sun and with another haze, noise, and a share of it replaced."""
    after = (ground - OFFSET[:, None]) / GAIN[:, None] + RNG.normal(0, 0.002, ground.shape)
    count = int(changed * ground.shape[1])
    after[:, :count] = _ground(count) + 0.2 if count else after[:, :0]
    return after


@pytest.mark.parametrize("changed", [0.0, 0.2])
def test_invariant_pixels_give_the_other_sun_back_whatever_changed(changed: float) -> None:
    before = _ground()
    found = normalise_on_invariant(before, _other_sun(before, changed=changed))
    assert found is not None
    assert found.pixels > 1000
    assert min(found.correlation) > 0.99
    line = found.curves.apply(np.array([[0.0, 1.0]] * 3, np.float32))
    np.testing.assert_allclose(line[:, 1] - line[:, 0], GAIN, rtol=0.03)
    np.testing.assert_allclose(line[:, 0], OFFSET, atol=0.01)


def test_a_regression_over_all_pixels_would_have_been_pulled() -> None:
    """What the invariant pixels are for: 20 % of change moves a plain fit, and not theirs."""
    before = _ground()
    after = _other_sun(before, changed=0.2)
    found = normalise_on_invariant(before, after)
    assert found is not None
    still = slice(1600, None)
    plain = np.array([np.polyval(np.polyfit(x, y, 1), x) for x, y in zip(after, before, strict=True)])
    ours = found.curves.apply(after.astype(np.float32))
    assert np.abs(ours - before)[:, still].mean() < 0.5 * np.abs(plain - before)[:, still].mean()


def test_unrelated_dates_are_not_normalised() -> None:
    assert normalise_on_invariant(_ground(90), _ground(90)) is None
    plan = plan_radiometry(_ground(50), _ground(50), bands=BANDS, physical=(True, True), method="irmad")
    assert plan.after is None
    assert (plan.why, plan.warning) == (
        "not normalised",
        "not normalised: too few pixels of the sample did not change",
    )


@pytest.mark.parametrize(("method", "warned"), [("none", True), ("histogram", False), ("irmad", False)])
def test_reflectance_beside_values_without_a_scale_is_warned_of_unless_brought_to_them(
    method: str, warned: bool
) -> None:
    before = _ground()
    after = _other_sun(before)
    plan = plan_radiometry(before, after, bands=BANDS, physical=(True, False), method=method)
    assert ("--normalize histogram" in plan.warning) == warned
    assert plan.before is not None


def test_histograms_are_matched_quantile_by_quantile() -> None:
    before = _ground()
    after = np.sqrt(np.abs(before)) + 0.1
    before = np.abs(before)
    matched = match_histograms(before, after).apply(after.astype(np.float32))
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        np.testing.assert_allclose(np.quantile(matched, share, axis=1), np.quantile(before, share, axis=1), atol=0.002)
    assert np.abs(matched - before).mean() < 0.001


def test_a_matched_histogram_of_few_values_stays_increasing() -> None:
    before, after = RNG.integers(0, 9, (2, 1, 500)).astype(float)
    curves = match_histograms(before, after * 2)
    assert (np.diff(curves.knots[0]) > 0).all()
    assert (np.diff(curves.values[0]) >= 0).all()


def test_curves_go_on_straight_beyond_their_knots() -> None:
    curves = Curves(((0.0, 1.0, 2.0),), ((0.0, 3.0, 4.0),))
    seen = curves.apply(np.array([[-1.0, 0.5, 1.5, 3.0]], np.float32))
    assert seen.tolist() == [[-2.0, 1.5, 3.5, 6.0]]
    assert curves.then(2.0, 1.0).values == ((1.0, 7.0, 9.0),)


def test_8_bit_dates_share_one_line_and_equal_values_stay_equal() -> None:
    before = _ground() * 2
    plan = plan_radiometry(before, before + 0.05, bands=BANDS, physical=(False, False), method="none")
    assert plan.before == plan.after
    assert plan.before is not None
    visible = np.concatenate([before[:2], before[:2] + 0.05])
    dark, bright = np.quantile(visible, [0.02, 0.98])
    line = plan.before.apply(np.full((3, 2), [dark, bright], np.float32))
    np.testing.assert_allclose(line, [[DARK_REFLECTANCE, BRIGHT_REFLECTANCE]] * 3, rtol=1e-5)


def test_8_bit_dates_can_be_normalised_too() -> None:
    before = _ground()
    after = _other_sun(before)
    plan = plan_radiometry(before, after, bands=BANDS, physical=(False, False), method="irmad")
    assert plan.before is not None
    assert plan.after is not None
    difference = plan.after.apply(after.astype(np.float32)) - plan.before.apply(before.astype(np.float32))
    assert np.abs(difference).mean() < 0.02 * np.ptp(plan.before.apply(before.astype(np.float32)))


def test_a_picture_of_one_value_is_left_alone() -> None:
    flat = np.full((3, 10), 0.5)
    plan = plan_radiometry(flat, flat, bands=BANDS, physical=(False, False), method="none")
    assert plan.before is not None
    np.testing.assert_allclose(plan.before.apply(flat.astype(np.float32)), flat)
