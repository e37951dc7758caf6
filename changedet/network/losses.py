"""The loss of training, blind to invalid pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Added to both sides of the Dice ratio (px): a batch without change then has a loss that falls with its false alarms.
_DICE_SMOOTHING = 1.0


def masked_bce_dice(logits: Tensor, target: Tensor, valid: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Sum of the mean binary cross-entropy and the Dice loss over the valid pixels of the whole batch.

    Dice is 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1), taken for each class over the batch, then averaged over the
    classes (Milletari, Navab and Ahmadi, 3DV 2016, arXiv 1606.04797, there with squares below the line). Invalid pixels
    are ignored exactly: whatever logits and target hold there, NaN included, the loss is the same and the gradient 0.
    With no valid pixel the loss is 0.

    Args:
        logits: (N, K, H, W), float; half precision is summed in float32.
        target: the shape of logits, any dtype; 1 changed, 0 unchanged.
        valid: bool, True = valid, (N, 1, H, W) or the shape of logits.
        positive_weight: how many times a changed pixel counts in the cross-entropy.

    Returns:
        A scalar.
    """
    valid = valid.expand_as(logits)
    precise = torch.promote_types(logits.dtype, torch.float32)
    # Replaced, not multiplied by 0, which would keep a NaN.
    logits = logits.to(precise).masked_fill(~valid, 0)
    target = target.to(precise).masked_fill(~valid, 0)
    weight = logits.new_tensor(positive_weight)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    bce = entropy.masked_fill(~valid, 0).sum() / valid.sum().clamp(min=1)
    probability = logits.sigmoid().masked_fill(~valid, 0)
    overlap, total = (x.sum(dim=(0, 2, 3)) for x in (probability * target, probability + target))
    dice = (2 * overlap + _DICE_SMOOTHING) / (total + _DICE_SMOOTHING)
    return bce + (1 - dice).mean()
