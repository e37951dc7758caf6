"""The fully convolutional change networks of Caye Daudt, Le Saux and Boulch (ICIP 2018, arXiv 1810.08462).

Three ways to feed one small U-Net: both dates stacked at the input (FC-EF), both dates' features concatenated at the
skip connections (FC-Siam-conc), or their difference (FC-Siam-diff).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from changedet.network.base import ChangeNetwork, SiameseNetwork

# Filters of the four stages in units of the width, and how many convolutions each has.
_STAGE_WIDTHS = (1, 2, 4, 8)
_STAGE_CONVOLUTIONS = (2, 2, 3, 3)
_STRIDE = 2 ** len(_STAGE_WIDTHS)


class FCEF(ChangeNetwork):
    """FC-EF: early fusion, a U-Net on the two dates stacked as channels. Directional.

    Args:
        in_channels: bands of one date.
        classes: channels of the logits; 1 for change or no change.
        width: filters of the first stage; the paper's 16.
        dropout: probability that training drops a whole feature channel; the authors' 0.2.
    """

    stride = _STRIDE
    directional = True

    def __init__(self, in_channels: int, classes: int = 1, width: int = 16, dropout: float = 0.2) -> None:
        super().__init__()
        self.classes = classes
        self.encoder = _Encoder(2 * in_channels, width, dropout)
        self.decoder = _Decoder(classes, width, dropout, dates=1)

    def logits(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the logits (N, classes, H, W) of images whose H and W are multiples of the stride."""
        decoded: Tensor = self.decoder(self.encoder(torch.cat([before, after], dim=1)))
        return decoded


class FCSiamConc(SiameseNetwork):
    """FC-Siam-conc: the features of both dates are concatenated at the four skip connections. Directional.

    The bottleneck is the later date's alone, as in the authors' code; so the parameters are the published 1.55 million.

    Args:
        in_channels: bands of one date.
        classes: channels of the logits; 1 for change or no change.
        width: filters of the first stage; the paper's 16.
        dropout: probability that training drops a whole feature channel; the authors' 0.2.
    """

    stride = _STRIDE
    directional = True

    def __init__(self, in_channels: int, classes: int = 1, width: int = 16, dropout: float = 0.2) -> None:
        super().__init__()
        self.classes = classes
        self.encoder = _Encoder(in_channels, width, dropout)
        self.decoder = _Decoder(classes, width, dropout, dates=2)

    def features(self, image: Tensor) -> list[Tensor]:
        """Encode `image` (N, C, H, W): four skips at strides 1, 2, 4, 8 and the bottleneck at 16."""
        encoded: list[Tensor] = self.encoder(image)
        return encoded

    def compare(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, H, W) of two dates' features."""
        skips = [torch.cat(pair, dim=1) for pair in zip(before[:-1], after[:-1], strict=True)]
        decoded: Tensor = self.decoder([*skips, after[-1]])
        return decoded


class FCSiamDiff(SiameseNetwork):
    """FC-Siam-diff, symmetric: |f1 - f2| at every level, the bottleneck included.

    Public code often keeps the later date's bottleneck, or a signed difference. With the absolute difference
    everywhere, exchanging the dates gives the same map, and two equal dates give one map whatever they show.

    Args:
        in_channels: bands of one date.
        classes: channels of the logits; 1 for change or no change.
        width: filters of the first stage; the paper's 16.
        dropout: probability that training drops a whole feature channel; the authors' 0.2.
    """

    stride = _STRIDE
    directional = False

    def __init__(self, in_channels: int, classes: int = 1, width: int = 16, dropout: float = 0.2) -> None:
        super().__init__()
        self.classes = classes
        self.encoder = _Encoder(in_channels, width, dropout)
        self.decoder = _Decoder(classes, width, dropout, dates=1)

    def features(self, image: Tensor) -> list[Tensor]:
        """Encode `image` (N, C, H, W): four skips at strides 1, 2, 4, 8 and the bottleneck at 16."""
        encoded: list[Tensor] = self.encoder(image)
        return encoded

    def compare(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, H, W) of two dates' features."""
        decoded: Tensor = self.decoder([(f1 - f2).abs() for f1, f2 in zip(before, after, strict=True)])
        return decoded


class _Encoder(nn.Module):
    """Four stages, each followed by a max pool."""

    def __init__(self, in_channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for scale, convolutions in zip(_STAGE_WIDTHS, _STAGE_CONVOLUTIONS, strict=True):
            self.stages.append(_blocks([in_channels, *[scale * width] * convolutions], dropout))
            in_channels = scale * width
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:  # (N, C, H, W)
        features = []
        for stage in self.stages:
            x = stage(x)  # (N, scale * width, H / s, W / s)
            features.append(x)
            x = self.pool(x)
        return [*features, x]


class _Decoder(nn.Module):
    """Four times: double the size, add the skip of that size as channels, convolve."""

    def __init__(self, classes: int, width: int, dropout: float, *, dates: int) -> None:
        super().__init__()
        self.ups = nn.ModuleList()
        self.stages = nn.ModuleList()
        below = (1, *_STAGE_WIDTHS[:-1])
        for scale, out, convolutions in zip(_STAGE_WIDTHS, below, _STAGE_CONVOLUTIONS, strict=True):
            channels = scale * width
            self.ups.append(nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1))
            plan = [channels * (1 + dates), *[channels] * (convolutions - 1), out * width]
            self.stages.append(_blocks(plan if scale > 1 else plan[:-1], dropout))
        self.head = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:  # fine to coarse
        *skips, x = features
        for up, stage, skip in zip(reversed(self.ups), reversed(self.stages), reversed(skips), strict=True):
            x = stage(torch.cat([up(x), skip], dim=1))  # (N, out * width, H / s, W / s)
        logits: Tensor = self.head(x)
        return logits


def _blocks(channels: Sequence[int], dropout: float) -> nn.Sequential:
    """Chain 3 x 3 convolutions through `channels`, each with batch norm, ReLU and dropout of whole channels."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        convolution = nn.Conv2d(before, after, 3, padding=1)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True), nn.Dropout2d(dropout)]
    return nn.Sequential(*layers)
