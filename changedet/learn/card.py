"""The card of a model that has just been trained."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from changedet.config import Candidate, Recipe
from changedet.errors import ModelError
from changedet.learn.datasets import LabelledScene, open_dataset
from changedet.learn.kinds import Kinds
from changedet.learn.predict import chip_of
from changedet.learn.train import built_with
from changedet.network.base import ChangeNetwork
from changedet.network.card import Calibration, Card
from changedet.network.field import measure_halo, measure_memory, receptive_field
from changedet.network.package import architecture_of
from changedet.network.seam import fixed_halo, measure_seam
from changedet.network.shipped import file_digest, read_card, resolve_model

# Side (px) of the cores with which the halo is measured, where the example is large enough.
_CORE = 512
# Below this side (px) what a chip takes is lost in what a process takes.
_SMALLEST_MEASURED = 256
_LIBRARIES = ("torch", "segmentation-models-pytorch", "numpy", "rasterio")


def make_card(
    name: str,
    candidate: Candidate,
    network: ChangeNetwork,
    config: Recipe,
    figures: dict[str, Any],
    calibration: Calibration | None,
    measured: dict[str, Any],
    command: str,
) -> Card:
    """Describe a trained network.

    Args:
        name: of the model.
        candidate: what `network` is.
        network: trained, in eval mode.
        config: how it was trained.
        figures: of the model; the threshold among them becomes the card's.
        calibration: of its probabilities, after which that threshold counts.
        measured: see `measure`.
        command: that reproduces the training.
    """
    plan = config.models[name]
    kinds, slope = Kinds.of(config.data), calibration.slope if calibration else 1.0
    seam = {name: measured[name] for name in ("seam",) if name in measured}
    return Card(
        name=name,
        summary=plan.summary,
        architecture=architecture_of(network),
        arguments=built_with(candidate, plan.bands, kinds),
        bands=plan.bands,
        optional_bands=tuple(band for band in plan.bands if band in config.augment.optional_bands),
        classes=kinds.names,
        resolution_m=config.resolution_m,
        threshold=figures["threshold"],
        stride=network.stride,
        **{name: value for name, value in measured.items() if name not in seam},
        directional=network.directional,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        licence=config.licence,
        licence_note=config.licence_note,
        commercial_use=config.commercial_use,
        data=config.description,
        calibration=calibration,
        urban_weight=config.urban_weight * slope,
        neighbour_weight=config.neighbour_weight * slope,
        initial_weights=network.initial_weights,
        parents=parents_of(config),
        places=tuple(source.place() for source in open_dataset(config.data, labelled=False).scenes),
        trained=datetime.now(UTC).date().isoformat(),
        seed=config.seed,
        command=command,
        figures={**figures, **seam},
        versions={library: version(library) for library in _LIBRARIES},
    )


def parents_of(config: Recipe) -> tuple[str, ...]:
    """Return name and SHA-256 of the model that a training began with, if it did."""
    if config.start is None:
        return ()
    return (f"{read_card(config.start).name} {file_digest(resolve_model(config.start))}",)


def measure(network: ChangeNetwork, arguments: dict[str, Any], example: LabelledScene, crop_px: int) -> dict[str, Any]:
    """Measure what the card says of how a network is used: tiling, halo, field, chip, memory, and what seams are left.

    Args:
        network: trained, in eval mode.
        arguments: that it was built with.
        example: the scene on which the halo is measured; the larger the better.
        crop_px: side of the chips it learned from.

    Returns:
        Fields of the card as JSON holds them, and under `seam` a figure, where there are seams.
    """
    before, after = _tensor(example.before), _tensor(example.after)
    tiling = _tiling(network, before, after, crop_px)
    chip = tiling.get("chip_px")
    # Attention takes more memory a pixel the larger the image, so it is measured near the size that will be used.
    memory_at = {} if chip is None else {"size": max(chip, _SMALLEST_MEASURED)}
    memory = measure_memory(architecture_of(network), arguments, **memory_at)
    return {**tiling, "memory_bytes_per_px": memory, **_seam(network, before, after, chip)}


def _tiling(network: ChangeNetwork, before: Tensor, after: Tensor, crop_px: int) -> dict[str, Any]:
    """Measure how the network can be tiled: the fields of the card that say so."""
    chip = chip_of(network, before.shape[1], crop_px)
    if chip is not None:
        halo = fixed_halo(chip, network.stride)
        return {"tiling": "fixed_chip", "chip_px": chip, "halo_px": halo, "receptive_field_px": None}
    field = receptive_field(network, before.shape[1])
    try:
        halo = measure_halo(network, before, after, core=_core(before, network.stride))
    except ModelError:
        # The example is too small to tell. A halo as wide as the field leaves nothing out.
        halo = -(-field // network.stride) * network.stride
    return {"tiling": "exact", "halo_px": halo, "receptive_field_px": field}


def _seam(network: ChangeNetwork, before: Tensor, after: Tensor, chip: int | None) -> dict[str, Any]:
    """Return the figure of the seams between chips of a fixed size; none where chips are exact."""
    if chip is None:
        return {}
    try:
        halo = fixed_halo(chip, network.stride)
        difference = measure_seam(network, before, after, chip=chip, halo=halo)
    except ModelError as error:
        return {"seam": {"not_measured": str(error)}}
    return {"seam": {"mean_difference_in_probability": round(difference, 5)}}


def _core(image: Tensor, stride: int) -> int:
    """Return the core (px) for measuring a halo: at most half the image, so that halos up to that size can be told."""
    half = max(image.shape[-2:]) // 2
    return max(stride, min(_CORE, half) // stride * stride)


def _tensor(image: object) -> Tensor:
    return torch.as_tensor(image, dtype=torch.float32)[None]
