"""Options of `changedet run` and of the polygons it writes."""

from __future__ import annotations

import math
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from changedet.config.base import DEVICES, Bytes, Config, PerDate, checked

Bounds = tuple[float, float, float, float]
Detector = Literal["urban", "cva", "mad", "irmad", "pca-kmeans", "sfa", "deep"]
Resampling = Literal["nearest", "bilinear", "cubic"]
Coregister = bool | Literal["shift", "field"]
Normalize = Literal["none", "histogram", "irmad"]
# NaN as text in run.json, as JSON knows none.
Nodata = Annotated[float, PlainSerializer(lambda value: str(value) if math.isnan(value) else value, when_used="json")]


def parse_rule(text: str) -> tuple[str, float]:
    """Return the name and the number (0 where it takes none) of a rule for a threshold.

    Raises:
        ValueError: it is none.

    >>> parse_rule("chi2:0.99"), parse_rule("otsu")
    (('chi2', 0.99), ('otsu', 0.0))
    """
    match = re.fullmatch(r"(otsu|mixture)|(chi2|statistic):([\d.]+(?:e[+-]?\d+)?)", text.strip().lower())
    if match is None or (match[3] or "").count(".") > 1:
        raise ValueError("expected a number above 0, up to 1; or otsu, mixture, chi2:0.99 or statistic:NUMBER")
    return match[1] or match[2], float(match[3] or 0)


def _threshold(value: object) -> object:
    """Return a probability as a float, a rule as it is.

    Raises:
        ValueError: it is neither.
    """
    try:
        number = float(value)  # type: ignore[arg-type]  # what float does not take is no number
    except (TypeError, ValueError):
        parse_rule(str(value))
        return str(value).strip().lower()
    if not 0 < number <= 1:
        raise ValueError("expected a probability above 0, up to 1")
    return number


Threshold = Annotated[float | str, BeforeValidator(_threshold)]


def _as_typed(value: object) -> object:
    """Return a day, a truth or a number as a user typed it, where YAML takes the text for one."""
    if isinstance(value, bool):
        return "YES" if value else "NO"
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(_as_typed)]


class PolygonConfig(Config):
    """Which polygons a mask becomes.

    Attributes:
        min_area: polygons below this many square metres are left out.
        connectivity: 8 joins pixels that touch at a corner, 4 does not.
        min_hole: holes below this many square metres are filled, unless something lies in them.
        simplify: corners are dropped that then lie within this many metres of the outline.
        smooth: stair-steps become slopes.
        regularize: outlines become right-angled, as those of buildings are.
    """

    min_area: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    connectivity: Literal[4, 8] = 8
    min_hole: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    simplify: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    smooth: bool = False
    regularize: bool = False

    @model_validator(mode="after")
    def _smooth_or_regular(self) -> Self:
        if self.smooth and self.regularize:
            raise ValueError("smooth rounds the corners that regularize makes: choose one")
        return self


