"""The chi-square distribution, and the transform that makes it nearly normal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, chdtri

from changedet.errors import ConfigError


def survival(statistic: NDArray[np.floating], freedom: int) -> NDArray[np.float64]:
    """Return the share of a chi-square distribution with `freedom` degrees of freedom that lies above each value."""
    above: NDArray[np.float64] = chdtrc(freedom, np.maximum(statistic, 0).astype(np.float64))
    return above


def quantile(share: float, freedom: int) -> float:
    """Return the value that `share` of a chi-square distribution lies below.

    Raises:
        ConfigError: `share` is not between 0 and 1.

    >>> round(quantile(0.95, 1), 4)
    3.8415
    """
    if not 0 < share < 1:
        raise ConfigError(f"chi-square quantile of {share}", expected="a share between 0 and 1, e.g. chi2:0.99")
    return float(chdtri(freedom, 1 - share))


def to_normal(statistic: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cube root, which makes sums of squares of normal deviates nearly normal, whatever their number.

    Wilson and Hilferty, "The distribution of chi-square", PNAS 17, 1931; the same holds for any gamma distribution, and
    so, nearly, for a sum of squares of correlated deviates.
    """
    root: NDArray[np.float64] = np.cbrt(statistic.astype(np.float64))
    return root
