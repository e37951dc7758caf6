"""Two populations in one statistic of change, and the posterior of the upper one.

Where nothing changed, a statistic of change is a sum of squares of nearly normal deviates. That has a gamma
distribution where the deviates are independent, and very nearly one where they are not (Satterthwaite, "An approximate
distribution of estimates of variance components", Biometrics Bulletin 2(6), 1946). So both components are gamma
distributions: of the chi-square statistics themselves, and of the squares of magnitudes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln, logsumexp, polygamma, psi

from changedet.stats.otsu import otsu_threshold

Floats = NDArray[np.float64]

_BINS = 1024
_MOST_STEPS = 300
# EM stops once a step raises the mean log-likelihood by less (nats a sample).
_ENOUGH = 1e-7
# Squares are in units of variances: below this they are the rounding of pixels that are identical at both dates.
_ROUNDING = 1e-9
# A component this regular (deviation under 10 % of the mean) describes a spike of equal values, not a population.
_LARGEST_SHAPE = 100.0
# What a second component adds to the mean log-likelihood (nats a sample) of a chi-square statistic without change stays
# far below this, and what it adds where 0.3 % of the pixels changed stays above; see the tests. Magnitudes of bands
# that go together are further from a gamma distribution: twelve of them gain up to 0.07 without change.
LEAST_GAIN = 0.01


@dataclass(frozen=True, slots=True)
class Gamma:
    """A gamma distribution: x ** (shape - 1) * exp(-x / scale), normalised."""

    shape: float
    scale: float

    @property
    def mean(self) -> float:
        """Its mean."""
        return self.shape * self.scale

    def log_density(self, x: Floats) -> Floats:
        """Return the logarithm of the density at x > 0."""
        norm = gammaln(self.shape) + self.shape * np.log(self.scale)
        density: Floats = (self.shape - 1) * np.log(x) - x / self.scale - norm
        return density

    @classmethod
    def of(cls, mean: float, mean_log: float) -> Self:
        """Return the most likely one of samples by their mean and the mean of their logarithms.

        Minka, "Estimating a gamma distribution", 2002: a Newton step on 1 / shape, from its closed approximation.
        """
        excess = max(np.log(mean) - mean_log, 0.5 / _LARGEST_SHAPE)
        shape = (3 - excess + np.sqrt((excess - 3) ** 2 + 24 * excess)) / (12 * excess)
        for _ in range(4):
            slope = 1 / shape - polygamma(1, shape)
            shape = 1 / (1 / shape + (np.log(shape) - psi(shape) - excess) / (shape**2 * slope))
        shape = float(np.clip(shape, 1e-3, _LARGEST_SHAPE))
        return cls(shape, mean / shape)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Gamma distributions of the unchanged and of the changed; one alone where a second explains nothing.

    The odds of two gamma densities turn back at one point at most, beyond the bulk of either. As more change never
    means less probability of change, values beyond that point take its odds.

    Attributes:
        unchanged: the component of the smaller mean.
        changed: that of the larger.
        share: of the changed, 0..1; 0 where there is but one population.
        gain: mean log-likelihood that the second component adds (nats a sample).
        samples: how many values it was fitted to, those of zero, but for rounding, not counted.
    """

    unchanged: Gamma
    changed: Gamma
    share: float
    gain: float
    samples: int
    two: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "two", self.share > 0)

    def posterior(self, squares: NDArray[np.floating]) -> Floats:
        """Return the probability, float64 0..1, that each sum of squares is of the changed; it never decreases."""
        if not self.two:
            return np.zeros(np.shape(squares))
        at = np.maximum(np.asarray(squares, dtype=np.float64), np.finfo(np.float32).tiny)
        rate, power = 1 / self.unchanged.scale - 1 / self.changed.scale, self.changed.shape - self.unchanged.shape
        # The odds' slope, rate + power / x, is zero at one x at most: a valley where it rises afterwards, else a peak.
        turn = -power / rate if rate else 0.0
        if turn > 0:
            at = np.maximum(at, turn) if rate > 0 else np.minimum(at, turn)
        probability: Floats = expit(self._log_odds(at))
        return probability

    def threshold(self) -> float:
        """Return the sum of squares from which the posterior is at least a half; infinity where it never is."""
        if not self.two:
            return float("inf")
        low, high = np.log(1e-6 * self.unchanged.mean), np.log(1e3 * self.changed.mean)

        def over_half(log_square: float) -> float:
            return float(self.posterior(np.exp(np.array([log_square])))[0]) - 0.5

        from scipy.optimize import brentq  # a sixth of a second, which a run of a network need not spend

        if over_half(high) < 0:
            return float("inf")
        return 0.0 if over_half(low) > 0 else float(np.exp(brentq(over_half, low, high, xtol=1e-12)))

    def _log_odds(self, squares: Floats) -> Floats:
        odds = np.log(self.share) - np.log1p(-self.share)
        both: Floats = odds + self.changed.log_density(squares) - self.unchanged.log_density(squares)
        return both

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        components = {"unchanged": self.unchanged, "changed": self.changed}
        return {
            "family": "gamma",
            **{name: {"shape": part.shape, "scale": part.scale} for name, part in components.items()},
            "share_changed": self.share,
            "gain_nats": self.gain,
            "samples": self.samples,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what `as_json` wrote."""
        unchanged, changed = (Gamma(**record[name]) for name in ("unchanged", "changed"))
        return cls(unchanged, changed, record["share_changed"], record["gain_nats"], record["samples"])


@dataclass(frozen=True, slots=True)
class _Histogram:
    """Samples by bins of their cube root: share, mean and mean logarithm of each bin that holds any, (B,)."""

    share: Floats
    mean: Floats
    mean_log: Floats

    @classmethod
    def of(cls, squares: Floats) -> Self:
        root = np.cbrt(squares)
        bins = np.minimum((root / root.max() * _BINS).astype(np.int64), _BINS - 1)
        counts = np.bincount(bins, minlength=_BINS)
        there = counts > 0
        sums = (np.bincount(bins, values, _BINS)[there] / counts[there] for values in (squares, np.log(squares)))
        return cls(counts[there] / len(squares), *sums)

    def fit(self, weights: Floats) -> tuple[float, Gamma]:
        """Return the share and the gamma distribution of the samples, each bin weighted (B,)."""
        # A component that dies out keeps a trace, so that its logarithm stays a number.
        part = self.share * weights + 1e-300
        share = float(part.sum())
        return max(share, 1e-12), Gamma.of(float(part @ self.mean) / share, float(part @ self.mean_log) / share)

    def log_density(self, component: Gamma) -> Floats:
        return component.log_density(self.mean)


def fit_mixture(squares: NDArray[np.floating], *, least_gain: float = LEAST_GAIN) -> Mixture:
    """Fit two gamma distributions to sums of squares (N,) by expectation and maximisation, on a fine histogram.

    Dempster, Laird and Rubin, "Maximum likelihood from incomplete data via the EM algorithm", Journal of the Royal
    Statistical Society B 39, 1977. It begins at Otsu's classes of the cube roots. Pixels that are identical at both
    dates, whose sum is zero but for rounding, belong to no distribution and are left out: they are unchanged.

    Args:
        squares: finite, zero or more.
        least_gain: what a second component must add to the mean log-likelihood (nats a sample) to be kept.
    """
    positive = squares[squares > _ROUNDING].astype(np.float64)
    split = otsu_threshold(np.cbrt(positive)) ** 3
    if not np.isfinite(split):
        value = float(positive.mean()) if positive.size else 1.0
        return Mixture(Gamma(1.0, value), Gamma(1.0, value), 0.0, 0.0, positive.size)
    histogram = _Histogram.of(positive)
    _, single = histogram.fit(np.ones_like(histogram.share))
    upper = np.clip((histogram.mean >= split).astype(np.float64), 0.01, 0.99)
    likelihood = -np.inf
    for _ in range(_MOST_STEPS):
        parts = [histogram.fit(weights) for weights in (1 - upper, upper)]
        logs = np.stack([np.log(share) + histogram.log_density(component) for share, component in parts])
        both = logsumexp(logs, axis=0)
        upper = np.exp(logs[1] - both)
        before, likelihood = likelihood, float(histogram.share @ both)
        if likelihood - before < _ENOUGH:
            break
    gain = likelihood - float(histogram.share @ histogram.log_density(single))
    (_, unchanged), (share, changed) = sorted(parts, key=lambda part: part[1].mean)
    if gain < least_gain:
        return Mixture(single, single, 0.0, max(gain, 0.0), positive.size)
    return Mixture(unchanged, changed, share, gain, positive.size)
