"""The scaling of reflectance that every network sees, in training and in use."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from changedet.config import NEUTRAL_REFLECTANCE

# Keeps the logarithm of a shadow finite; about the noise of a Sentinel-2 band over dark water.
EPSILON: Final = 0.02


class LogReflectance(nn.Module):
    """Scale absolute reflectance by a fixed logarithm: log((max(x, 0) + eps) / (0.1 + eps)).

    Nothing is estimated from the image, so a pair of any size looks the same to the network in every chip. The
    neutral reflectance becomes 0, full reflectance 2.1 and no reflectance -1.8; a ratio of illumination becomes
    nearly a shift.
    """

    def forward(self, reflectance: Tensor) -> Tensor:
        """Scale `reflectance` (N, C, H, W), float, 0..1 physical; the result has its shape and dtype."""
        return torch.log((reflectance.clamp(min=0) + EPSILON) / (NEUTRAL_REFLECTANCE + EPSILON))
