"""Change seldom comes alone: a probability moved by how much seems to change around the pixel.

What is built is built beside other building sites, and a field that was ploughed lies far from them. The expected share
of change around a pixel, which is the mean of the probabilities there, is a prior of its own; where it is higher or
lower than the share that a network learned with, the odds are moved by that ratio, as Saerens, Latinne and Decaestecker
do with the prior of a whole set (Neural Computation 14(1), 2002). What it is worth, and what it costs, is in
docs/experiments.md.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.special import expit, logit

Floats = NDArray[np.float32]

# Half the side (px) of the square around a pixel, which is 2 * RADIUS + 1.
RADIUS: Final = 16
# Share of change that leaves a probability as it is. Another would move all of them alike, which calibration undoes;
# this one keeps them away from both ends of what a byte can hold.
_SHARE: Final = 0.08
# No share counts as less than this, and no probability as surer than that.
_LEAST_SHARE, _LEAST = 1e-5, 1e-7


def reinforced(
    probability: Floats, valid: NDArray[np.bool_], weight: float, *, slope: float = 1.0, offset: float = 0.0
) -> Floats:
    """Return probabilities whose logit is moved by `weight` times the logarithm of the share of change around.

    Args:
        probability: float32 (H, W), calibrated: its logit is `slope * own + offset`.
        valid: bool (H, W), True = valid; other pixels count for nothing, and get a number that means nothing.
        weight: of a unit of the logarithm, times the slope.
        slope: of the calibration. The share is the mean of probabilities before it, so that calibration does not
            change which pixels come first.
        offset: of the calibration.
    """
    grade: Floats = logit(np.clip(probability, np.float32(_LEAST), np.float32(1 - _LEAST)))
    own: Floats = expit((grade - np.float32(offset)) / np.float32(slope))
    share: Floats = np.maximum(_mean_around(own, valid), np.float32(_LEAST_SHARE))
    grade += np.float32(weight) * np.log(share / np.float32(_SHARE))
    moved: Floats = expit(grade, out=grade)
    return moved


def _mean_around(image: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Return the mean (H, W) of the valid pixels in the square around each."""
    if valid.all():
        return _averaged(image) / _whole(valid.shape)
    weight = _averaged(valid.astype(np.float32))
    np.maximum(weight, np.float32(1 / (2 * RADIUS + 1) ** 2), out=weight)
    mean: Floats = _averaged(np.where(valid, image, np.float32(0))) / weight
    return mean


@lru_cache(maxsize=4)
def _whole(shape: tuple[int, int]) -> Floats:
    """Return the share of each square that lies in an image: of one shape, as most chips of a run are."""
    return _averaged(np.ones(shape, np.float32))


def _averaged(image: Floats) -> Floats:
    # Beyond the image nothing is valid, and weighs nothing.
    average: Floats = uniform_filter(image, 2 * RADIUS + 1, mode="constant")
    return average
