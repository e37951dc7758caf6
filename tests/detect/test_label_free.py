"""Detectors without labels on pairs in memory."""

import json
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from changedet.config import Detector
from changedet.detect.deep import FeatureDifference
from changedet.detect.label_free import Fitted, StatisticDetector, fit, fit_posterior
from changedet.detect.sample import PairSample, sample_pair
from changedet.detect.stitch import silent, stitch
from changedet.grid import ChipPlan, Window, plan_chips
from changedet.grid.quantise import NODATA
from changedet.write.provenance import plain
from tests.data import texture
from tests.detect.test_stitch import ArrayPair, ArraySink

NAMES = [name for name in get_args(Detector) if name != "deep"]


def _pair(height: int = 200, width: int = 230, *, changed: bool = True) -> ArrayPair:
    rng = np.random.default_rng(0)
    before = np.stack([texture(height, width, seed=seed) for seed in range(2)])
    after = 0.8 * before + 0.03 + rng.normal(0, 0.01, before.shape).astype(np.float32)
    if changed:
        after[:, 60:90, 100:140] = rng.uniform(0.3, 0.7, (2, 30, 40))
    valid = rng.random((height, width)) > 0.03
    valid[:50, :40] = False
    return ArrayPair(before, after.astype(np.float32), valid)


def _fitted(name: str, pair: ArrayPair) -> StatisticDetector:
    sample = sample_pair(pair, silent)
    if name != "deep":
        return StatisticDetector(fit(name, sample), pair.bands)
    statistic = FeatureDifference.of_random_weights(2)
    return StatisticDetector(fit_posterior(name, statistic, sample), pair.bands, stride=statistic.stride)


def _mapped(pair: ArrayPair, detector: StatisticDetector, plan: ChipPlan) -> tuple[NDArray[np.uint8], ArraySink]:
    height, width = pair.valid.shape
    stored, statistic = ArraySink((height, width)), ArraySink((height, width))
    statistic.stored = np.zeros((len(detector.fitted.statistic.names), height, width), np.float32)  # type: ignore[assignment]
    stitch(pair, detector, plan, stored, statistic=statistic)  # type: ignore[arg-type]
    return stored.stored[0], statistic


@pytest.mark.parametrize("name", [*NAMES, "deep"])
def test_the_map_does_not_depend_on_the_chips_and_follows_validity(name: str) -> None:
    pair = _pair()
    detector = _fitted(name, pair)
    halo = detector.halo
    whole, values = _mapped(pair, detector, plan_chips(200, 230, chip=512, halo=halo, stride=detector.stride))
    tiled, parts = _mapped(pair, detector, plan_chips(200, 230, chip=2 * halo + 64, halo=halo, stride=detector.stride))
    if name == "deep":  # convolutions are summed in an order that depends on the chip's shape
        np.testing.assert_allclose(parts.stored, values.stored, atol=1e-5)
        assert np.abs(tiled.astype(int) - whole).max() <= 1
    else:
        np.testing.assert_array_equal(parts.stored, values.stored)
        np.testing.assert_array_equal(tiled, whole)
    np.testing.assert_array_equal(whole == NODATA, ~pair.valid)
    np.testing.assert_array_equal(np.isnan(values.stored[0]), ~pair.valid)


@pytest.mark.parametrize("name", [*NAMES, "deep"])
def test_what_changed_is_found_and_bytes_under_nodata_change_nothing(name: str) -> None:
    pair = _pair()
    other = ArrayPair(pair.before.copy(), pair.after.copy(), pair.valid)
    other.before[:, ~pair.valid], other.after[:, ~pair.valid] = np.nan, 0.9
    detector, again = _fitted(name, pair), _fitted(name, other)
    assert detector.fitted.as_json() == again.fitted.as_json()
    plan = plan_chips(200, 230, chip=512, halo=0, stride=detector.stride)
    stored = _mapped(pair, detector, plan)[0]
    np.testing.assert_array_equal(stored, _mapped(other, again, plan)[0])
    changed = np.zeros(pair.valid.shape, np.bool_)
    changed[60:90, 100:140] = True
    inside, outside = stored[changed & pair.valid], stored[~changed & pair.valid]
    assert (inside >= 127).mean() > 0.5
    assert (outside >= 127).mean() < (0.2 if name == "deep" else 0.1)  # features see far around the change


