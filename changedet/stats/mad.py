"""Multivariate alteration detection: what the bands of two dates do not have in common, most different first.

Nielsen, Conradsen and Simpson, "Multivariate alteration detection (MAD) and MAF postprocessing in multispectral,
bitemporal image data", Remote Sensing of Environment 64, 1998; Nielsen, "The regularized iteratively reweighted MAD
method for change detection in multi- and hyperspectral data", IEEE Transactions on Image Processing 16(2), 2007.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import gammaln

from changedet.stats.chisquare import survival
from changedet.stats.moments import Moments
from changedet.stats.whitening import whitening

Floats = NDArray[np.float64]

# Equal dates have correlation 1 and variates of no variance; with a floor their statistic is 0 and not 0 / 0.
_SMALLEST_VARIANCE = 1e-9
# Iterations stop once no correlation moves by more, as is usual for the method.
_TOLERANCE = 1e-3
_MOST_ITERATIONS = 50
# Below this share of unchanged pixels the reweighting feeds on a handful of nearly identical ones.
_LEAST_UNCHANGED = 0.01
# Columns at a time: a few MB in float64, whatever the number of samples.
_PART = 1 << 16
_FITTED = ("before_mean", "after_mean", "before", "after", "correlations")


@dataclass(frozen=True, slots=True)
class Mad:
    """Fitted canonical variates of two dates with C bands each; R is the rank of the poorer date, at most C.

    Attributes:
        before_mean: float64 (C,).
        after_mean: float64 (C,).
        before: float64 (R, C), one row a variate; each canonical variate has unit variance.
        after: float64 (R, C).
        correlations: float64 (R,), canonical, ascending, so that the variate with the most change comes first.
        iterations: how often the pixels were weighted anew; 0 for plain MAD.
        converged: whether the last iteration moved no correlation by more than 0.001; True for plain MAD.
    """

    before_mean: Floats
    after_mean: Floats
    before: Floats
    after: Floats
    correlations: Floats
    iterations: int = 0
    converged: bool = True

    @classmethod
    def from_moments(cls, moments: Moments) -> Self:
        """Fit to the moments of stacked bands (before, then after; 2C variables).

        Raises:
            PairError: at one date no band varies.
        """
        bands = len(moments.mean) // 2
        scale = np.where(moments.deviation > 0, moments.deviation, 1.0)
        correlation = moments.covariance / np.outer(scale, scale)
        whiten_before = whitening(correlation[:bands, :bands])
        whiten_after = whitening(correlation[bands:, bands:])
        u, rho, v = scipy.linalg.svd(whiten_before @ correlation[:bands, bands:] @ whiten_after.T, full_matrices=False)
        before, after = u.T @ whiten_before, v @ whiten_after
        # A pair of variates may change sign together: let the first date's agree with its bands on the whole.
        sign = np.where((before @ correlation[:bands, :bands]).sum(axis=1) < 0, -1.0, 1.0)[:, None]
        before, after = sign * before / scale[:bands], sign * after / scale[bands:]
        return cls(moments.mean[:bands], moments.mean[bands:], before[::-1], after[::-1], np.clip(rho[::-1], 0.0, 1.0))

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the chi-square statistic."""
        return len(self.correlations)

    def variates(self, before: NDArray[np.floating], after: NDArray[np.floating]) -> Floats:
        """Return the MAD variates, float64 (R, N), of pixels (C, N)."""
        # In place where it can be: arrays of this size would not stay in the processor's cache.
        variates: Floats = self.before @ (before - self.before_mean[:, None])
        variates -= self.after @ (after - self.after_mean[:, None])
        return variates

    def statistic(self, before: NDArray[np.floating], after: NDArray[np.floating]) -> Floats:
        """Return the sum of squared variates over their variances, float64 (N,), of pixels (C, N).

        Where nothing changed, it has a chi-square distribution with `freedom` degrees of freedom.
        """
        variance = np.maximum(2 * (1 - self.correlations), _SMALLEST_VARIANCE)
        squares = self.variates(before, after)
        np.square(squares, out=squares)
        squares /= variance[:, None]
        statistic: Floats = squares.sum(axis=0)
        return statistic

    def no_change(self, before: NDArray[np.floating], after: NDArray[np.floating]) -> Floats:
        """Return the chi-square tail, float64 (N,) in 0..1, of pixels (C, N): IR-MAD's weight, high where unchanged."""
        return survival(self.statistic(before, after), self.freedom)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            **{name: getattr(self, name).tolist() for name in _FITTED},
            "iterations": self.iterations,
            "converged": self.converged,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what `as_json` wrote."""
        arrays: dict[str, Any] = {name: np.array(record[name]) for name in _FITTED}
        return cls(**arrays, iterations=record["iterations"], converged=record["converged"])


def fit_irmad(samples: NDArray[np.floating], *, consistent: bool = True) -> Mad:
    """Fit MAD to stacked pixels (2C, N), weighted by their probability of no change, again and again until it settles.

    As published, every round narrows the variances that the next one's weights are taken from, as likely pixels are
    those of small variates: on OSCD's Beirut, four bands, it ends at 1.5 pixels in a hundred, and the median of the
    statistic is 425 where that of a chi-square variable is 3.4. `consistent` takes this selection out again, so that
    pixels without change are a fixed point and the statistic keeps its distribution.

    Args:
        samples: bands of the before date, then of the after date.
        consistent: correct for the selection; False is the published method.

    Raises:
        PairError: at one date no band varies.
    """
    bands = len(samples) // 2
    mad = Mad.from_moments(_moments(samples, None))
    for iteration in range(1, _MOST_ITERATIONS + 1):
        moments = _moments(samples, mad)
        if moments.weight < max(_LEAST_UNCHANGED * samples.shape[1], 2 * bands + 1):
            return replace(mad, iterations=iteration - 1, converged=False)
        last, mad = mad, Mad.from_moments(_unselected(moments, mad) if consistent else moments)
        if mad.freedom == last.freedom and np.abs(mad.correlations - last.correlations).max() < _TOLERANCE:
            return replace(mad, iterations=iteration, converged=True)
    return replace(mad, iterations=_MOST_ITERATIONS, converged=False)


def _unselected(moments: Moments, mad: Mad) -> Moments:
    """Return moments as they were before pixels were weighted by the tail of `mad`'s statistic.

    Of normal pixels without change, the weights leave the regression on the variates as it is and scale the variates'
    covariance by c (Lawley, "A note on Karl Pearson's selection formulae", Proceedings of the Royal Society of
    Edinburgh A 62, 1943). c is E[min(S, T)] / R for two independent chi-square variables of R degrees of freedom: one
    minus their Gini coefficient.
    """
    share = 1 - np.exp(gammaln((mad.freedom + 1) / 2) - gammaln(mad.freedom / 2 + 1)) / np.sqrt(np.pi)
    rows = np.concatenate([mad.before, -mad.after], axis=1)
    across = moments.scatter @ rows.T
    # The smallest part of a variance is a floor, so that equal dates, whose variates have none, can be divided by it.
    variates = rows @ across + _SMALLEST_VARIANCE * moments.weight * np.eye(mad.freedom)
    return replace(moments, scatter=moments.scatter + (1 / share - 1) * across @ np.linalg.solve(variates, across.T))


def _moments(samples: NDArray[np.floating], mad: Mad | None) -> Moments:
    """Return the moments of the samples, each with its probability of no change for its weight."""
    bands = len(samples) // 2
    total = Moments.none(len(samples))
    for start in range(0, samples.shape[1], _PART):
        part = samples[:, start : start + _PART].astype(np.float64)
        total += Moments.of(part, None if mad is None else mad.no_change(part[:bands], part[bands:]))
    return total
