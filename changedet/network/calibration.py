"""From logits to probabilities that can be believed: the calibration on a model's card, as tensor operations."""

from __future__ import annotations

import torch
from torch import Tensor

from changedet.network.card import Calibration


def probability_of(logits: Tensor, calibration: Calibration | None) -> Tensor:
    """Return the probability of change, in the shape of `logits`, each class by itself; rising with the logits.

    Uncalibrated it is the sigmoid of the logits; with `temperature` and `platt` that of `slope * logits + offset`; with
    `isotonic` the sigmoid, read off the table with straight lines between its entries, and flat beyond them.
    """
    if calibration is None:
        return logits.sigmoid()
    if calibration.method != "isotonic":
        return (calibration.slope * logits + calibration.offset).sigmoid()
    stated, observed = (logits.new_tensor(column) for column in (calibration.stated, calibration.observed))
    return _interpolated(logits.sigmoid(), stated, observed)


def _interpolated(x: Tensor, at: Tensor, values: Tensor) -> Tensor:
    """Return the piecewise linear function through (`at`, `values`), at least two points, at `x`."""
    x = x.clamp(float(at[0]), float(at[-1]))
    right = torch.bucketize(x, at).clamp(1, len(at) - 1)
    left = right - 1
    share = (x - at[left]) / (at[right] - at[left])
    return values[left] + share * (values[right] - values[left])
