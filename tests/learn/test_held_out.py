import numpy as np
import pytest
from scipy.special import expit, logit

from changedet.learn.calibrate import fit
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.curves import Reliability
from changedet.learn.held_out import HeldOut

_LOGITS = logit(np.clip(np.arange(255) / 254, 1e-3, 1 - 1e-3))


def _scene(slope: float, offset: float, pixels: int) -> ProbabilityHistogram:
    """As many pixels of each stored value, changed as often as the calibrated logit says."""
    changed = np.rint(expit(slope * _LOGITS + offset) * pixels).astype(np.int64)
    return ProbabilityHistogram(changed, pixels - changed)


def _three_folds() -> HeldOut:
    return HeldOut(
        (
            {"a": _scene(0.7, -2, 900), "b": _scene(0.6, -1, 400)},
            {"c": _scene(0.8, -2, 700)},
            {"d": _scene(0.7, -1.5, 800)},
        )
    )


def test_platt_takes_the_error_away_and_keeps_what_is_changed() -> None:
    scores = _three_folds()
    calibrated = scores.calibrated("platt")
    assert Reliability.of(calibrated.pooled).expected_error < 0.02 < Reliability.of(scores.pooled).expected_error
    assert calibrated.pooled.changed.sum() == scores.pooled.changed.sum()
    before, after = (each.figures()["pooled"]["f1"] for each in (scores, calibrated))
    assert after == pytest.approx(before, abs=0.003)
    assert calibrated.figures()["threshold"] < scores.figures()["threshold"]


def test_a_temperature_leaves_one_half_where_it_was() -> None:
    scores = _three_folds()
    calibrated = scores.calibrated("temperature")
    assert calibrated.calibration is not None
    assert calibrated.calibration.offset == 0
    before, after = (each.pooled.counts(0.5) for each in (scores, calibrated))
    # A byte below 127 may become 127, and so may the network's own probability.
    assert after.f1 == pytest.approx(before.f1, abs=0.01)


def test_apart_each_fold_has_calibration_and_threshold_of_the_others() -> None:
    scores = _three_folds()
    counts = []
    for at in range(3):
        rest = HeldOut(tuple(fold for index, fold in enumerate(scores.folds) if index != at)).calibrated("platt")
        own = HeldOut((scores.folds[at],)).pooled
        assert rest.calibration is not None
        slope, offset = rest.calibration.slope, rest.calibration.offset
        stored = np.rint(expit(slope * _inner_logits() + offset) * 254)
        changed = stored >= np.ceil(254 * rest.pooled.best_threshold() - 1e-9)
        counts.append((own.changed[changed].sum(), own.unchanged[changed].sum()))
    stated = scores.fit_apart("platt")["at_threshold_of_other_folds"]
    assert (stated["tp"], stated["fp"]) == tuple(int(sum(part)) for part in zip(*counts, strict=True))


def _inner_logits() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(logit(np.clip(np.arange(255) / 254, 0.25 / 254, 1 - 0.25 / 254)))


def test_apart_the_errors_are_those_of_scenes_that_had_no_part_in_the_fit() -> None:
    """One fold is quite unlike the others: fitted to all, its error would look smaller than it is."""
    odd = HeldOut(({"a": _scene(1.0, 0, 500)}, {"b": _scene(0.7, -3, 500)}, {"c": _scene(0.7, -3, 500)}))
    apart = odd.fit_apart("platt")["expected_calibration_error"]
    together = Reliability.of(odd.calibrated("platt").pooled).expected_error
    assert apart["after"] > together + 0.05


def test_without_calibration_nothing_becomes_of_the_pixels() -> None:
    scores = _three_folds()
    assert scores.calibrated("none") is scores
    errors = scores.fit_apart("none")["expected_calibration_error"]
    assert errors["before"] == errors["after"] > 0


def test_folds_without_change_are_left_as_they_are() -> None:
    nothing = ProbabilityHistogram(np.zeros(255, np.int64), np.ones(255, np.int64))
    scores = HeldOut(({"a": nothing}, {"b": nothing}))
    assert scores.calibrated("platt").calibration is None
    assert scores.fit_apart("platt") == {}


def test_the_figures_are_by_fold_and_by_scene() -> None:
    scores = _three_folds()
    figures, threshold = scores.figures(), scores.pooled.best_threshold()
    assert [fold["cities"] for fold in figures["folds"]] == [["a", "b"], ["c"], ["d"]]
    assert sum(fold["tp"] for fold in figures["folds"]) == figures["pooled"]["tp"]
    assert figures["cities"]["c"] == scores.folds[1]["c"].counts(threshold).figures()


def test_a_calibration_moves_bytes_as_it_moves_probabilities() -> None:
    scores = _three_folds().folds[1]["c"]
    calibration = fit(scores, "platt", data="drawn")
    to = np.rint(expit(calibration.slope * _inner_logits() + calibration.offset) * 254).astype(int)
    moved = HeldOut(({"c": scores},)).calibrated("platt").pooled
    assert (moved.changed == np.bincount(to, scores.changed, 255)).all()
