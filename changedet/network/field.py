"""Measurements that go on a model's card: how far a network sees, the halo it needs, the memory it takes."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from changedet.errors import ModelError
from changedet.network.base import ChangeNetwork
from changedet.network.calibration import probability_of
from changedet.network.child import peak_bytes, run_child
from changedet.network.metric import CosineDistance, ManhattanDistance
from changedet.network.normalise import LogReflectance
from changedet.network.package import build_network

# Sides (px) of the strips on which a field is sought, the next where it reaches the ends of the one before.
_STRIPS = (256, 512, 1024, 4096)
# A map is called unchanged when no more than this share of its 8-bit values differ.
HALO_TOLERANCE: Final = 1e-4
_CHILD = "import sys; from changedet.network.field import _run_child; print(_run_child(sys.argv[1]))"


class UnboundedFieldError(ModelError):
    """A network has no receptive field that a halo could cover."""


def receptive_field(network: ChangeNetwork, in_channels: int) -> int:
    """Return how far (px) output pixels see, at most, beyond the stride cell they lie in.

    Chips, cores and halos begin and end at multiples of the stride, so a halo as wide as this makes tiles exact; what
    a single pixel sees in its own direction is up to one stride more, and of no use. It is the support of the gradient
    of one cell in a copy of the network whose weights are positive and whose every layer passes gradients to all it
    sees (the theoretical receptive field of Luo et al., NeurIPS 2016).

    Raises:
        UnboundedFieldError: the field has no bound (global pooling, attention), as the network says or as is found.
        ModelError: gradients cannot show it.
    """
    if network.tiling != "exact":
        raise _unbounded(f"no field: the answer of {type(network).__name__} depends on the whole chip")
    network = _all_positive(network)
    return max(_axis_field(network, in_channels, rows=True), _axis_field(network, in_channels, rows=False))


def _axis_field(network: ChangeNetwork, in_channels: int, *, rows: bool) -> int:
    stride = network.stride
    for strip in _STRIPS:
        length = -(-strip // stride) * stride
        # One stride wide: rows and columns do not mix.
        shape = (1, in_channels, length, stride) if rows else (1, in_channels, stride, length)
        cell = range(length // 2 // stride * stride, length // 2 // stride * stride + stride)
        seen = _seen_from(network, shape, cell, axis=2 if rows else 3).nonzero()
        if not len(seen):
            raise ModelError("no gradient reaches the image", expected="a convolutional network with batch norm")
        first, last = int(seen[0]), int(seen[-1])
        if first > 0 and last < length - 1:
            return max(cell[0] - first, last - cell[-1])
    raise _unbounded(f"a field of more than {_STRIPS[-1] // 2} px")


def _unbounded(got: str) -> UnboundedFieldError:
    return UnboundedFieldError(
        got, expected="a network without global pooling or attention", remedy="a card with tiling: fixed_chip"
    )


def _seen_from(network: ChangeNetwork, shape: tuple[int, int, int, int], cell: range, *, axis: int) -> Tensor:
    """Return where along `axis` the image of either date has a gradient from the logits of `cell`: bool."""
    seen = torch.zeros(shape[axis], dtype=torch.bool)
    # Features are proportional to the image, so their difference is positive one way round, whatever its sign.
    for scales in ((1e-3, 2e-3), (2e-3, 1e-3)):
        dates = [torch.full(shape, scale, dtype=torch.float64, requires_grad=True) for scale in scales]
        with torch.enable_grad():
            logits: Tensor = network(*dates)
            target = logits.narrow(axis, cell.start, len(cell)).sum()
        for gradient in torch.autograd.grad(target, dates, materialize_grads=True):
            seen |= gradient.ne(0).any(dim=5 - axis).flatten(0, 1).any(dim=0)
    return seen


def _all_positive(network: ChangeNetwork) -> ChangeNetwork:
    """Copy `network` into float64 with positive weights, no bias, no batch norm, no dropout, and mean for max pools.

    Weights are one over the inputs a layer sums, so that values neither overflow nor, in float64, vanish.
    """
    network = copy.deepcopy(network).double().eval()
    for name, parameter in network.named_parameters():
        value = 1 / parameter[0].numel() if parameter.ndim > 1 else float(not name.endswith("bias"))
        nn.init.constant_(parameter, value)
        parameter.requires_grad_(False)
    for module in list(network.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
            elif isinstance(child, CosineDistance):
                # It sees the same pixels, but has no gradient between embeddings of one direction, as these all are.
                setattr(module, name, ManhattanDistance())
    return network


def measure_halo(network: ChangeNetwork, before: Tensor, after: Tensor, *, core: int = 512) -> int:
    """Return the smallest halo (px, a multiple of the stride) with which tiles give the whole's 8-bit map.

    "Give" means that no more than one value in 10,000 differs.

    Args:
        network: takes scaled images; put into eval mode for the while.
        before: reflectance (1, C, H, W), float32, 0..1 physical, larger than `core`; what lies beyond the last multiple
            of the stride is left out.
        after: the same place later.
        core: side (px) of what is kept of each tile, a multiple of the stride; the smaller, the stricter.

    Raises:
        ModelError: the images are too small to tell, or `core` is not a multiple of the stride.
    """
    if core % network.stride:
        raise ModelError(f"a core of {core} px", expected=f"a multiple of the stride, {network.stride} px")
    height, width = (size // network.stride * network.stride for size in before.shape[-2:])
    before, after = before[..., :height, :width], after[..., :height, :width]
    training = network.training
    network.eval()
    try:
        whole = _map8(network, before, after)
        for halo in range(0, max(height, width) - core, network.stride):
            tiled = _tiled_map8(network, before, after, core=core, halo=halo)
            if float((tiled != whole).float().mean()) <= HALO_TOLERANCE:
                return halo
    finally:
        network.train(training)
    raise ModelError(f"no halo found on {height} x {width} px", remedy="larger images, or a smaller core")


def _map8(network: ChangeNetwork, before: Tensor, after: Tensor) -> Tensor:
    """Return the probability as probability.tif stores it: uint8, 0..254."""
    scale = LogReflectance()
    with torch.inference_mode():
        logits: Tensor = network(scale(before), scale(after))
        return (probability_of(logits.float(), None) * 254).round().to(torch.uint8)


def _tiled_map8(network: ChangeNetwork, before: Tensor, after: Tensor, *, core: int, halo: int) -> Tensor:
    height, width = before.shape[-2:]
    rows = []
    for row in range(0, height, core):
        top, bottom = max(row - halo, 0), min(row + core + halo, height)
        tiles = []
        for col in range(0, width, core):
            read = (..., slice(top, bottom), slice(max(col - halo, 0), min(col + core + halo, width)))
            tile = _map8(network, before[read], after[read])
            col_in_tile = min(col, halo)
            tiles.append(tile[..., row - top : row - top + core, col_in_tile : col_in_tile + core])
        rows.append(torch.cat(tiles, dim=-1))
    return torch.cat(rows, dim=-2)


def measure_memory(architecture: str, arguments: Mapping[str, Any], size: int = 1024) -> float:
    """Return the peak memory (bytes per px) of one chip on the CPU, float32, in eval mode.

    Each of two sizes is run in a process of its own; what they differ by leaves out the libraries and weights. The
    weights are random, as memory does not depend on them.

    Args:
        architecture: key of `changedet.network.package.ARCHITECTURES`.
        arguments: its keyword arguments, JSON; `in_channels` among them.
        size: side (px) of the larger chip; the other has half. The smaller, the noisier.
    """
    small, large = (_peak_bytes(architecture, arguments, side) for side in (size // 2, size))
    return (large - small) / (size**2 - (size // 2) ** 2)


def _peak_bytes(architecture: str, arguments: Mapping[str, Any], size: int) -> int:
    # Pretrained weights would be fetched for nothing.
    given = {name: value for name, value in arguments.items() if name != "encoder_weights"}
    return int(run_child(_CHILD, json.dumps([architecture, given, size])))


def _run_child(task: str) -> int:
    """Do in the child what `_peak_bytes` asks, and return the child's peak resident memory (bytes)."""
    architecture, arguments, size = json.loads(task)
    network = build_network(architecture, arguments).eval()
    image = torch.rand(1, arguments["in_channels"], size, size)
    with torch.inference_mode():
        network(image, image.clone())
    return peak_bytes()
