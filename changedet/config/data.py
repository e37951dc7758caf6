"""Where labelled scenes lie, and how a model is scored on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from changedet.config.base import DEVICES, Bytes, Config

Name: TypeAlias = Annotated[str, Field(min_length=1)]
DatasetKind = Literal["oscd", "levir", "whu", "s2looking", "folders", "polygons", "pairs"]


class DatasetConfig(Config):
    """Scenes to learn from or to score on: where they are and how they are laid out.

    Attributes:
        kind: layout: of a set's own download; `folders` A, B and label of PNG or GeoTIFF; `polygons` before.tif,
            after.tif and a file of polygons, in a folder or in folders of it; `pairs` the same without polygons, for
            learning without labels.
        root: the folder.
        split: train, val or test; None for all that is labelled.
        coregister: remove the residual shift of each pair; None does so for OSCD, whose dates need it.
        resolution_m: ground size of the pixels of images without georeference; None takes what is known of the set.
        classes: names of the kinds of change that the labels tell apart; empty for change or no change.
        covers: names of land covers instead, whose transitions are the kinds: `field to water` and so on, in the order
            1 to 2, 1 to 3, … 2 to 1, …
        class_values: values of the kinds in rasters of labels; empty for 1, 2, … 0 is unchanged.
        class_column: column of a file of polygons that holds each one's kind, by name or by number from 1.
    """

    kind: DatasetKind
    root: Path
    split: Literal["train", "val", "test"] | None = None
    coregister: bool | None = None
    resolution_m: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    classes: tuple[Name, ...] = Field(default=(), max_length=254)
    covers: tuple[Name, ...] = Field(default=(), max_length=16)
    class_values: tuple[Annotated[int, Field(ge=1, le=2**31)], ...] = ()
    class_column: str = "class"

    @model_validator(mode="after")
    def _classes_fit(self) -> DatasetConfig:
        if self.classes and self.covers:
            raise ValueError("classes names the kinds of change, covers the land covers they lead between: give one")
        if len(self.covers) == 1 or len(self.classes) == 1:
            raise ValueError("one class alone tells nothing apart; expected two or more, or none")
        kinds = len(self.classes) or len(self.covers) * (len(self.covers) - 1)
        for name in ("classes", "covers", "class_values"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} holds one twice")
        if self.class_values and len(self.class_values) != kinds:
            raise ValueError(f"{len(self.class_values)} class_values; expected {kinds}, one a kind of change")
        if kinds and self.kind in ("oscd", "pairs"):
            raise ValueError(f"what kind {self.kind} holds tells no kinds of change apart")
        return self


class EvaluateConfig(Config):
    """Options of `changedet evaluate` and `changedet calibrate`.

    Attributes:
        threshold: probability from which a pixel counts as changed; None takes each model card's.
        protocol: `oscd` counts all pixels of full scenes at threshold 0.5 of the uncalibrated probability, as its
            published figures do; `valid` the pixels that are valid at both dates, at `threshold`.
        ensemble: the models are one, whose probability is the mean of theirs; else each is scored, as seeds of one
            recipe are.
        tta: average over the eight symmetries of the square (test-time augmentation).
        allow_overlap: score a model even on scenes that it learned from.
        bootstrap: draws of scenes for the 95 % interval.
        seed: of these draws.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        max_memory: bytes the process may hold; the chip size follows from it.
    """

    threshold: float | None = Field(default=None, gt=0, le=1)
    protocol: Literal["valid", "oscd"] = "valid"
    ensemble: bool = False
    tta: bool = False
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
