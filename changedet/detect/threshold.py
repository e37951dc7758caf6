"""From which value a pixel counts as changed, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from changedet.config import parse_rule
from changedet.detect.label_free import Fitted
from changedet.errors import ConfigError
from changedet.stats.chisquare import quantile
from changedet.stats.urban import UrbanChange

_EVEN = 0.5


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold with its reason.

    Attributes:
        probability: the stored probability from which a pixel is changed, 0..1; where `statistic` decides, the
            probability there.
        statistic: value of statistic.tif from which a pixel is changed; None where the stored probability decides.
        rule: how it was chosen.
        reason: why that, for a person.
        asked: the rule as it was asked for; None for a number and for the default.
    """

    probability: float
    statistic: float | None
    rule: str
    reason: str
    asked: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        decides = "probability" if self.statistic is None else "statistic"
        return {
            "rule": self.rule,
            "reason": self.reason,
            "asked": self.asked,
            "decides": decides,
            "probability": self.probability,
            "statistic": self.statistic,
        }


def restored_threshold(record: Mapping[str, Any]) -> Threshold:
    """Return what `Threshold.as_json` wrote."""
    return Threshold(**{name: record[name] for name in ("probability", "statistic", "rule", "reason", "asked")})


def threshold_of_model(asked: float | str | None, of_card: float) -> Threshold:
    """Return the threshold for a network: a probability, the card's unless another was asked for.

    Raises:
        ConfigError: a rule was asked for, which needs a statistic.
    """
    if isinstance(asked, str):
        raise ConfigError(
            f"--threshold {asked} with a network",
            expected="a probability; rules take the statistic of a detector that needs no labels",
            remedy="--detector irmad, or a number from 0 to 1",
        )
    if asked is None:
        return Threshold(of_card, None, "card", "the model card's, chosen on held-out data")
    return Threshold(asked, None, "number", "as asked")


def threshold_of_statistic(asked: float | str | None, fitted: Fitted) -> Threshold:
    """Return the threshold for a label-free detector.

    Raises:
        ConfigError: a chi-square quantile of a statistic that is none, or of a share outside 0..1.
    """
    if isinstance(asked, float):
        return Threshold(asked, None, "number", "as asked: the posterior probability of change")
    return replace(_by_rule(asked, fitted), asked=asked)


def _by_rule(asked: str | None, fitted: Fitted) -> Threshold:
    rule, value = parse_rule(asked or fitted.statistic.rule)
    if rule == "mixture":
        if isinstance(fitted.statistic, UrbanChange):
            raise ConfigError(
                f"--threshold mixture with {fitted.name}, whose statistic is an average that no mixture describes",
                expected="statistic:NUMBER, otsu, or a probability",
                remedy=f"leave it out, for {fitted.statistic.rule}",
            )
        return Threshold(_EVEN, None, rule, _of_mixture(fitted, asked=asked is not None))
    if rule == "otsu":
        return _at(fitted, fitted.otsu, rule, "as asked: parts the statistic's root into the classes furthest apart")
    if rule == "statistic":
        why = "the default of this detector" if asked is None else "as asked"
        return _at(fitted, value, rule, f"{why}: a value of the statistic")
    if fitted.statistic.freedom is None:
        raise ConfigError(
            f"--threshold {asked} with {fitted.name}, whose statistic has no chi-square distribution",
            expected="mad, irmad or sfa",
            remedy="--threshold mixture, or otsu",
        )
    freedom = fitted.statistic.freedom
    why = f"as asked: quantile of the chi-square distribution with {freedom} degrees of freedom"
    return _at(fitted, quantile(value, freedom), rule, why)


def _of_mixture(fitted: Fitted, *, asked: bool) -> str:
    mixture = fitted.mixture
    if not mixture.two:
        return (
            f"one population explains the statistic (a second adds {mixture.gain:.3f} nats a pixel): nothing is changed"
        )
    why = "as asked" if asked else "the default"
    return f"{why}: change is likelier than not; the mixture holds {mixture.share:.1%} of the pixels for changed"


def _at(fitted: Fitted, value: float, rule: str, reason: str) -> Threshold:
    probability = float(fitted.probability(np.array([value], dtype=np.float32))[0]) if np.isfinite(value) else 1.0
    return Threshold(probability, value, rule, reason)
