"""A network's answers over a scene, by the chips of a run, or in one pass where the scene is small enough for that."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.grid import Window, plan_chips
from changedet.learn.datasets.training import TrainingScene
from changedet.network.base import ChangeNetwork
from changedet.network.field import UnboundedFieldError, receptive_field
from changedet.network.normalise import LogReflectance
from changedet.network.seam import fixed_chip, fixed_halo

# Scenes of up to so many px go through a network of bounded field whole; larger ones in cores of half this side.
_WHOLE_PX = 2048**2
_CORE_PX = 1024


def chip_of(network: ChangeNetwork, in_channels: int, crop_px: int) -> int | None:
    """Return the side (px) of the chips that belong to a network that learned from crops of `crop_px`.

    None where it sees no further than a halo can cover, so that any chip will do.
    """
    try:
        receptive_field(network, in_channels)
    except UnboundedFieldError:
        return fixed_chip(crop_px, network.stride)
    return None


def predict(
    network: ChangeNetwork, scene: TrainingScene, chip_px: int | None = None
) -> Iterator[tuple[Window, Tensor]]:
    """Yield windows that make up a scene, and the logits (K, H, W), float32, of each; see `predict_around`."""
    for core, _, logits in predict_around(network, scene, 0, chip_px):
        yield core, logits


def predict_around(
    network: ChangeNetwork, scene: TrainingScene, margin: int, chip_px: int | None = None
) -> Iterator[tuple[Window, Window, Tensor]]:
    """Yield windows that make up a scene, each as it is with a margin around it, and the logits (K, H, W) of that.

    Args:
        network: in eval mode, on the CPU.
        scene: in memory or on disk.
        margin: px, less where the scene ends, or a chip that belongs to the network.
        chip_px: side of the chips, a multiple of the stride, where the network's answer depends on it.
    """
    height, width = scene.shape
    whole = Window(0, 0, height, width)
    if chip_px is None and height * width <= _WHOLE_PX:
        yield whole, whole, _logits(network, *_read(scene, whole))
        return
    stride = network.stride
    chip, halo = (chip_px, fixed_halo(chip_px, stride)) if chip_px else _chips(network, scene.channels, margin)
    for part in plan_chips(height, width, chip=chip, halo=halo, stride=stride).chips:
        around = part.core.grown(margin).intersect(part.read)
        inside = around.intersect(whole) if around else None
        assert inside is not None  # noqa: S101 - the core lies in both
        rows, cols = inside.relative_to(part.read).slices
        yield part.core, inside, _logits(network, *_read(scene, part.read))[:, rows, cols]


def _chips(network: ChangeNetwork, channels: int, margin: int) -> tuple[int, int]:
    """Return chip and halo (px) with which a large scene's answer, and that around it, is that of one pass."""
    stride = network.stride
    halo = -(-(receptive_field(network, channels) + margin) // stride) * stride
    return -(-_CORE_PX // stride) * stride + 2 * halo, halo


def _logits(network: ChangeNetwork, before: NDArray[np.generic], after: NDArray[np.generic]) -> Tensor:
    dates = (LogReflectance()(torch.as_tensor(image, dtype=torch.float32)[None]) for image in (before, after))
    with torch.inference_mode():
        logits: Tensor = network(*dates)
    return logits[0].float()


def _read(scene: TrainingScene, window: Window) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return both dates (C, H, W) of a window; below and right of the scene, within a stride, is the neutral value."""
    inside = window.intersect(Window(0, 0, *scene.shape))
    assert inside is not None  # noqa: S101 - chips begin inside
    before, after, *_ = scene.read(inside)
    if inside == window:
        return before, after
    edges = ((0, 0), (0, window.height - inside.height), (0, window.width - inside.width))
    first, second = (np.pad(date, edges, constant_values=NEUTRAL_REFLECTANCE) for date in (before, after))
    return first, second
