"""Counts, means and scatter matrices that add up, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Weight, mean and scatter of samples of V variables; `+` joins those of two sets of samples.

    Joining never subtracts large sums from one another (Chan, Golub and LeVeque, "Algorithms for computing the sample
    variance", The American Statistician 37, 1983), so digital numbers far from zero keep their digits.

    Attributes:
        weight: sum of the samples' weights; their number where each has weight 1.
        mean: float64 (V,).
        scatter: float64 (V, V), the weighted sum of the products of deviations from the mean.
    """

    weight: float
    mean: Floats
    scatter: Floats

    @classmethod
    def none(cls, variables: int) -> Self:
        """Return the moments of no sample at all."""
        return cls(0.0, np.zeros(variables), np.zeros((variables, variables)))

    @classmethod
    def of(cls, samples: NDArray[np.floating], weights: Floats | None = None) -> Self:
        """Return the moments of finite samples (V, N), with weights (N,), zero or more, or 1 each."""
        values = samples.astype(np.float64)
        weight = float(values.shape[1] if weights is None else weights.sum())
        if weight == 0:
            return cls.none(len(values))
        mean = values.mean(axis=1) if weights is None else values @ weights / weight
        values -= mean[:, None]
        scatter = values @ (values.T if weights is None else (values * weights).T)
        return cls(weight, mean, (scatter + scatter.T) / 2)

    @classmethod
    def total(cls, variables: int, parts: Iterable[Self]) -> Self:
        """Return the sum of any number of parts."""
        return sum(parts, start=cls.none(variables))

    def __add__(self, other: Self) -> Self:
        if self.weight == 0 or other.weight == 0:
            return other if self.weight == 0 else self
        weight = self.weight + other.weight
        step = other.mean - self.mean
        mean = self.mean + step * (other.weight / weight)
        between = np.outer(step, step) * (self.weight * other.weight / weight)
        return type(self)(weight, mean, self.scatter + other.scatter + between)

    def of_variables(self, chosen: Sequence[int]) -> Self:
        """Return the moments of some of the variables, in that order."""
        return type(self)(self.weight, self.mean[list(chosen)], self.scatter[np.ix_(chosen, chosen)])

    @property
    def covariance(self) -> Floats:
        """Scatter over weight, (V, V): the population's, as the samples are all there is; NaN of no sample."""
        return self.scatter / self.weight if self.weight else np.full_like(self.scatter, np.nan)

    @property
    def deviation(self) -> Floats:
        """Standard deviation of each variable, (V,)."""
        deviation: Floats = np.sqrt(np.diag(self.covariance))
        return deviation
