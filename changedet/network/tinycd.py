"""TinyCD of Codegoni, Lombardi and Ferrari (Neural Computing and Applications 2023, arXiv 2207.13159).

The first blocks of an EfficientNet-b4 encode both dates. Grouped convolutions mix the two dates channel by channel; at
every scale but the coarsest a pixel-wise MLP makes of the mixture a mask of one channel, by which the decoder is
multiplied on its way up.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from changedet.network.base import SiameseNetwork, Tiling
from changedet.network.pairing import unordered

# EfficientNet-b4 up to its third stage: channels of stem and stages at strides 2, 2, 4 and 8 (Tan and Le, ICML 2019).
_LEVELS = (24, 32, 56)
_WIDTH_FACTOR, _DEPTH_FACTOR = 1.4, 1.8
_DECODER = (64, 64, 32)


class TinyCD(SiameseNetwork):
    """TinyCD: 0.29 million parameters for three bands, as published (285,128).

    Squeeze-and-excitation and instance norm look at the whole chip, so its size belongs to the model.

    Args:
        in_channels: bands of one date.
        classes: channels of the logits; 1 for change or no change.
        directional: True mixes (before, after) as the paper does, and exchanging the dates may change the map; False
            mixes (|f1 - f2|, f1 + f2) with the same parameters, and it does not.
    """

    # 8 for the encoder, and twice that so that instance norm has more than one pixel at the coarsest level.
    stride = 16
    tiling: Tiling = "fixed_chip"

    def __init__(self, in_channels: int, classes: int = 1, *, directional: bool = False) -> None:
        super().__init__()
        self.classes = classes
        self.directional = directional
        self.encoder = _efficientnet_b4_start(in_channels)
        self.image_mask = _Mask(in_channels, (10, 5))
        self.masks = nn.ModuleList(_Mask(channels, (channels // 2, channels // 4)) for channels in _LEVELS[:2])
        self.deepest = _Mix(_LEVELS[-1])
        widths = pairwise((_LEVELS[-1], *_DECODER))
        self.ups = nn.ModuleList(_Refine(before, after) for before, after in widths)
        self.head = _pixelwise(_DECODER[-1], 16, 8, classes, last=nn.Identity())

    def features(self, image: Tensor) -> list[Tensor]:
        """Encode `image` (N, C, H, W): itself, and 24, 32 and 56 channels at strides 2, 4 and 8."""
        levels = [image]
        x = self.encoder[0](image)
        for stage in list(self.encoder)[1:]:
            x = stage(x)
            levels.append(x)
        return levels

    def compare(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, H, W) of two dates' features."""
        pairs = [(f1, f2) if self.directional else unordered(f1, f2) for f1, f2 in zip(before, after, strict=True)]
        masks = [mask(*pair) for mask, pair in zip((self.image_mask, *self.masks), pairs[:-1], strict=True)]
        x = self.deepest(*pairs[-1])
        for up, mask in zip(self.ups, reversed(masks), strict=True):
            x = functional.interpolate(x, size=mask.shape[-2:], mode="bilinear", align_corners=True)
            x = up(x * mask)  # (N, 64 | 64 | 32, H / s, W / s)
        logits: Tensor = self.head(x)
        return logits


class _Mix(nn.Module):
    """Mix two dates of C channels into C: every channel of the result sees its own at both dates, 3 x 3 px."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2 * channels, channels, 3, padding=1, groups=channels)
        self.activation = nn.PReLU()
        self.norm = nn.InstanceNorm2d(channels)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # (N, C, H, W) twice
        interleaved = torch.stack((first, second), dim=2).flatten(1, 2)  # (N, 2C, H, W), a group is one channel's pair
        mixed: Tensor = self.norm(self.activation(self.convolution(interleaved)))
        return mixed


class _Mask(nn.Module):
    """The mixture of two dates, pixel by pixel through an MLP into one channel."""

    def __init__(self, channels: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        self.mix = _Mix(channels)
        self.mlp = _pixelwise(channels, *hidden, 1, last=nn.PReLU())

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        mask: Tensor = self.mlp(self.mix(first, second))
        return mask


class _Refine(nn.Sequential):
    """A depth-wise 3 x 3 and a point-wise convolution, each with activation and instance norm."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.PReLU(),
            nn.InstanceNorm2d(channels),
            nn.Conv2d(channels, out, 1),
            nn.PReLU(),
            nn.InstanceNorm2d(out),
        )


def _pixelwise(*channels: int, last: nn.Module) -> nn.Sequential:
    """Chain 1 x 1 convolutions through `channels`, with PReLU between them and `last` at the end."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 1), nn.PReLU()]
    return nn.Sequential(*layers[:-1], last)


def _efficientnet_b4_start(in_channels: int) -> nn.Sequential:
    """Build the stem and the first three stages, with random weights, for any number of bands."""
    # Importing torchvision takes a second, and most networks do without.
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    # Expansion, kernel, stride, channels in and out and blocks of EfficientNet-b0, of which b4 is a multiple.
    base = ((1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2))
    stages = [MBConvConfig(*stage, _WIDTH_FACTOR, _DEPTH_FACTOR) for stage in base]
    # The last layers of the classifier, which are left out again, need some width.
    start = EfficientNet(stages, dropout=0.0, last_channel=1).features[:-1]
    stem = start[0][0]
    start[0][0] = nn.Conv2d(in_channels, stem.out_channels, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(*start)
