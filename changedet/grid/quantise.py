"""Probability as one byte: 0..254 is probability times 254, 255 is 'no data'. One place says how, for every room."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

STEPS = 254
NODATA = 255

# 254 * 0.5 is 127 exactly, but 254 * (k / 254) may come out a hair above k, and must not be pushed to k + 1.
_ROUNDING = 1e-9


def quantise(probability: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return probability (..., H, W; 0..1) as uint8, 255 where `valid` (H, W; True = valid) is False."""
    stored = np.rint(probability * np.float32(STEPS)).astype(np.uint8)
    stored[..., ~valid] = NODATA
    return stored


def stored_threshold(threshold: float) -> int:
    """Return the smallest stored value that counts as changed: ceil(254 * threshold).

    >>> stored_threshold(0.5), stored_threshold(0.0), stored_threshold(1.0)
    (127, 0, 254)
    """
    return math.ceil(STEPS * threshold - _ROUNDING)
