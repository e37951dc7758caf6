import numpy as np
import pytest

from changedet.detect.label_free import Fitted
from changedet.detect.threshold import threshold_of_model, threshold_of_statistic
from changedet.errors import ConfigError
from changedet.stats.chisquare import ChiSquare, quantile
from changedet.stats.cva import Cva
from changedet.stats.mad import Mad
from changedet.stats.mixture import fit_mixture
from changedet.stats.moments import Moments


def _fitted(*, changed: float = 0.1, chi_square: bool = True) -> Fitted:
    rng = np.random.default_rng(0)
    moments = Moments.of(rng.normal(size=(6, 200)))
    statistic = ChiSquare(Mad.from_moments(moments)) if chi_square else Cva.from_moments(moments)
    squares = rng.chisquare(3, 50_000) * np.where(rng.random(50_000) < changed, 20, 1)
    return Fitted("mad" if chi_square else "cva", statistic, fit_mixture(squares), 17.0, {})


def test_a_networks_threshold_is_the_cards_or_the_one_asked_for() -> None:
    assert threshold_of_model(None, 0.44).as_json() == {
        "rule": "card",
        "reason": "the model card's, chosen on held-out data",
        "asked": None,
        "decides": "probability",
        "probability": 0.44,
        "statistic": None,
    }
    assert (threshold_of_model(0.6, 0.44).probability, threshold_of_model(0.6, 0.44).rule) == (0.6, "number")


def test_a_rule_is_refused_for_a_network() -> None:
    with pytest.raises(ConfigError, match=r"--threshold otsu with a network[\s\S]*--detector irmad"):
        threshold_of_model("otsu", 0.5)


def test_by_default_the_mixture_decides() -> None:
    threshold = threshold_of_statistic(None, _fitted())
    assert (threshold.rule, threshold.probability, threshold.statistic) == ("mixture", 0.5, None)
    assert "10." in threshold.reason or "9." in threshold.reason


def test_where_nothing_changed_the_reason_says_so() -> None:
    assert "nothing is changed" in threshold_of_statistic(None, _fitted(changed=0)).reason


def test_rules_on_the_statistic_decide_by_the_statistic() -> None:
    fitted = _fitted()
    rules = {"otsu": 17.0, "chi2:0.99": quantile(0.99, 3), "statistic:12.5": 12.5}
    for asked, value in rules.items():
        threshold = threshold_of_statistic(asked, fitted)
        assert (threshold.asked, threshold.statistic) == (asked, pytest.approx(value))
        expected = fitted.probability(np.array([value], np.float32))[0]
        assert threshold.probability == pytest.approx(float(expected))


def test_a_number_is_the_posterior() -> None:
    threshold = threshold_of_statistic(0.9, _fitted())
    assert (threshold.probability, threshold.statistic) == (0.9, None)


def test_a_statistic_that_is_no_chi_square_has_no_quantile() -> None:
    with pytest.raises(ConfigError, match=r"cva, whose statistic has no chi-square[\s\S]*mad, irmad or sfa"):
        threshold_of_statistic("chi2:0.99", _fitted(chi_square=False))
