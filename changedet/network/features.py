"""How far apart two dates lie in the features of a frozen encoder."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from changedet.network.base import SiameseNetwork, pad_to_stride
from changedet.network.siamese import SiameseSMP

# Keeps the direction of a vanishing feature vector finite.
_EPSILON = 1e-6
_SEED = 0
_DEPTH = 3
# A ResNet-18's second stage sees 49 px around a pixel, and interpolation one cell of 8 px more.
RANDOM_FIELD: Final = 64
# Activations of both dates and the interpolated levels: measured 326 at 512 px and 502 at 1024 px, 4 bands.
RANDOM_BYTES_PER_PX: Final = 600.0


def feature_difference(network: SiameseNetwork, before: Tensor, after: Tensor) -> Tensor:
    """Return the mean over levels of the squared distance between the dates' unit feature vectors, (N, H, W), 0..4.

    That is twice one minus their cosine. Each level is interpolated to the image's size. The image itself, where the
    encoder gives it as a level, is left out.

    Args:
        network: in eval mode.
        before: scaled image (N, C, H, W), float32.
        after: likewise, the same place later.
    """
    height, width = before.shape[-2:]
    dates = torch.cat([pad_to_stride(image, network.stride) for image in (before, after)])
    with torch.inference_mode():
        levels = [level for level in network.features(dates) if level.shape != dates.shape and level.shape[1] > 1]
        squares = [_distance(*level.chunk(2), size=dates.shape[-2:]) for level in levels]
        return torch.stack(squares).mean(dim=0)[:, :height, :width]


def _distance(before: Tensor, after: Tensor, *, size: torch.Size) -> Tensor:
    first, second = (functional.normalize(level, dim=1, eps=_EPSILON) for level in (before, after))
    square = (first - second).square().sum(dim=1, keepdim=True)
    return functional.interpolate(square, size=size, mode="bilinear", align_corners=False)[:, 0]


def random_encoder(in_channels: int) -> SiameseNetwork:
    """Return a ResNet-18 to its second stage with random weights, the same every time, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return SiameseSMP("resnet18", in_channels=in_channels, encoder_depth=_DEPTH).eval()
