"""What every change network offers: two dates in, logits out, at any height and width."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Tiling: TypeAlias = Literal["exact", "fixed_chip"]


class ChangeNetwork(nn.Module, ABC):
    """A network from two images to the logits of change.

    Attributes:
        stride: px between two elements of the coarsest feature map. Two chips give the same answer far from their
            edges only if both begin at a multiple of it.
        directional: True where exchanging the dates may change the map.
        classes: channels of the logits, one for each kind of change; 1 for change or no change.
        tiling: "fixed_chip" where the answer is known to depend on the whole chip (attention, global pooling, norms
            over the image), whose size then belongs to the model. "exact" claims nothing: the field has to be measured.
        initial_weights: what training begins with: "random", or the name of pretrained weights of the encoder.
    """

    stride: int
    directional: bool
    classes: int
    tiling: Tiling = "exact"
    initial_weights: str = "random"

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Compare two dates.

        Args:
            before: scaled image (N, C, H, W), float; any H and W, padded inside to a multiple of the stride.
            after: the same place later, same shape and dtype.

        Returns:
            Logits (N, classes, H, W).
        """
        height, width = before.shape[-2:]
        logits = self.logits(pad_to_stride(before, self.stride), pad_to_stride(after, self.stride))
        return logits[..., :height, :width]

    @abstractmethod
    def logits(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the logits (N, classes, H, W) of images whose H and W are multiples of the stride."""


class SiameseNetwork(ChangeNetwork):
    """A change network with one encoder for both dates, so that a date's features can be kept and compared again.

    In eval mode the logits are `compare(features(before), features(after))`.
    """

    @abstractmethod
    def features(self, image: Tensor) -> list[Tensor]:
        """Encode `image` (N, C, H, W), H and W multiples of the stride: levels (N, C', H', W'), from fine to coarse."""

    @abstractmethod
    def compare(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, H, W) of two dates from what `features` gave for each."""

    def logits(self, before: Tensor, after: Tensor) -> Tensor:
        """Encode both dates as one batch, which is faster and gives batch norm one set of figures, and compare them."""
        levels = [level.chunk(2) for level in self.features(torch.cat([before, after]))]
        return self.compare([level[0] for level in levels], [level[1] for level in levels])


def pad_to_stride(image: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column of `image` (N, C, H, W) until H and W are multiples of `stride` px."""
    height, width = image.shape[-2:]
    bottom, right = -height % stride, -width % stride
    return functional.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image


def lay_out(network: nn.Module, *, half: bool) -> torch.memory_format:
    """Lay the weights of `network` out in memory as its device and precision want them; return the layout for images.

    oneDNN, and cuDNN in half precision, are a third faster on images whose channels lie together; the layers hand the
    layout on. Weights that are no images (of a convolution over dates, say) have no such layout and stay as they are.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
    layout = torch.channels_last if half or on_cpu else torch.contiguous_format
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return layout
