"""From correlated variables to uncorrelated ones."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from changedet.errors import PairError

# Directions with less than this share of the largest variance are rounding: of a constant or a repeated band.
_RANK_TOLERANCE = 1e-9


def whitening(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows (R, C) that turn C variables into R uncorrelated ones of unit variance; R is the rank.

    Args:
        correlation: of the variables, float64 (C, C), symmetric; a constant one has a row of zeros.

    Raises:
        PairError: no variable varies.
    """
    variances, directions = scipy.linalg.eigh(correlation)
    if not variances[-1] > 0:
        raise PairError(
            "at one date every valid pixel is the same",
            expected="two scenes that vary, for their statistics to be compared",
            remedy="changedet inspect BEFORE AFTER shows what is in each: one may be empty, or the wrong file",
        )
    keep = variances > _RANK_TOLERANCE * variances[-1]
    rows: NDArray[np.float64] = (directions[:, keep] / np.sqrt(variances[keep])).T
    return rows
