"""Where labelled scenes lie, and how a model is scored on them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from changedet.config.base import DEVICES, Bytes, Config

DatasetKind = Literal["oscd", "levir", "whu", "s2looking", "folders", "polygons"]


class DatasetConfig(Config):
    """Labelled scenes: where they are and how they are laid out.

    Attributes:
        kind: layout: of a set's own download; `folders` A, B and label of PNG or GeoTIFF; `polygons` before.tif,
            after.tif and a file of polygons, in a folder or in folders of it.
        root: the folder.
        split: train, val or test; None for all that is labelled.
        coregister: remove the residual shift of each pair; None does so for OSCD, whose dates need it.
        resolution_m: ground size of the pixels of images without georeference; None takes what is known of the set.
    """

    kind: DatasetKind
    root: Path
    split: Literal["train", "val", "test"] | None = None
    coregister: bool | None = None
    resolution_m: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class EvaluateConfig(Config):
    """Options of `changedet evaluate` and `changedet calibrate`.

    Attributes:
        threshold: probability from which a pixel counts as changed; None takes each model card's.
        protocol: `oscd` counts all pixels of full scenes at threshold 0.5 of the uncalibrated probability, as its
            published figures do; `valid` the pixels that are valid at both dates, at `threshold`.
        allow_overlap: score a model even on scenes that it learned from.
        bootstrap: draws of scenes for the 95 % interval.
        seed: of these draws.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        max_memory: bytes the process may hold; the chip size follows from it.
    """

    threshold: float | None = Field(default=None, gt=0, le=1)
    protocol: Literal["valid", "oscd"] = "valid"
    allow_overlap: bool = False
    bootstrap: int = Field(default=1000, ge=1)
    seed: int = Field(default=0, ge=0)
    device: str = Field(default="auto", pattern=DEVICES)
    max_memory: Bytes = Field(default=2 * 10**9, ge=10**8)

    @model_validator(mode="after")
    def _protocol_has_its_threshold(self) -> EvaluateConfig:
        if self.protocol == "oscd" and self.threshold not in (None, 0.5):
            raise ValueError("protocol oscd has the threshold 0.5")
        return self
