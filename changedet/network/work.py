"""How much a network computes."""

from __future__ import annotations

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from changedet.network.base import ChangeNetwork


def count_multiply_adds(network: ChangeNetwork, in_channels: int, size: int = 256) -> int:
    """Return the multiply-adds with which `network` compares one pair of `size` x `size` px, in eval mode.

    Convolutions and matrix products are counted, of both dates; norms, activations and resampling are not, as is the
    custom. Publications often state the same as "FLOPs", some for one date only.

    Args:
        network: left as it is.
        in_channels: bands of one date.
        size: side (px) of the image.
    """
    # On the meta device nothing is computed, and attention is the same products whatever the machine.
    copied = copy.deepcopy(network).to("meta").eval()
    images = torch.zeros(2, 1, in_channels, size, size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copied(*images)
    # torch counts a multiplication and an addition as two.
    return int(counter.get_total_flops()) // 2