@pytest.mark.parametrize("name", NAMES)
def test_without_change_nothing_is_changed(name: str) -> None:
    fitted = _fitted(name, _pair(changed=False)).fitted
    if name == "pca-kmeans":
        # Neighbouring sums are no longer a gamma distribution, but none is likelier changed than not in many pixels.
        assert fitted.mixture.share < 0.5
    elif name == "urban":
        assert fitted.probability(np.array([0, 1, 1.2], np.float32)).max() < 0.2
    else:
        assert not fitted.mixture.two
        assert fitted.probability(np.array([0, 1, 50], np.float32)).max() == 0


@pytest.mark.parametrize("name", NAMES)
def test_equal_dates_have_no_change(name: str) -> None:
    pair = _pair()
    equal = ArrayPair(pair.before, pair.before, pair.valid)
    detector = _fitted(name, equal)
    stored, values = _mapped(equal, detector, plan_chips(200, 230, chip=512, halo=0, stride=1))
    assert set(np.unique(stored)) == {0, NODATA}
    assert np.nanmax(values.stored[0]) < 1e-6


def test_a_detector_answers_as_the_protocol_says() -> None:
    pair = _pair()
    pair.valid[:] = True
    detector = _fitted("irmad", pair)
    probability = detector.predict(pair.before[None], pair.after[None])
    assert (probability.shape, probability.dtype) == ((1, 1, 200, 230), np.float32)
    stored = _mapped(pair, detector, plan_chips(200, 230, chip=64, halo=0, stride=1))[0]
    np.testing.assert_array_equal(np.rint(probability[0, 0] * 254), stored)


def test_the_sample_of_a_pair_is_exact_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = _pair()
    sample = sample_pair(pair, silent)
    everything = np.concatenate([pair.before[:, pair.valid], pair.after[:, pair.valid]]).astype(np.float64)
    np.testing.assert_allclose(sample.moments.mean, everything.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(sample.moments.covariance, np.cov(everything, ddof=0), rtol=1e-9)
    assert sample.pixels.shape[1] == pair.valid.sum() == sample.as_json()["valid_px"]
    monkeypatch.setattr("changedet.detect.sample._MOST_SAMPLES", 1000)
    assert sample_pair(pair, silent).pixels.shape == (4, 1000)


def test_blocks_without_a_valid_pixel_are_not_looked_at_again() -> None:
    pair = _pair(600, 1100)
    pair.valid[:, :600] = False
    sample: PairSample = sample_pair(pair, silent)
    assert [(block.row, block.col) for block in sample.blocks] == [(0, 512), (0, 1024), (512, 512), (512, 1024)]


def test_fitted_state_is_plain_data() -> None:
    for name in NAMES:
        fitted: Fitted = _fitted(name, _pair()).fitted
        assert json.loads(json.dumps(fitted.as_json()))["detector"] == name


@pytest.mark.parametrize("changed", [True, False])
@pytest.mark.parametrize("name", get_args(Detector))
def test_a_detector_restored_from_run_json_measures_the_same_bits(name: str, changed: bool) -> None:
    pair = _pair(changed=changed)
    detector = _fitted(name, pair)
    record = json.loads(json.dumps(plain({"fitted": detector.fitted.as_json()}), allow_nan=False))
    statistic = detector.fitted.statistic if name == "deep" else None
    restored = StatisticDetector(Fitted.from_json(record["fitted"], statistic), pair.bands)
    chip = pair.read(Window(0, 0, 96, 120))
    for first, second in zip(detector.measure(chip), restored.measure(chip), strict=True):
        np.testing.assert_array_equal(first, second)
    assert restored.fitted.otsu == detector.fitted.otsu
    assert restored.fitted.as_json() == detector.fitted.as_json()


def test_a_statistic_that_parts_nothing_is_restored_though_json_has_no_infinity() -> None:
    pair = _pair(60, 60, changed=False)
    same = ArrayPair(pair.before, pair.before, pair.valid)
    fitted = _fitted("pca-kmeans", same).fitted
    record = json.loads(json.dumps(plain(fitted.as_json()), allow_nan=False))
    assert Fitted.from_json(record).as_json() == fitted.as_json()
    assert fitted.otsu == fitted.statistic.as_json()["midpoint"] == float("inf")
