"""The bitemporal image transformer of Chen, Qi and Shi (IEEE TGRS 2021, arXiv 2103.00208).

A ResNet gives pixel features of each date. A few semantic tokens of each date are drawn from them by spatial attention,
a transformer encoder relates the tokens of both dates to each other, and a transformer decoder gives every pixel what
the tokens of its date now know. Change is read from the absolute difference of the refined features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from changedet.network.base import SiameseNetwork, Tiling
from changedet.network.encoders import WeightsName, resnet_encoder


class BIT(SiameseNetwork):
    """BIT on a ResNet-18 to its third stage ("S4" of the paper): 3.04 million parameters.

    The published 3.55 million hold a classifier of 513,000 that the authors' encoder carries along unused.

    Args:
        in_channels: bands of one date.
        classes: channels of the logits; 1 for change or no change.
        tokens: semantic tokens of a date.
        width: channels of pixel features and tokens.
        encoder_layers: of the transformer between the tokens.
        decoder_layers: of the transformer from tokens to pixels.
        heads: of every attention.
        encoder_depth: how many times the ResNet halves the image, its last stage excepted, which keeps the size: 4 is
            the paper's S4, 3 its S3, 5 its S5.
        directional: True gives the tokens of the two dates positions of their own as the paper does, and exchanging the
            dates may change the map; False lets the dates share them (128 parameters less), and it does not.
        encoder_weights: see `changedet.network.encoders`.
    """

    tiling: Tiling = "fixed_chip"

    def __init__(
        self,
        in_channels: int,
        classes: int = 1,
        *,
        tokens: int = 4,
        width: int = 32,
        encoder_layers: int = 1,
        decoder_layers: int = 8,
        heads: int = 8,
        encoder_depth: int = 4,
        directional: bool = False,
        encoder_weights: WeightsName = None,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.directional = directional
        self.encoder, self.initial_weights = resnet_encoder(
            "resnet18", in_channels, encoder_depth, encoder_weights, keep_size_from=3
        )
        self.stride = 8 if encoder_depth > 2 else 4
        self.reduce = nn.Conv2d(self.encoder.out_channels[-1], width, 3, padding=1)
        self.tokenizer = nn.Conv2d(width, tokens, 1, bias=False)
        self.positions = nn.Parameter(torch.randn(1, 2 if directional else 1, tokens, width))
        # Widths of a head, 64 between tokens and 8 towards pixels, and of the MLP as published.
        self.relate = nn.ModuleList(_Layer(width, heads, 64) for _ in range(encoder_layers))
        self.refine = nn.ModuleList(_Layer(width, heads, 8) for _ in range(decoder_layers))
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, 3, padding=1),
        )

    def features(self, image: Tensor) -> list[Tensor]:
        """Encode `image` (N, C, H, W): pixel features (N, width, H / 4, W / 4)."""
        deepest = self.encoder(image)[-1]
        size = [side // 4 for side in image.shape[-2:]]
        return [self.reduce(functional.interpolate(deepest, size=size, mode="nearest"))]

    def compare(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, H, W) of two dates' features."""
        dates = torch.stack([before[-1], after[-1]], dim=1)  # (N, 2, width, H / 4, W / 4)
        tokens = self._tokens(dates) + self.positions  # (N, 2, tokens, width)
        related = tokens.flatten(1, 2)
        for layer in self.relate:
            related = layer(related, related)
        related = related.view(-1, *tokens.shape[-2:])  # (2N, tokens, width)
        pixels = dates.flatten(0, 1).flatten(2).transpose(1, 2)  # (2N, pixels, width)
        for layer in self.refine:
            pixels = layer(pixels, related)
        refined = pixels.transpose(1, 2).reshape(dates.shape)
        difference = (refined[:, 0] - refined[:, 1]).abs()
        enlarged = functional.interpolate(difference, scale_factor=4, mode="bilinear", align_corners=False)
        logits: Tensor = self.head(enlarged)
        return logits

    def _tokens(self, dates: Tensor) -> Tensor:
        """Return (N, 2, tokens, width): means over the pixels of each date, by attention maps that sum to 1."""
        images = dates.flatten(0, 1)
        maps: Tensor = self.tokenizer(images).flatten(2).softmax(dim=-1)  # (2N, tokens, pixels)
        tokens = maps @ images.flatten(2).transpose(1, 2)  # (2N, tokens, width)
        return tokens.view(len(dates), 2, *tokens.shape[1:])


class _Layer(nn.Module):
    """A transformer layer with the norm first: attention of `queries` to `memory`, then an MLP, each added."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:  # (N, Q, width), (N, M, width)
        q, m = self.norm(queries), self.norm(memory)
        query, key, value = (self._split(x) for x in (self.query(q), self.key(m), self.value(m)))
        attended = functional.scaled_dot_product_attention(query, key, value)  # (N, heads, Q, head width)
        x = queries + self.out(attended.transpose(1, 2).flatten(2))
        result: Tensor = x + self.mlp(x)
        return result

    def _split(self, tokens: Tensor) -> Tensor:
        """Return (N, heads, tokens, head width) of (N, tokens, heads * head width)."""
        count, length, _ = tokens.shape
        return tokens.view(count, length, self.heads, -1).transpose(1, 2)