class RunConfig(PolygonConfig):
    """Options of `changedet run`, beside those of its polygons.

    Attributes:
        model: name of a shipped model or a model file; None takes the shipped one of the highest cross-validated
            F1 whose bands both scenes have.
        detector: one that needs no model and no labels, instead of a network; `deep` takes the encoder of `model`.
        ensemble: further models; the probability is the mean of all, and how far they differ is uncertainty.tif.
        tta: average over the eight symmetries of the square (test-time augmentation), likewise.
        bands: which band is which, as `red=3,nir=4`, by number or description, or a sensor: `sentinel-2`, `landsat-8`,
            `landsat-7`, `naip`, `rgb`; for files whose bands have no names. With `/` between, one a date.
        threshold: probability from which a pixel counts as changed; with a detector also a rule, `otsu`, `mixture`,
            `chi2:0.99` or `statistic:NUMBER`. None takes the model card's, or the
            detector's own.
        halo: px read around a chip's core and discarded; `default` is the card's, `exact` the whole receptive field.
        max_memory: bytes the process may hold; the chip size follows from it.
        readers: threads that read chips ahead of the network; more help where reading is slow, as behind URLs, and take
            memory from the chips.
        threads: of the network and of compression; None takes all cores.
        backend: what computes the network; `auto` is OpenVINO on a CPU where it is installed, else torch.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        probability_dtype: of probability.tif: `uint8`, in steps of 1/254, or `float32`; the mask is the same.
        precision: of the network's arithmetic; `auto` is bfloat16 where the processor has instructions for it.
        coregister: remove the displacement between the dates: true or `field` as a smooth field where windows support
            one, else as one shift; `shift` as one shift.
        normalize: how the after date's values are brought to the before date's: `none`,
            `histogram` matching, or `irmad`: regression on pixels that IR-MAD holds to be unchanged.
        any_resolution: run even where the pixels are over three times larger or smaller than the model's.
        free_only: refuse models that are not free for commercial use.
        nodata: value that marks invalid pixels, instead of what the files declare; `nan` for none but NaN; one for all
            dates or one a date.
        scale: what stored values are multiplied by to become reflectance, instead of what is recognised; one for all
            dates or one a date.
        offset: what is added then, likewise.
        valid_mask: what says which pixels are valid: `auto` for the product's own quality band, `none`, or
            `[KIND:]FILE[#BAND]`; one for all dates or one a date.
        bounds: left, bottom, right, top in the CRS of the grid.
        like: raster whose grid is the result's, whole.
        res: size of a pixel, or its height and width, in units of the before scene's CRS.
        aoi: vector file; only inside its polygons is anything compared.
        resampling: kernel where a scene has to be warped.
        dates: of the scenes, ISO, in their order.
        overwrite: replace what an earlier run left in the output folder.
        reuse: where the output folder holds a run that differs only in what comes after the network, take its
            probabilities over and replace its results.
        reuse_from: likewise, of the run in this folder, which must be such a one.
        co: creation options of the two COGs.
        report: write report.html too.
        stac: write stac.json too, the run as an item for a catalogue; both dates must be known.
        vector: more places for the polygons: a format, a path with a suffix, or a PostGIS URL.
        append: add to what is at those places.
    """

    model: str | None = None
    detector: Detector | None = None
    ensemble: tuple[str, ...] = ()
    tta: bool = False
    bands: str | None = None
    threshold: Threshold | None = None
    halo: Literal["default", "exact"] | Annotated[int, Field(ge=0)] = "default"
    max_memory: Bytes = Field(default=2 * 10**9, ge=10**8)
    readers: int = Field(default=1, ge=1, le=16)
    threads: int | None = Field(default=None, ge=1)
    backend: Literal["auto", "torch", "openvino"] = "auto"
    device: str = Field(default="auto", pattern=DEVICES)
    probability_dtype: Literal["uint8", "float32"] = "uint8"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    coregister: Coregister = False
    normalize: Normalize = "none"
    any_resolution: bool = False
    free_only: bool = False
    nodata: PerDate[Nodata] = ()
    scale: PerDate[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = ()
    offset: PerDate[Annotated[float, Field(allow_inf_nan=False)]] = ()
    valid_mask: PerDate[str] = ("auto",)
    bounds: Bounds | None = None
    like: str | None = None
    res: PerDate[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = ()
    aoi: str | None = None
    resampling: Resampling = "bilinear"
    dates: tuple[Text, ...] | None = None
    overwrite: bool = False
    reuse: bool = False
    reuse_from: str | None = None
    co: dict[str, Text] = Field(default_factory=dict)
    report: bool = True
    stac: bool = False
    vector: tuple[str, ...] = ()
    append: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> RunConfig:
        if self.model is not None and self.detector not in (None, "deep"):
            raise ValueError(f"expected model or detector, not both: {self.detector} needs no model")
        if self.detector is not None and (self.ensemble or self.tta):
            raise ValueError("ensemble and tta are of networks, and go with no detector")
        if self.ensemble and self.model is None:
            raise ValueError("ensemble adds models to `model`, which is not named")
        if len(set(self.vector)) < len(self.vector):
            raise ValueError("vector names a place twice")
        return self


class RunStep(RunConfig):
    """The `run` block of a pipeline file: the scenes, where to write, and the options."""

    before: str
    after: str
    out: Path


def check_options(options: dict[str, Any]) -> RunConfig:
    """Return validated options of a run.

    Raises:
        ConfigError: an unknown option or a wrong value.
    """
    return checked(RunConfig, options)
