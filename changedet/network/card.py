"""The model card: everything about a model that is not its weights. No torch here."""

from __future__ import annotations

import json
from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

# Of a probability stored as a byte, see `changedet.grid.quantise`, which networks do not know.
STEPS: Final = 254

Sentinel2Band = Literal["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]


def _as_json(value: Any) -> Any:
    """Return `value` as JSON would give it back: tuples are lists, keys are strings, NaN is refused."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except TypeError as error:
        # pydantic gathers ValueErrors only.
        raise ValueError(str(error)) from error


def _iso_date(value: object) -> str:
    # A number is no text, and pydantic gathers ValueErrors only.
    return date.fromisoformat(str(value)).isoformat()


JsonObject = Annotated[dict[str, JsonValue], BeforeValidator(_as_json)]


class Place(BaseModel):
    """Where the pixels of a labelled scene come from, so that learning and testing on the same ones can be told.

    Attributes:
        name: of the scene.
        bounds: west, south, east, north in degrees (WGS 84); None where the images have no georeference.
        digests: SHA-256 of the image files, in hexadecimal, where they have none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    bounds: tuple[float, float, float, float] | None = None
    digests: tuple[str, ...] = ()

    def shares_pixels_with(self, other: Place) -> bool:
        """Return whether both show the same ground, by their bounds, or hold the same image, by its digest."""
        if self.bounds is None or other.bounds is None:
            return bool(set(self.digests) & set(other.digests))
        (west, south, east, north), (west_2, south_2, east_2, north_2) = self.bounds, other.bounds
        return min(east, east_2) > max(west, west_2) and min(north, north_2) > max(south, south_2)


class Calibration(BaseModel):
    """How a model's probabilities were made to agree with how often change is found to be true.

    Attributes:
        method: `temperature` and `platt` take the sigmoid of `slope * logit + offset`, the first with offset 0 (Guo et
            al., "On Calibration of Modern Neural Networks", ICML 2017; Platt 1999); `isotonic` reads the sigmoid off a
            rising table (Zadrozny and Elkan, KDD 2002).
        slope: the inverse of the temperature.
        offset: added to the scaled logit.
        stated: probabilities of the network, rising, where the table has its entries.
        observed: what they become, never falling.
        data: the scenes it was fitted to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["temperature", "platt", "isotonic"]
    slope: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)
    stated: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    observed: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    data: str

    @model_validator(mode="after")
    def _rising(self) -> Self:
        table = len(self.stated), len(self.observed)
        if table != ((0, 0) if self.method != "isotonic" else (max(2, table[0]),) * 2):
            raise ValueError("isotonic needs a table of two or more entries, the other methods none")
        if any(b <= a for a, b in pairwise(self.stated)) or any(b < a for a, b in pairwise(self.observed)):
            raise ValueError("the table must rise")
        return self


class Tolerance(BaseModel):
    """How far 8-bit probabilities may lie from those of plain float32 torch, in steps of 1/254.

    Attributes:
        share: of an image's pixels that lie within `steps`. In bfloat16 the shipped models reach 0.9998 over the 14
            training cities of OSCD together, and 0.9977 in the worst of them.
        steps: see `share`.
        most: no pixel lies further away.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(default=0.997, ge=0, le=1)
    steps: int = Field(default=2, ge=0)
    most: int = Field(default=8, ge=0)

    def allows(self, fast: NDArray[np.float32], reference: NDArray[np.float32]) -> bool:
        """Return whether probabilities of one shape lie so near to the reference's."""
        stored = [np.rint(np.clip(probability, 0, 1) * STEPS).astype(np.int16) for probability in (fast, reference)]
        distance = np.abs(stored[0] - stored[1])
        return bool(distance.max() <= self.most and (distance <= self.steps).mean() >= self.share)


class Card(BaseModel):
    """What a model is, needs and may be used for; JSON in the model file's metadata.

    Attributes:
        name: as `--model` takes it.
        summary: one sentence.
        architecture: key of `changedet.network.package.ARCHITECTURES`.
        arguments: keyword arguments of that architecture.
        bands: Sentinel-2 names in the order of the input channels.
        optional_bands: those of `bands` that a pair may lack: it learned to do with the neutral reflectance there.
        classes: names of the kinds of change, in the order of the network's channels; one for change or no change.
        resolution_m: ground size (m) of the pixels it was trained on.
        threshold: probability from which a pixel counts as changed.
        stride: px; chips begin at its multiples.
        receptive_field_px: how far (px) an output pixel sees beyond the stride cell it lies in, so a halo at least as
            wide is exact; None where that has no bound.
        halo_px: smallest halo (px) that leaves the 8-bit map unchanged but for one pixel in 10,000, measured, or the
            field where the scenes were too small for that; with fixed chips a quarter of the chip, and the seams that
            it leaves are among the figures.
        tiling: "exact": with a halo as wide as the field, chips give the whole's answer; "fixed_chip": the answer
            depends on the chip, whose size belongs to the model.
        chip_px: side of that chip; None where tiling is exact.
        directional: True where exchanging the dates may change the map.
        parameters: how many numbers training fitted.
        licence: SPDX identifier of the weights.
        licence_note: where that licence comes from.
        commercial_use: whether it allows commercial use.
        data: what it was trained on.
        calibration: from the network's sigmoid to the probability; None for the sigmoid itself. The threshold counts
            after it.
        urban_weight: what a unit of the pair's own `changedet.stats.urban.UrbanChange` above its border adds to the
            calibrated logit; 0 for the network alone. The threshold counts after it.
        neighbour_weight: what a unit of the logarithm of the share of change around a pixel, see
            `changedet.stats.neighbourhood`, adds to that logit; 0 for none. The threshold counts after it.
        initial_weights: what its training began with: `random`, or the name of pretrained weights of the encoder.
        parents: name and SHA-256 of the model files this one was made from.
        places: the scenes it was trained on; empty where that is not known.
        trained: ISO date.
        seed: of the training.
        command: that reproduces the training.
        figures: cross-validated figures.
        tolerance: how far bfloat16 and other backends than torch may lie from plain float32 in torch.
        memory_bytes_per_px: measured peak memory of a chip (bytes per px) in eval mode, float32.
        versions: library to version, at training.

    Raises:
        pydantic.ValidationError: a field is missing, unknown, out of range or at odds with another.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    summary: str
    architecture: str
    arguments: JsonObject
    bands: tuple[Sentinel2Band, ...] = Field(min_length=1)
    optional_bands: tuple[Sentinel2Band, ...] = ()
    classes: tuple[Annotated[str, Field(min_length=1)], ...] = Field(default=("change",), min_length=1, max_length=254)
    resolution_m: float = Field(gt=0, allow_inf_nan=False)
    threshold: float = Field(ge=0, le=1)
    stride: int = Field(ge=1)
    receptive_field_px: int | None = Field(ge=0)
    halo_px: int = Field(ge=0)
    tiling: Literal["exact", "fixed_chip"]
    chip_px: int | None = Field(default=None, ge=1)
    directional: bool
    parameters: int = Field(ge=0)
    licence: str
    licence_note: str
    commercial_use: bool
    data: str
    places: tuple[Place, ...] = ()
    calibration: Calibration | None = None
    urban_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    neighbour_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    initial_weights: str = "random"
    parents: tuple[str, ...] = ()
    trained: Annotated[str, BeforeValidator(_iso_date)]
    seed: int
    command: str
    figures: JsonObject
    tolerance: Tolerance = Tolerance()
    memory_bytes_per_px: float = Field(gt=0, allow_inf_nan=False)
    versions: dict[str, str]

    def joining(self, scale: float) -> dict[str, float]:
        """Return the weights of what the network is joined with, scaled as the calibrated logit that they are of."""
        return {"urban_weight": self.urban_weight * scale, "neighbour_weight": self.neighbour_weight * scale}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands {self.bands} name one twice")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes {self.classes} name one twice")
        isotonic = self.calibration is not None and self.calibration.method == "isotonic"
        if self.urban_weight and (len(self.classes) > 1 or isotonic):
            raise ValueError("urban_weight goes with one kind of change, and with no isotonic calibration")
        if self.neighbour_weight and not self.urban_weight:
            raise ValueError("neighbour_weight goes with urban_weight")
        if not set(self.optional_bands) < set(self.bands):
            raise ValueError(f"optional_bands {self.optional_bands} must be some of the bands, not all")
        if self.halo_px % self.stride or (self.chip_px or 0) % self.stride:
            raise ValueError(f"halo_px and chip_px must be multiples of the stride, {self.stride}")
        fields = (self.receptive_field_px is None, self.chip_px is not None)
        if fields != ((self.tiling == "fixed_chip"),) * 2:
            raise ValueError("exact tiling needs receptive_field_px and no chip_px, fixed_chip the reverse")
        return self
