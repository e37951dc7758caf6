"""The features of two dates as one: in their order, or as the pair they are whichever came first."""

from __future__ import annotations

import torch
from torch import Tensor


def unordered(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Return |f1 - f2| and f1 + f2: all that two tensors of one shape say but for their order."""
    return (before - after).abs(), before + after


def paired(before: Tensor, after: Tensor, *, directional: bool) -> Tensor:
    """Stack two dates (N, C, H, W) as channels (N, 2C, H, W): as they are where `directional`, else `unordered`."""
    return torch.cat((before, after) if directional else unordered(before, after), dim=1)
