"""Losses for classes of change that exclude each other, and for two dates' land cover beside their change."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class SemanticLogits(NamedTuple):
    """What a semantic change network says of a pair.

    Attributes:
        change: (N, 1, H, W), whether anything changed.
        before: (N, S, H, W), the land cover of the earlier date.
        after: (N, S, H, W), that of the later date.
    """

    change: Tensor
    before: Tensor
    after: Tensor


def class_cross_entropy(
    logits: Tensor, target: Tensor, valid: Tensor, weights: tuple[float, ...] | None = None
) -> Tensor:
    """Return the mean cross-entropy over valid pixels of "unchanged" and K kinds of change; 0 where there is none.

    The logit of "unchanged" is 0, so with one kind of change this is the binary cross-entropy.

    Args:
        logits: (N, K, H, W), float; half precision is summed in float32.
        target: integers (N, 1, H, W): 0 unchanged, 1..K the kind of change; what lies under invalid pixels is ignored.
        valid: bool (N, 1, H, W), True = valid.
        weights: of unchanged and of each kind, K + 1 numbers; None for equal ones.
    """
    full = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
    return _masked(full, target, valid, weights)


def semantic_loss(
    logits: SemanticLogits, changed: Tensor, before: Tensor, after: Tensor, valid: Tensor, share: float = 0.5
) -> Tensor:
    """Return the loss of a semantic change network: of its change mask and of both land covers.

    The two parts are weighed as strategy 4 of Caye Daudt et al., "Multitask Learning for Large-scale Semantic Change
    Detection" (CVIU 2019, arXiv 1810.08452) trains them together.

    Args:
        logits: of a batch.
        changed: (N, 1, H, W), 1 changed, 0 unchanged.
        before: integers (N, 1, H, W), 0..S - 1 the land cover, below 0 where it is not known.
        after: likewise, of the later date.
        valid: bool (N, 1, H, W), True = valid.
        share: of the land covers in the loss, 0..1; the change has the rest.
    """
    change = class_cross_entropy(logits.change, changed, valid)
    covers = [
        _masked(cover, target, valid & (target >= 0), None)
        for cover, target in ((logits.before, before), (logits.after, after))
    ]
    return (1 - share) * change + share * (covers[0] + covers[1]) / 2


def _masked(logits: Tensor, target: Tensor, valid: Tensor, weights: tuple[float, ...] | None) -> Tensor:
    chosen = valid[:, 0]
    flat = logits.movedim(1, -1)[chosen].to(torch.promote_types(logits.dtype, torch.float32))
    if not flat.numel():
        return flat.sum()
    weight = None if weights is None else flat.new_tensor(weights)
    return functional.cross_entropy(flat, target[:, 0][chosen].long(), weight=weight)
