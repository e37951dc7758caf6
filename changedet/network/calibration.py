"""From logits to probabilities that can be believed: the calibration on a model's card, as tensor operations."""

from __future__ import annotations

import torch
from torch import Tensor

from changedet.network.card import Calibration


def probability_of(logits: Tensor, calibration: Calibration | None) -> Tensor:
    """Return the probability of each kind of change, in the shape of `logits` (N, K, H, W).

    The kinds exclude each other and "unchanged": it is the softmax of the K logits and a 0 for "unchanged", which with
    one kind is the sigmoid. Calibration is of their sum, the probability of change of any kind: uncalibrated that is
    the sigmoid of the logarithm of the sum of exponentials, called logit here; with `temperature` and `platt` that of
    `slope * logit + offset`; with `isotonic` the sigmoid, read off the table with straight lines between its entries,
    and flat beyond them. The kinds share it in the proportions that the network gives them.
    """
    if logits.shape[1] == 1:
        return _calibrated(logits, calibration)
    change = _calibrated(logits.logsumexp(dim=1, keepdim=True), calibration)
    return change * logits.softmax(dim=1)


def _calibrated(logits: Tensor, calibration: Calibration | None) -> Tensor:
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
