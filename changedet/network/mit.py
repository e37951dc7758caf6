"""The mix transformer encoder (MiT) of SegFormer: Xie et al., NeurIPS 2021, arXiv 2105.15203.

Written from the paper, as the code of its authors, which other libraries carry, is for non-commercial use only.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class MixTransformer(nn.Module):
    """Four stages at strides 4, 8, 16 and 32: overlapping patches, then transformer blocks, then a norm.

    Args:
        in_channels: bands.
        widths: channels of the stages.
        depths: blocks of the stages.
        heads: of the attention of each stage.
        reductions: by how much keys and values are coarser than queries in each stage.
        patch: side (px) of the patches of the later stages, odd; those of the first have 7.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
        heads: Sequence[int],
        reductions: Sequence[int],
        patch: int = 3,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        plan = zip(widths, depths, heads, reductions, strict=True)
        for index, (width, depth, head, reduction) in enumerate(plan):
            kernel, stride = (7, 4) if index == 0 else (patch, 2)
            self.stages.append(_Stage(in_channels, width, depth, head, reduction, kernel, stride))
            in_channels = width

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode `image` (N, C, H, W), H and W multiples of 32: (N, width, H / s, W / s) at s = 4, 8, 16 and 32."""
        levels = []
        for stage in self.stages:
            image = stage(image)
            levels.append(image)
        return levels


class _Stage(nn.Module):
    def __init__(
        self, in_channels: int, width: int, depth: int, heads: int, reduction: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, width, kernel, stride=stride, padding=kernel // 2)
        self.first_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, heads, reduction) for _ in range(depth))
        self.last_norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patches(image)
        size = patches.shape[-2:]
        tokens = self.first_norm(_tokens(patches))
        for block in self.blocks:
            tokens = block(tokens, size)
        return _image(self.last_norm(tokens), size)


class _Block(nn.Module):
    """Attention to coarser keys and values, then an MLP that mixes neighbours; each with its norm first, and added."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        # Coarser keys and values make the attention linear in practice.
        self.coarser = nn.Conv2d(width, width, reduction, stride=reduction) if reduction > 1 else None
        self.coarser_norm = nn.LayerNorm(width) if reduction > 1 else None
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        # A 3 x 3 convolution with zeros around it tells where a token lies; no other position is given.
        self.mix = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)

    def forward(self, tokens: Tensor, size: Sequence[int]) -> Tensor:  # (N, H W, width)
        tokens = tokens + self._attend(self.attention_norm(tokens), size)
        wide = self.mix(_image(self.widen(self.mlp_norm(tokens)), size))
        result: Tensor = tokens + self.narrow(functional.gelu(_tokens(wide)))
        return result

    def _attend(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        memory = tokens
        if self.coarser is not None and self.coarser_norm is not None:
            memory = self.coarser_norm(_tokens(self.coarser(_image(tokens, size))))
        key, value = self.key_value(memory).chunk(2, dim=-1)
        query, key, value = (_split(x, self.heads) for x in (self.query(tokens), key, value))
        attended = functional.scaled_dot_product_attention(query, key, value)  # (N, heads, H W, width / heads)
        result: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return result


def _split(tokens: Tensor, heads: int) -> Tensor:
    """Return (N, heads, tokens, width / heads) of (N, tokens, width)."""
    count, length, _ = tokens.shape
    return tokens.view(count, length, heads, -1).transpose(1, 2)


def _tokens(image: Tensor) -> Tensor:
    return image.flatten(2).transpose(1, 2)


def _image(tokens: Tensor, size: Sequence[int]) -> Tensor:
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *size)
