"""Multiply-adds as the tables of this field state them.

The counter that they share (for 256 x 256 px) takes a transposed convolution at the size of its output, four times what
it is with stride 2, and leaves out the products inside attention.
"""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from changedet.network.base import ChangeNetwork


def as_published(network: ChangeNetwork) -> float:
    """Return the multiply-adds (billions) of both dates; `network` is on torch's meta device."""
    transposed = 0

    def add(module: nn.Module, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        nonlocal transposed
        transposed += module.get_parameter("weight").numel() * inputs[0][0, 0].numel()

    for module in network.eval().modules():
        if isinstance(module, nn.ConvTranspose2d):
            module.register_forward_hook(add)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*torch.zeros(2, 1, 3, 256, 256, device="meta"))
    flops = counter.get_flop_counts()["Global"]
    counted = sum(count for operation, count in flops.items() if str(operation) != "aten.bmm")
    return (counted / 2 + 3 * transposed) / 1e9


def parameters(network: nn.Module) -> int:
    """Return how many numbers training fits."""
    return sum(parameter.numel() for parameter in network.parameters())
