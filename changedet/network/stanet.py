"""STANet of Chen and Shi (Remote Sensing 12(10), 1662, 2020): attention in space and time, and a metric.

A ResNet-18 with a simple feature pyramid embeds both dates. Self-attention over the pixels of both dates together
relates every pixel to all others, then and now: over the whole chip (BAM, the basic module), or over regions of several
sizes beside each other (PAM, the pyramid). What comes out is an embedding of each date, and change is its distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from changedet.network.base import Tiling
from changedet.network.encoders import WeightsName, resnet_encoder
from changedet.network.metric import MetricNetwork

# The embedding is at a quarter of the image's resolution.
_EMBEDDING_STRIDE = 4


class STANet(MetricNetwork):
    """STANet: PAM with the regions 1, 2, 4, 8 by default; BAM with `regions=(1,)`; symmetric by construction.

    12.2 million parameters for three bands. The published 16.93 million (in the comparison of Chen, Qi and Shi 2021)
    are of the authors' code, whose last ResNet stage has three blocks in place of ResNet-18's two: 4.72 million more.

    The paper trains it with a batch-balanced contrastive loss on the distance, as the loss `contrastive` here.

    Args:
        in_channels: bands of one date.
        regions: into how many parts a side of the chip is cut, one attention each; powers of two.
        encoder_name: an smp ResNet.
        encoder_depth: how many times it halves the image, from 2 on.
        level_width: channels that each level of the pyramid is reduced to.
        pyramid_width: channels of the fused pyramid.
        embedding: channels of the embedding, a multiple of 8.
        encoder_weights: see `changedet.network.encoders`.
    """

    tiling: Tiling = "fixed_chip"

    def __init__(
        self,
        in_channels: int,
        *,
        regions: Sequence[int] = (1, 2, 4, 8),
        encoder_name: str = "resnet18",
        encoder_depth: int = 5,
        level_width: int = 96,
        pyramid_width: int = 256,
        embedding: int = 64,
        encoder_weights: WeightsName = None,
    ) -> None:
        super().__init__()
        self.encoder, self.initial_weights = resnet_encoder(encoder_name, in_channels, encoder_depth, encoder_weights)
        self.stride = max(2**encoder_depth, _EMBEDDING_STRIDE * max(regions))
        widths = self.encoder.out_channels[2:]
        self.levels = nn.ModuleList(_reduced(channels, level_width, kernel=1) for channels in widths)
        self.fuse = nn.Sequential(
            _reduced(level_width * len(widths), pyramid_width, kernel=3),
            nn.Dropout(0.5),
            _reduced(pyramid_width, embedding, kernel=1),
        )
        self.attention = nn.ModuleList(_Attention(embedding, parts) for parts in regions)
        many = len(regions) > 1
        self.join = nn.Conv2d(embedding * len(regions), embedding, 1, bias=False) if many else nn.Identity()

    def features(self, image: Tensor) -> list[Tensor]:
        """Encode `image` (N, C, H, W): the fused pyramid (N, embedding, H / 4, W / 4)."""
        levels = [reduce(level) for reduce, level in zip(self.levels, self.encoder(image)[2:], strict=True)]
        size = levels[0].shape[-2:]
        enlarged = [functional.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in levels]
        fused: Tensor = self.fuse(torch.cat(enlarged, dim=1))
        return [fused]

    def embed(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the embeddings (N, embedding, H / 4, W / 4) of two dates that have looked at each other."""
        dates = torch.stack([before[-1], after[-1]], dim=2)  # (N, C, 2, H / 4, W / 4)
        attended = torch.cat([attention(dates) for attention in self.attention], dim=1)
        joined: Tensor = dates + self.join(attended.flatten(2, 3)).view_as(dates)
        return joined[:, :, 0], joined[:, :, 1]

    def distance_between(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the Euclidean distance of the embeddings, (N, 1, H, W), enlarged to the image's size."""
        first, second = (embedding.float() for embedding in self.embed(before, after))
        distance = torch.linalg.vector_norm(first - second, dim=1, keepdim=True)
        return functional.interpolate(distance, scale_factor=_EMBEDDING_STRIDE, mode="bilinear", align_corners=False)


class _Attention(nn.Module):
    """Self-attention over the pixels of both dates, in each of `parts` x `parts` regions by itself."""

    def __init__(self, channels: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.query, self.key = (nn.Conv3d(channels, channels // 8, 1) for _ in range(2))
        self.value = nn.Conv3d(channels, channels, 1)

    def forward(self, dates: Tensor) -> Tensor:  # (N, C, 2, H, W)
        query, key, value = (self._tokens(project(dates)) for project in (self.query, self.key, self.value))
        attended = functional.scaled_dot_product_attention(query, key, value)  # (N parts², pixels, C)
        return self._image(attended, dates)

    def _tokens(self, dates: Tensor) -> Tensor:
        """Cut (N, C, 2, H, W) into regions: (N * parts², 2 * H / parts * W / parts, C)."""
        count, channels, two, height, width = dates.shape
        parts = self.parts
        cut = dates.reshape(count, channels, two, parts, height // parts, parts, width // parts)
        return cut.permute(0, 3, 5, 2, 4, 6, 1).flatten(3, 5).flatten(0, 2)

    def _image(self, tokens: Tensor, like: Tensor) -> Tensor:
        """Put regions back where `_tokens` took them."""
        count, channels, two, height, width = like.shape
        parts = self.parts
        cut = tokens.view(count, parts, parts, two, height // parts, width // parts, channels)
        return cut.permute(0, 6, 3, 1, 4, 2, 5).reshape(like.shape)


def _reduced(channels: int, out: int, *, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True))
