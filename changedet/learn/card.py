"""The card of a model that has just been trained."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from changedet.config import TrainConfig
from changedet.learn.datasets import LabelledScene, open_dataset
from changedet.network.base import ChangeNetwork
from changedet.network.card import Card
from changedet.network.field import measure_halo, measure_memory, receptive_field
from changedet.network.package import architecture_of

# Side (px) of the cores with which the halo is measured, where the example is large enough.
_CORE = 512
_LIBRARIES = ("torch", "segmentation-models-pytorch", "numpy", "rasterio")


def make_card(
    name: str,
    candidate: str,
    network: ChangeNetwork,
    config: TrainConfig,
    figures: dict[str, Any],
    example: LabelledScene,
    command: str,
) -> Card:
    """Measure a trained network and describe it.

    Args:
        name: of the model.
        candidate: key in `config.candidates` of what `network` is.
        network: trained, in eval mode.
        config: how it was trained.
        figures: of its cross-validation; its threshold becomes the card's.
        example: the scene on which the halo is measured; the larger the better.
        command: that reproduces the training.
    """
    plan = config.models[name]
    channels = len(plan.bands)
    before, after = _tensor(example.before), _tensor(example.after)
    arguments = {"in_channels": channels, **config.candidates[candidate].arguments}
    return Card(
        name=name,
        summary=plan.summary,
        architecture=architecture_of(network),
        arguments=arguments,
        bands=plan.bands,
        optional_bands=tuple(band for band in plan.bands if band in config.augment.optional_bands),
        resolution_m=config.resolution_m,
        threshold=figures["threshold"],
        stride=network.stride,
        receptive_field_px=receptive_field(network, channels),
        halo_px=measure_halo(network, before, after, core=_core(before, network.stride)),
        tiling="exact",
        directional=network.directional,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        licence=config.licence,
        licence_note=config.licence_note,
        commercial_use=config.commercial_use,
        data=config.description,
        places=tuple(source.place() for source in open_dataset(config.data).scenes),
        trained=datetime.now(UTC).date().isoformat(),
        seed=config.seed,
        command=command,
        figures=figures,
        memory_bytes_per_px=measure_memory(architecture_of(network), arguments),
        versions={library: version(library) for library in _LIBRARIES},
    )


def _core(image: Tensor, stride: int) -> int:
    """Return the core (px) for measuring a halo: at most half the image, so that halos up to that size can be told."""
    half = max(image.shape[-2:]) // 2
    return max(stride, min(_CORE, half) // stride * stride)


def _tensor(image: object) -> Tensor:
    return torch.as_tensor(image, dtype=torch.float32)[None]
