"""ChangeFormer of Bandara and Patel (IGARSS 2022, arXiv 2201.01293).

A hierarchical transformer encodes both dates at four scales. An MLP brings every scale to one width, a difference
module compares the dates there and adds what the coarser scale found, and a decoder fuses the four, enlarges them twice
by transposed convolutions and classifies every pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from changedet.network.base import SiameseNetwork, Tiling
from changedet.network.mit import MixTransformer
from changedet.network.pairing import paired

_HEADS = (1, 2, 4, 8)
_REDUCTIONS = (8, 4, 2, 1)


class ChangeFormer(SiameseNetwork):
    """ChangeFormer: 41.0 million parameters for three bands, as published (41.03).

    The authors' heads for the loss at coarser scales (18,608 parameters) are left out, as are dropout and stochastic
    depth.
    Most of the work is done at full resolution, and falls with the square of `decoder_width`. A small one:
    `widths=[32, 64, 128, 192], depths=[2, 2, 2, 2], patch=3, decoder_width=48`.

    Args:
        in_channels: bands of one date.
        classes: channels of the logits; 1 for change or no change.
        widths: channels of the encoder's four stages, multiples of 1, 2, 4 and 8.
        depths: transformer blocks of the four stages.
        patch: side (px) of the overlapping patches of the last three stages; SegFormer's 3, the authors' 7.
        decoder_width: channels of the decoder.
        directional: True compares (before, after) as the paper does, and exchanging the dates may change the map;
            False compares (|f1 - f2|, f1 + f2) with the same parameters, and it does not.
    """

    # The deepest stage has stride 32, and the first needs 8 x 8 of its tokens for one key.
    stride = 32
    tiling: Tiling = "fixed_chip"

    def __init__(
        self,
        in_channels: int,
        classes: int = 1,
        *,
        widths: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (3, 3, 4, 3),
        patch: int = 7,
        decoder_width: int = 256,
        directional: bool = False,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.directional = directional
        self.encoder = MixTransformer(in_channels, widths, depths, _HEADS, _REDUCTIONS, patch)
        self.levels = nn.ModuleList(nn.Conv2d(width, decoder_width, 1) for width in widths)
        self.differences = nn.ModuleList(_difference(decoder_width) for _ in widths)
        self.fuse = nn.Sequential(
            nn.Conv2d(len(widths) * decoder_width, decoder_width, 1), nn.BatchNorm2d(decoder_width)
        )
        self.enlarge = nn.Sequential(*(_Enlarge(decoder_width) for _ in range(2)))
        self.head = nn.Conv2d(decoder_width, classes, 3, padding=1)

    def features(self, image: Tensor) -> list[Tensor]:
        """Encode `image` (N, C, H, W): `decoder_width` channels at strides 4, 8, 16 and 32."""
        return [project(level) for project, level in zip(self.levels, self.encoder(image), strict=True)]

    def compare(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, H, W) of two dates' features."""
        found: list[Tensor] = []
        for level in reversed(range(len(before))):
            pair = paired(before[level], after[level], directional=self.directional)
            change = self.differences[level](pair)
            found.append(change + _resized(found[-1], change) if found else change)
        finest = found[-1]
        x = self.fuse(torch.cat([_resized(change, finest) for change in found], dim=1))
        logits: Tensor = self.head(self.enlarge(x))  # (N, classes, H, W) from (N, decoder_width, H / 4, W / 4)
        return logits


class _Enlarge(nn.Module):
    """Twice the size by a transposed convolution, then a residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        result: Tensor = x + self.block(x)
        return result


def _difference(width: int) -> nn.Sequential:
    """Compare two dates of `width` channels that are stacked."""
    return nn.Sequential(
        nn.Conv2d(2 * width, width, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
    )


def _resized(image: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(image, size=like.shape[-2:], mode="bilinear", align_corners=False)
