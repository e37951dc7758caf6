"""Chips of a network whose answer depends on the whole chip: no halo makes them exact, so their seams are measured."""

from __future__ import annotations

import torch
from torch import Tensor

from changedet.errors import ModelError
from changedet.network.base import ChangeNetwork
from changedet.network.calibration import probability_of
from changedet.network.normalise import LogReflectance


def fixed_chip(crop: int, stride: int) -> int:
    """Return the side (px) of the chips of a network that learned from crops of `crop` px: whole strides."""
    return max(crop // stride, 1) * stride


def fixed_halo(chip: int, stride: int) -> int:
    """Return the halo (px) of such chips: a quarter of them, in whole strides, so that half of each side is kept."""
    return chip // 4 // stride * stride


def measure_seam(network: ChangeNetwork, before: Tensor, after: Tensor, *, chip: int, halo: int) -> float:
    """Return by how much two chips that share pixels disagree there, at a seam: the mean difference in probability.

    Chips of `chip` px are compared with chips half a core further down and right, where both would be kept.

    Args:
        network: takes scaled images; put into eval mode for the while.
        before: reflectance (1, C, H, W), float32, 0..1 physical, of at least a chip and half a core.
        after: the same place later.
        chip: side (px), a multiple of the stride.
        halo: px around the core of a chip that are not kept, a multiple of the stride.

    Raises:
        ModelError: the images are too small, or a chip has no core.
    """
    stride = network.stride
    core = chip - 2 * halo
    step = max(core // 2 // stride, 1) * stride
    height, width = before.shape[-2:]
    if core <= step or min(height, width) < chip + step:
        raise ModelError(
            f"no seam to measure with chips of {chip} px, a halo of {halo} px and images of {height} x {width} px",
            expected="a core of two strides or more, and images larger than one and a half chips",
        )
    training = network.training
    network.eval()
    differences = []
    # What chips at (row, col) and (row + step, col + step) both keep, in the coordinates of either.
    first, second = slice(halo + step, chip - halo), slice(halo, chip - halo - step)
    try:
        for row in range(0, height - chip - step + 1, core):
            for col in range(0, width - chip - step + 1, core):
                one = _probability(network, before, after, row, col, chip)[..., first, first]
                other = _probability(network, before, after, row + step, col + step, chip)[..., second, second]
                differences.append(float((one - other).abs().mean()))
    finally:
        network.train(training)
    return sum(differences) / len(differences)


def _probability(network: ChangeNetwork, before: Tensor, after: Tensor, row: int, col: int, chip: int) -> Tensor:
    scale = LogReflectance()
    window = (..., slice(row, row + chip), slice(col, col + chip))
    with torch.inference_mode():
        logits: Tensor = network(scale(before[window]), scale(after[window]))
        return probability_of(logits.float(), None)
