"""A model as a STAC Item, so that a catalogue of models finds it: what it takes, what it gives, where it learned.

SpatioTemporal Asset Catalog 1.1 with the Machine Learning Model extension (MLM) 1.4,
https://github.com/stac-extensions/mlm
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pystac
from pystac.extensions.classification import Classification
from pystac.extensions.mlm import (
    AssetGeneralMLMExtension,
    Hyperparameters,
    InputStructure,
    MLMExtension,
    ModelInput,
    ModelOutput,
    ResultStructure,
    TaskType,
)
from pystac.extensions.raster import DataType

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.network.card import Card

_ANY: Final = -1
_AXES: Final = ["batch", "channel", "height", "width"]
# Suffix of a file → its media type, and the framework that loads it; a file that another one refers to has none.
_FILES: Final = {
    ".onnx": ("application/octet-stream; application=onnx", "ONNX"),
    ".xml": ("application/xml; application=openvino", "OpenVINO"),
    ".bin": ("application/octet-stream", None),
}
# The extension has no task of its own for two dates.
_TASKS: Final = [TaskType.SEMANTIC_SEGMENTATION]


def write_model_item(path: Path, card: Card, files: Sequence[str]) -> None:
    """Write the item of an exported model beside its files.

    Args:
        path: file to make.
        card: of the model.
        files: names of the files of the export, see `changedet.network.export`.
    """
    told = model_item(card, files).to_dict(include_self_link=False, transform_hrefs=False)
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def model_item(card: Card, files: Sequence[str]) -> pystac.Item:
    """Return the item of an exported model; see `write_model_item`."""
    boxes = [place.bounds for place in card.places if place.bounds is not None]
    item = pystac.Item(
        id=card.name,
        geometry=_geometry(boxes),
        bbox=_around(boxes),
        datetime=datetime.fromisoformat(card.trained).replace(tzinfo=UTC),
        properties={
            "title": card.name,
            "description": card.summary,
            "license": card.licence,
            "gsd": card.resolution_m,
            "changedet:threshold": card.threshold,
            "changedet:stride": card.stride,
            "changedet:halo_px": card.halo_px,
            "changedet:tiling": card.tiling,
            "changedet:commercial_use": card.commercial_use,
            "changedet:data": card.data,
        },
    )
    _describe(item, card, [framework for _, framework in map(_kind, files) if framework])
    for name in files:
        _add_file(item, name, card)
    return item


def _kind(name: str) -> tuple[str, str | None]:
    return _FILES[Path(name).suffix]


def _describe(item: pystac.Item, card: Card, frameworks: Sequence[str]) -> None:
    MLMExtension.ext(item, add_if_missing=True).apply(
        name=card.name,
        architecture=card.architecture,
        tasks=_TASKS,
        input=[_input(card, date) for date in ("before", "after")],
        output=[_output(card)],
        framework=next(iter(frameworks), None),
        total_parameters=card.parameters,
        pretrained=True,
        pretrained_source=card.data,
        accelerator_constrained=False,
        hyperparameters=Hyperparameters.create(**card.arguments, seed=card.seed),
    )


def _input(card: Card, date: str) -> ModelInput:
    shape = [_ANY, len(card.bands), card.chip_px or _ANY, card.chip_px or _ANY]
    return ModelInput.create(
        name=date,
        bands=[str(band) for band in card.bands],
        input=InputStructure.create(shape, _AXES, DataType.FLOAT32),
        description=(
            f"Reflectance of the {date} date, rows and columns multiples of {card.stride}; where one is invalid,"
            f" {NEUTRAL_REFLECTANCE} at both"
        ),
    )


def _output(card: Card) -> ModelOutput:
    result = ResultStructure.create([_ANY, len(card.classes), _ANY, _ANY], _AXES, DataType.FLOAT32)
    classes = [
        Classification.create(value=value, name=_identifier(name), description=name)
        for value, name in enumerate(card.classes, start=1)
    ]
    return ModelOutput.create(
        name="probability",
        tasks=_TASKS,
        result=result,
        description="Probability of each kind of change, 0 to 1",
        classes=[Classification.create(value=0, name="unchanged", description="no change"), *classes],
    )


def _identifier(name: str) -> str:
    """Return a name that the classification extension takes: letters, digits, hyphens and underscores."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_") else "_" for sign in name)


def _add_file(item: pystac.Item, name: str, card: Card) -> None:
    media, framework = _kind(name)
    roles = ["mlm:model", "mlm:weights"] if framework else ["mlm:weights"]
    asset = pystac.Asset(f"./{name}", title=name, media_type=media, roles=roles)
    item.add_asset(Path(name).suffix[1:], asset)
    if framework:
        # Names of bands in the model's inputs refer to these.
        asset.extra_fields["bands"] = [{"name": band} for band in card.bands]
        AssetGeneralMLMExtension.ext(asset).apply(artifact_type=framework.lower())


def _geometry(boxes: Sequence[tuple[float, float, float, float]]) -> dict[str, Any] | None:
    """Return the places where it learned; None where they are not known."""
    if not boxes:
        return None
    rings = [[[[w, s], [e, s], [e, n], [w, n], [w, s]]] for w, s, e, n in boxes]
    return {"type": "MultiPolygon", "coordinates": rings}


def _around(boxes: Sequence[tuple[float, float, float, float]]) -> list[float] | None:
    if not boxes:
        return None
    west, south, east, north = zip(*boxes, strict=True)
    return [min(west), min(south), max(east), max(north)]
