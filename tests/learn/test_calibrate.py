from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import expit, logit

from changedet.config import EvaluateConfig
from changedet.errors import ConfigError
from changedet.learn.calibrate import Method, Wish, choose_threshold, fit
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.curves import Reliability
from changedet.learn.datasets import dataset_of, open_dataset
from changedet.learn.evaluate import evaluate
from changedet.network.calibration import probability_of
from changedet.network.card import Calibration
from changedet.network.shipped import read_card
from tests.commands import call
from tests.pairs import tiny_model

METHODS: tuple[Method, ...] = ("temperature", "platt", "isotonic")
BANDS = ("B02", "B03", "B04", "B08")
_STATED = np.arange(255) / 254
_COUNTS = arrays(np.int64, 255, elements=st.integers(0, 50))


def _drawn_from(true: NDArray[np.float64], pixels: int = 1000) -> ProbabilityHistogram:
    """As many pixels of every stored value, of which the share `true` (255,) is changed."""
    changed = np.rint(true * pixels).astype(np.int64)
    return ProbabilityHistogram(changed, pixels - changed)


def _calibrated(calibration: Calibration) -> NDArray[np.float64]:
    logits = torch.from_numpy(logit(np.clip(_STATED, 1e-3, 1 - 1e-3)))
    return probability_of(logits[:, None, None, None], calibration).flatten().numpy()


def _after(histogram: ProbabilityHistogram, calibration: Calibration) -> ProbabilityHistogram:
    to = np.rint(_calibrated(calibration) * 254).astype(int)
    return ProbabilityHistogram(
        *(np.bincount(to, part, 255).astype(np.int64) for part in (histogram.changed, histogram.unchanged))
    )


@pytest.mark.parametrize("slope", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(slope: float) -> None:
    true = expit(slope * logit(np.clip(_STATED, 1e-3, 1 - 1e-3)))
    found = fit(_drawn_from(true), "temperature", data="drawn")
    assert (found.slope, found.offset) == (pytest.approx(slope, rel=0.02), 0)


def test_a_known_slope_and_offset_are_found() -> None:
    true = expit(0.7 * logit(np.clip(_STATED, 1e-3, 1 - 1e-3)) - 1.5)
    found = fit(_drawn_from(true), "platt", data="drawn")
    assert (found.slope, found.offset) == (pytest.approx(0.7, rel=0.02), pytest.approx(-1.5, rel=0.02))


@pytest.mark.parametrize("method", METHODS[1:])
def test_calibration_takes_the_error_away(method: Method) -> None:
    histogram = _drawn_from(expit(0.8 * logit(np.clip(_STATED, 1e-3, 1 - 1e-3)) - 2))
    assert Reliability.of(histogram).expected_error > 0.2
    assert Reliability.of(_after(histogram, fit(histogram, method, data="drawn"))).expected_error < 0.01


def test_isotonic_follows_any_rising_truth_to_a_byte() -> None:
    true = _STATED**3
    found = _calibrated(fit(_drawn_from(true, pixels=10**6), "isotonic", data="drawn"))
    np.testing.assert_allclose(found[2:-2], true[2:-2], atol=1.01e-3)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25)
@given(changed=_COUNTS, unchanged=_COUNTS)
def test_calibrated_probabilities_are_monotone(
    method: Method, changed: NDArray[np.int64], unchanged: NDArray[np.int64]
) -> None:
    assume(changed.any() and unchanged.any())
    found = _calibrated(fit(ProbabilityHistogram(changed, unchanged), method, data="drawn"))
    assert (np.diff(found) >= -1e-9).all()
    assert ((found >= 0) & (found <= 1)).all()


