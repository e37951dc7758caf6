"""Otsu's threshold, exactly, without a histogram."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def otsu_threshold(values: NDArray[np.floating]) -> float:
    """Return the threshold that parts values (N,) into the two classes furthest apart.

    It lies midway between the largest value of the lower class and the smallest of the upper; infinity where all values
    are equal, or there is none, as there are no two classes then.

    Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and Cybernetics
    9(1), 1979.

    >>> otsu_threshold(np.array([1.0, 2.0, 8.0, 9.0]))
    5.0
    """
    if values.size == 0 or values.min() == values.max():
        return float("inf")
    ordered = np.sort(values.astype(np.float64))
    below = np.arange(1, len(ordered))
    # Deviations from the mean sum to zero, so one sum gives both classes' means.
    sums = np.cumsum(ordered - ordered.mean())[:-1]
    between = sums**2 / (below * (len(ordered) - below))
    # Equal values cannot be parted.
    between[ordered[1:] == ordered[:-1]] = -1
    best = int(between.argmax())
    return float((ordered[best] + ordered[best + 1]) / 2)
