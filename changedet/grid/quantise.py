"""Probability as it is stored, in one place for every room.

As a byte: 0..254 is probability times 254, 255 is 'no data'. Or as it is, float32 with NaN for 'no data'; what follows
from it, the mask first of all, is then that of the byte it rounds to, so that nothing depends on how it is stored.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from changedet.errors import ConfigError

STEPS = 254
NODATA = 255

# 254 * 0.5 is 127 exactly, but 254 * (k / 254) may come out a hair above k, and must not be pushed to k + 1.
_ROUNDING = 1e-9


def quantise(probability: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return probability (..., H, W; clipped to 0..1) as uint8.

    It is 255 where `valid` (H, W; True = valid) is False or the probability is not finite.
    """
    steps = probability * np.float32(STEPS)
    np.rint(steps, out=steps)
    np.clip(steps, 0, STEPS, out=steps)
    # In place, as this stands between two chips in the network. NaN stays NaN so far.
    np.copyto(steps, np.float32(NODATA), where=~(valid & np.isfinite(probability)))
    return steps.astype(np.uint8)


def below_one(probability: float) -> float:
    """Return a probability that has a logit: the highest byte stands for those from half a step below 1 too."""
    return min(probability, 1 - 0.5 / STEPS)


def stored_as(
    dtype: str, probability: NDArray[np.float32], valid: NDArray[np.bool_]
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Return probability (..., H, W) as `uint8`, see `quantise`, or as `float32`: 0..1, NaN where invalid."""
    if dtype == "uint8":
        return quantise(probability, valid)
    known = valid & np.isfinite(probability)
    stored: NDArray[np.float32] = np.where(known, np.clip(probability, 0, 1), np.float32(np.nan))
    return stored


def as_bytes(stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Return stored probabilities (..., H, W) as bytes, whichever way they are stored."""
    return stored if stored.dtype == np.uint8 else quantise(stored, np.ones(stored.shape[-2:], np.bool_))


def stored_change(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the stored probability (H, W) of change of any kind from that of each (K, H, W), whose sum it is.

    It is 255 where a kind's is. As each was rounded, the sum of K may be off by K / 2 steps.
    """
    if len(stored) == 1:
        only: NDArray[np.uint8] = stored[0]
        return only
    total = np.minimum(stored.sum(axis=0, dtype=np.uint16), STEPS)
    change: NDArray[np.uint8] = np.where((stored == NODATA).any(axis=0), NODATA, total).astype(np.uint8)
    return change


def stored_threshold(threshold: float) -> int:
    """Return the smallest stored value that counts as changed: ceil(254 * threshold).

    Raises:
        ConfigError: `threshold` lies outside 0..1.

    >>> stored_threshold(0.5), stored_threshold(0.0), stored_threshold(1.0)
    (127, 0, 254)
    """
    if not 0.0 <= threshold <= 1.0:  # NaN is refused too
        raise ConfigError(f"threshold {threshold}", expected="a probability from 0 to 1")
    return math.ceil(STEPS * threshold - _ROUNDING)
