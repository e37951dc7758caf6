"""A network's map of a scene in memory: in one pass where that is what chips would give, else by the chips of a run."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.grid import Window, plan_chips
from changedet.learn.datasets.scene import LabelledScene
from changedet.network.base import ChangeNetwork
from changedet.network.field import UnboundedFieldError, receptive_field
from changedet.network.normalise import LogReflectance
from changedet.network.seam import fixed_chip, fixed_halo


def chip_of(network: ChangeNetwork, in_channels: int, crop_px: int) -> int | None:
    """Return the side (px) of the chips that belong to a network that learned from crops of `crop_px`.

    None where it sees no further than a halo can cover, so that any chip will do.
    """
    try:
        receptive_field(network, in_channels)
    except UnboundedFieldError:
        return fixed_chip(crop_px, network.stride)
    return None


def predict_logits(network: ChangeNetwork, scene: LabelledScene, chip_px: int | None = None) -> Tensor:
    """Return the logits (K, H, W), float32, of a scene in memory.

    Args:
        network: in eval mode, on the CPU.
        scene: its images are (C, H, W).
        chip_px: side of the chips, a multiple of the stride, where the network's answer depends on it.
    """
    height, width = scene.changed.shape
    if chip_px is None:
        return _logits(network, scene.before, scene.after)
    plan = plan_chips(height, width, chip=chip_px, halo=fixed_halo(chip_px, network.stride), stride=network.stride)
    logits = torch.empty(network.classes, height, width)
    for chip in plan.chips:
        part = _logits(network, *(_read(image, chip.read) for image in (scene.before, scene.after)))
        rows, cols = chip.core.relative_to(chip.read).slices
        logits[(slice(None), *chip.core.slices)] = part[:, rows, cols]
    return logits


def _logits(network: ChangeNetwork, before: NDArray[np.float16], after: NDArray[np.float16]) -> Tensor:
    dates = (LogReflectance()(torch.as_tensor(image, dtype=torch.float32)[None]) for image in (before, after))
    with torch.inference_mode():
        logits: Tensor = network(*dates)
    return logits[0].float()


def _read(image: NDArray[np.float16], window: Window) -> NDArray[np.float16]:
    """Return a window (C, H, W) of an image; below and right of it, within one stride, is the neutral reflectance."""
    _, height, width = image.shape
    part = image[:, window.row : window.row + window.height, window.col : window.col + window.width]
    beyond = (window.row + window.height - height, window.col + window.width - width)
    if max(beyond) <= 0:
        return part
    edges = ((0, 0), *((0, max(over, 0)) for over in beyond))
    return np.pad(part, edges, constant_values=NEUTRAL_REFLECTANCE)