@settings(max_examples=40)
@given(_COUNTS, _COUNTS, st.sampled_from(["precision", "recall"]), st.floats(0.01, 1))
def test_a_threshold_attains_the_wish_at_the_best_price_or_says_it_cannot(
    changed: NDArray[np.int64], unchanged: NDArray[np.int64], goal: str, value: float
) -> None:
    assume(changed.any() and (changed[1:].any() or unchanged[1:].any()))
    histogram = ProbabilityHistogram(changed, unchanged)
    every = [histogram.counts(k / 254) for k in range(1, 255)]
    attaining = [counts for counts in every if getattr(counts, goal) >= value]
    other = {"precision": "recall", "recall": "precision"}[goal]
    wish = Wish(goal, value)  # type: ignore[arg-type]
    if not attaining:
        with pytest.raises(ConfigError, match=f"no threshold gives a {goal} of"):
            choose_threshold(histogram, wish)
        return
    chosen = histogram.counts(choose_threshold(histogram, wish))
    assert getattr(chosen, goal) >= value
    assert getattr(chosen, other) == max(getattr(counts, other) for counts in attaining if counts.tp + counts.fp)


def test_a_model_that_calls_nothing_changed_has_no_precision() -> None:
    histogram = ProbabilityHistogram.empty()
    histogram.changed[0] = histogram.unchanged[0] = 5
    with pytest.raises(ConfigError, match=r"no threshold gives a precision .* calls nothing changed"):
        choose_threshold(histogram, Wish("precision", 0.5))


def test_best_f1_is_a_wish_too() -> None:
    histogram = _drawn_from(_STATED**2)
    assert choose_threshold(histogram, Wish("f1")) == histogram.best_threshold()


@pytest.mark.parametrize("method", METHODS)
def test_the_new_file_is_calibrated_wherever_it_is_used(
    tmp_path: Path, make_oscd: Callable[..., Path], method: Method
) -> None:
    root = make_oscd(tmp_path / "oscd", ("a",), 64)
    model = tiny_model(tmp_path / "tiny.safetensors", bands=BANDS)
    out = tmp_path / "calibrated.safetensors"
    result = call("calibrate", model, root, "--recall", 0.5, "--method", method, "-o", out, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "expected calibration error" in result.stdout
    assert "does not say what it learned from" in result.stderr
    card, old = read_card(out), read_card(model)
    assert card.calibration is not None
    assert (card.calibration.method, card.calibration.data) == (method, "oscd")
    assert card.parents[0].startswith("tiny ")
    assert card.model_copy(update={"calibration": None, "parents": (), "figures": {}, "threshold": 0.5}) == old
    # Evaluating the new file gives what its card says, to the pixel.
    dataset = open_dataset(dataset_of(str(root)))
    (score,) = evaluate([str(out)], dataset, EvaluateConfig(device="cpu"), lambda _: None).models
    stated = card.figures["calibration"]["at_threshold"]  # type: ignore[index, call-overload]
    assert score.counts.figures() == stated
    assert stated["recall"] >= 0.5
    errors = card.figures["calibration"]["expected_calibration_error"]  # type: ignore[index, call-overload]
    assert errors["after"] < errors["before"]
    assert Reliability.of(score.pixels).expected_error == pytest.approx(errors["after"], abs=1e-4)


def test_refusals_write_nothing(tmp_path: Path, make_oscd: Callable[..., Path]) -> None:
    root = make_oscd(tmp_path / "oscd", ("a",), 64)
    place = open_dataset(dataset_of(str(root))).scenes[0].place()
    model = tiny_model(tmp_path / "tiny.safetensors", bands=BANDS, places=(place,))
    out = tmp_path / "new.safetensors"
    for arguments, code, message in (
        (("--f1", "--recall", 0.5), 2, "2 wishes for the threshold"),
        ((), 2, "0 wishes for the threshold"),
        (("--f1",), 2, "show the same pixels"),
        (("--allow-overlap", "--precision", 0.99), 2, "no threshold gives a precision of 0.99"),
    ):
        result = call("calibrate", model, root, "-o", out, "--device", "cpu", *arguments)
        assert (result.exit_code, message in result.stderr) == (code, True), result.output
        assert not out.exists()
