"""What a command or a pipeline file may say. The only place where defaults live."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

from changedet.errors import ConfigError, NotFoundError

# Pixels invalid at either date hold it at both: the middle of the networks' logarithmic scale, ordinary land to them.
NEUTRAL_REFLECTANCE: Final = 0.1

Kind = TypeVar("Kind", bound="_Config")
_T = TypeVar("_T")

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_bytes(value: object) -> object:
    """Return bytes for `2GB`, `500 MB`, `1.5GiB` or a plain number; anything else as it is, for pydantic to refuse.

    >>> parse_bytes("2GB"), parse_bytes("512 MiB")
    (2000000000, 536870912)
    """
    match = re.fullmatch(r"\s*([\d.]+)\s*([KMGT]?I?)B?\s*", value.upper()) if isinstance(value, str) else None
    if match is None or match[2] not in _UNITS or match[1].count(".") > 1:
        return value
    return int(float(match[1]) * _UNITS[match[2]])


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
DEVICES: Final = r"^(auto|cpu|mps|cuda(:\d+)?)$"
Bounds = tuple[float, float, float, float]
Detector = Literal["cva", "mad", "irmad", "pca-kmeans", "sfa", "deep"]
Resampling = Literal["nearest", "bilinear", "cubic"]
Coregister = bool | Literal["shift", "field"]
Normalize = Literal["none", "histogram", "irmad"]


def _as_tuple(value: object) -> object:
    """Return a single value as a tuple of one: `scale: 0.0001` in a pipeline file."""
    return (value,) if isinstance(value, str | int | float) else value


PerDate = Annotated[tuple[_T, ...], BeforeValidator(_as_tuple)]


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


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PolygonConfig(_Config):
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
            `chi2:0.99` or `statistic:NUMBER`. None takes the model card's, or `mixture`.
        halo: px read around a chip's core and discarded; `default` is the card's, `exact` the whole receptive field.
        max_memory: bytes the process may hold; the chip size follows from it.
        readers: threads that read chips ahead of the network; more help where reading is slow, as behind URLs, and take
            memory from the chips.
        backend: what computes the network; `auto` is OpenVINO on a CPU where it is installed, else torch.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: of the network's arithmetic; `auto` is bfloat16 where the processor has instructions for it.
        coregister: remove the displacement between the dates: true or `field` as a smooth field where windows support
            one, else as one shift; `shift` as one shift.
        normalize: how the after date's values are brought to the before date's: `none`,
            `histogram` matching, or `irmad`: regression on pixels that IR-MAD holds to be unchanged.
        any_resolution: run even where the pixels are over three times larger or smaller than the model's.
        free_only: refuse models that are not free for commercial use.
        nodata: value that marks invalid pixels, instead of what the files declare.
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
    backend: Literal["auto", "torch", "openvino"] = "auto"
    device: str = Field(default="auto", pattern=DEVICES)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    coregister: Coregister = False
    normalize: Normalize = "none"
    any_resolution: bool = False
    free_only: bool = False
    nodata: float | None = None
    scale: PerDate[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = ()
    offset: PerDate[Annotated[float, Field(allow_inf_nan=False)]] = ()
    valid_mask: PerDate[str] = ("auto",)
    bounds: Bounds | None = None
    like: str | None = None
    res: PerDate[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = ()
    aoi: str | None = None
    resampling: Resampling = "bilinear"
    dates: tuple[str, ...] | None = None
    overwrite: bool = False
    reuse: bool = False
    reuse_from: str | None = None
    co: dict[str, str] = Field(default_factory=dict)
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
        return self


class RunStep(RunConfig):
    """The `run` block of a pipeline file: the scenes, where to write, and the options."""

    before: str
    after: str
    out: Path


DatasetKind = Literal["oscd", "levir", "whu", "s2looking", "folders", "polygons"]


class DatasetConfig(_Config):
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


class EvaluateConfig(_Config):
    """Options of `changedet evaluate` and `changedet calibrate`.

    Attributes:
        threshold: probability from which a pixel counts as changed; None takes each model card's.
        protocol: `oscd` counts all pixels of full scenes at threshold 0.5, as its published figures do; `valid` the
            pixels that are valid at both dates, at `threshold`.
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


def _oscd_of_path(value: object) -> object:
    return {"kind": "oscd", "root": value, "split": "train"} if isinstance(value, str | Path) else value


class AugmentConfig(_Config):
    """How strongly chips are varied in training.

    Attributes:
        crop_px: side of a chip after augmentation.
        warp_share: share of the chips that are scaled and misregistered.
        largest_scale: scaling along each axis apart lies between this and its inverse.
        zoom: scaling along both axes together lies between this and its inverse; with `largest_scale` the chip that is
            cut should have `crop_px * largest_scale * zoom` px, or invalid pixels come in at its edge.
        misregister_px: the after date is shifted by up to this much along each axis.
        swap: chance that the dates are exchanged.
        gain: standard deviation of the logarithm of a date's gain.
        band_gain: likewise for each band apart.
        offset: standard deviation of what is added to each band of a date, reflectance.
        haze: largest reflectance added to or taken from the coastal band; the others by their scattering.
        noise: largest standard deviation of the noise a pixel, reflectance; each band of each date draws its own.
        band_dropout: share of the chips that lose some of the optional bands.
        optional_bands: which bands a model shall do without where a scene lacks them; the card names them.
        paste: share of the chips into which a changed object of another chip is pasted.
        paste_feather_px: over how many px around the object its surroundings fade into the chip's.
    """

    crop_px: int = Field(default=96, ge=16)
    warp_share: float = Field(default=0.5, ge=0, le=1)
    largest_scale: float = Field(default=1.35, ge=1, le=2)
    zoom: float = Field(default=1.0, ge=1, le=2)
    misregister_px: float = Field(default=1.0, ge=0)
    swap: float = Field(default=0.5, ge=0, le=1)
    gain: float = Field(default=0.1, ge=0)
    band_gain: float = Field(default=0.05, ge=0)
    offset: float = Field(default=0.0, ge=0)
    haze: float = Field(default=0.03, ge=0)
    noise: float = Field(default=0.005, ge=0)
    band_dropout: float = Field(default=0.0, ge=0, le=1)
    optional_bands: tuple[str, ...] = ()
    paste: float = Field(default=0.0, ge=0, le=1)
    paste_feather_px: int = Field(default=3, ge=0)

    @model_validator(mode="after")
    def _dropout_has_bands(self) -> AugmentConfig:
        if (self.band_dropout > 0) != bool(self.optional_bands):
            raise ValueError(
                "band_dropout and optional_bands go together: a share of chips, and the bands they may lose"
            )
        return self


_LOSSES = ("bce", "dice", "focal", "lovasz", "tversky", "contrastive", "triplet")
# Which settings of `LossConfig` belong to which of its losses.
_LOSS_SETTINGS = {
    "positive_weight": ("bce",),
    "hard_negatives": ("bce",),
    "focal_gamma": ("focal",),
    "focal_alpha": ("focal",),
    "false_alarm_weight": ("tversky",),
    "miss_weight": ("tversky",),
    "margin": ("contrastive", "triplet"),
    "mining": ("triplet",),
}


class LossConfig(_Config):
    """A weighted sum of losses, `{bce: 1, dice: 1, positive_weight: 2}` for instance, with the settings of each.

    Attributes:
        bce: weight of the binary cross-entropy.
        dice: weight of the Dice loss.
        focal: weight of the focal loss.
        lovasz: weight of the Lovász hinge.
        tversky: weight of the Tversky loss.
        contrastive: weight of the contrastive loss; for networks that give a distance.
        triplet: weight of the triplet loss; likewise.
        positive_weight: bce: how many times a changed pixel counts.
        hard_negatives: bce: share of the unchanged pixels of a batch that count, those of highest loss.
        focal_gamma: focal: exponent; the higher, the less easy pixels count.
        focal_alpha: focal: weight of changed pixels, that of unchanged ones being 1 less it; None weighs alike.
        false_alarm_weight: tversky: of false alarms in the index, its alpha.
        miss_weight: tversky: of missed change, its beta.
        margin: contrastive: from which distance on a changed pixel is far enough. triplet: by how much.
        mining: triplet: which triplets count: `hard`, the changed pixel closer than the unchanged; `semi_hard`, farther
            but within the margin; `batch_hard`, of each anchor its farthest unchanged and closest changed pixel.
        border: what becomes of labels at the border of a change, which are coarse: `exact` trusts them, `ignore` leaves
            out pixels with another label within `border_px`, `soft` takes the mean label around.
        border_px: half the width of that border.
    """

    bce: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    dice: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    focal: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    lovasz: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    tversky: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    contrastive: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    triplet: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    positive_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    hard_negatives: float = Field(default=1.0, gt=0, le=1)
    focal_gamma: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    focal_alpha: float | None = Field(default=None, gt=0, lt=1)
    false_alarm_weight: float = Field(default=0.3, ge=0, allow_inf_nan=False)
    miss_weight: float = Field(default=0.7, ge=0, allow_inf_nan=False)
    margin: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    mining: Literal["hard", "semi_hard", "batch_hard"] = "batch_hard"
    border: Literal["exact", "ignore", "soft"] = "exact"
    border_px: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _settings_belong(self) -> LossConfig:
        if not self.weights:
            raise ValueError(f"no loss has a weight; expected one or more of {', '.join(_LOSSES)}")
        # Compared with the default, not with what was said: a dumped configuration says everything.
        changed = {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}
        for setting, losses in _LOSS_SETTINGS.items():
            if setting in changed and not set(losses) & set(self.weights):
                raise ValueError(f"{setting} is a setting of {' and '.join(losses)}, which has no weight here")
        if "border_px" in changed and self.border == "exact":
            raise ValueError("border_px needs border: ignore or soft")
        if self.border == "soft" and self.lovasz:
            raise ValueError("lovasz takes no soft labels; expected border: exact or ignore")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The losses that count, with their weights."""
        return {name: getattr(self, name) for name in _LOSSES if getattr(self, name) > 0}


class FinetuneConfig(_Config):
    """How `changedet finetune` learns from one pair.

    Attributes:
        name: of the new model.
        command: to be stated on its card.
        steps: optimiser steps, if time allows.
        minutes: after which it stops all the same.
        held_out_share: of the polygons of change, kept apart in space to measure the gain on; 0 learns from all.
        learning_rate: highest, after a tenth of the training; it falls to 0.
        weight_decay: of AdamW.
        ema: decay a step of the averaged weights that are saved.
        batch: chips a step.
        chip_px: side of a chip as it is cut, before augmentation crops it.
        changed_share: share of a batch that is centred near a changed pixel.
        hard_share: share of a batch that is centred near a pixel mistaken for change, or a reviewed false alarm.
        mine_every: steps after which the pair is mapped anew to find these.
        loss: see `LossConfig`.
        augment: see `AugmentConfig`.
        precision: `bfloat16` where the processor computes in it, else `float32`; `auto` decides.
        seed: of chips, augmentation and the split.
        max_memory: bytes for mapping the pair; the chip size follows from it.
    """

    name: str = "finetuned"
    command: str = ""
    steps: int = Field(default=200, ge=2)
    minutes: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    held_out_share: float = Field(default=0.25, ge=0, lt=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    ema: float = Field(default=0.95, ge=0, lt=1)
    batch: int = Field(default=8, ge=1)
    chip_px: int = Field(default=128, ge=16)
    changed_share: float = Field(default=0.5, ge=0, le=1)
    hard_share: float = Field(default=0.375, ge=0, le=1)
    mine_every: int = Field(default=50, ge=1)
    loss: LossConfig = LossConfig(bce=1.0, dice=1.0)
    augment: AugmentConfig = AugmentConfig(crop_px=96, warp_share=0.5, largest_scale=1.25, paste=0.25)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = Field(default=0, ge=0)
    max_memory: Bytes = Field(default=2 * 10**9, ge=10**8)

    @model_validator(mode="after")
    def _shares_fit(self) -> FinetuneConfig:
        _check_shares(self.changed_share, self.hard_share)
        return self


def _check_shares(changed: float, hard: float) -> None:
    """Refuse shares of a batch that are more than all of it; both ways of training draw by them."""
    if changed + hard > 1:
        raise ValueError(f"changed_share {changed} and hard_share {hard} exceed 1 together")


class Candidate(_Config):
    """An architecture that takes part in the cross-validation.

    Attributes:
        architecture: its name.
        arguments: that it is built with.
        loss: instead of `TrainConfig.loss`.
    """

    architecture: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    loss: LossConfig | None = None


class EarlyStop(_Config):
    """When to stop before the last step: as the F1 of scenes that are not learned from grows no more.

    The weights of the highest F1 are kept.

    Attributes:
        scenes: names of the scenes to validate on; each training takes those of them that its fold does not hold out.
        every: steps between two validations.
        patience: after so many validations without a higher F1 the training ends.
    """

    scenes: tuple[str, ...] = Field(min_length=1)
    every: int = Field(default=50, ge=1)
    patience: int = Field(default=4, ge=1)


class ModelPlan(_Config):
    """A model to be trained and shipped.

    Attributes:
        summary: one sentence, for the card.
        bands: which it sees, by name.
        candidates: names in `TrainConfig.candidates` that compete for it; empty for all.
    """

    summary: str
    bands: tuple[str, ...] = Field(min_length=1)
    candidates: tuple[str, ...] = ()


class TrainConfig(_Config):
    """The `train` block of a pipeline file: cross-validate candidates for each model, then train the best on all data.

    Attributes:
        data: the labelled scenes; a path alone is the folder of the OSCD download, of which the training cities.
        out: folder for checkpoints, results and finished models.
        models: name → bands of the models to make.
        candidates: name → architecture; the one with the highest pooled F1 is trained on all cities.
        folds: cities held out together.
        seed: of weights, chips and augmentation.
        steps: optimiser steps.
        batch: chips a step.
        chip_px: side of a chip as it is cut, before augmentation crops it.
        changed_share: share of a batch that is centred near a changed pixel.
        learning_rate: highest of the schedule.
        weight_decay: of AdamW.
        loss: what is minimised.
        hard_share: share of a batch that is drawn from where the loss was highest at the last visit.
        accumulate: batches whose gradients are averaged for a step, for a larger batch in the same memory.
        schedule: of the learning rate: `one_cycle` rises from a 25th over the first 30 % of the steps and falls to
            nothing, `cosine` falls from the start.
        ema: decay a step of the averaged weights that are evaluated and saved.
        early_stop: when to stop before the last step; None does not.
        threads: torch's threads; part of the recipe, as the order of sums, and so the figures, depend on it.
        device: `auto` is the GPU where there is one; under torchrun each process takes the GPU of its own rank.
        precision: `float16` for GPUs only; `auto` is `bfloat16` where the device computes in it, else `float32`.
        deterministic: refuse operations whose result is not the same each time; on the CPU there are none.
        tensorboard: write event files too; needs the extra `tensorboard`.
        checkpoint_every: steps between checkpoints.
        resolution_m: ground size of the training pixels, for the card.
        licence: SPDX identifier, for the card.
        licence_note: where the licence comes from, for the card.
        commercial_use: for the card.
        description: what the data are, for the card.
    """

    data: Annotated[DatasetConfig, BeforeValidator(_oscd_of_path)]
    out: Path
    models: dict[str, ModelPlan] = Field(min_length=1)
    candidates: dict[str, Candidate] = Field(min_length=1)
    folds: tuple[tuple[str, ...], ...] = Field(min_length=2)
    seed: int = Field(default=0, ge=0)
    steps: int = Field(default=500, ge=2)
    batch: int = Field(default=12, ge=1)
    chip_px: int = Field(default=144, ge=16)
    changed_share: float = Field(default=0.5, ge=0, le=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    loss: LossConfig = LossConfig(bce=1, dice=1, positive_weight=2)
    hard_share: float = Field(default=0.0, ge=0, le=1)
    accumulate: int = Field(default=1, ge=1)
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    ema: float = Field(default=0.99, ge=0, lt=1)
    early_stop: EarlyStop | None = None
    threads: int = Field(default=1, ge=1)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    deterministic: bool = False
    tensorboard: bool = False
    checkpoint_every: int = Field(default=100, ge=1)
    augment: AugmentConfig = AugmentConfig()
    resolution_m: float = Field(default=10.0, gt=0)
    licence: str
    licence_note: str
    commercial_use: bool = False
    description: str

    @model_validator(mode="after")
    def _chips_fit(self) -> TrainConfig:
        if self.augment.crop_px > self.chip_px:
            raise ValueError(f"augment.crop_px {self.augment.crop_px} is larger than chip_px {self.chip_px}")
        return self

    @model_validator(mode="after")
    def _candidates_known(self) -> TrainConfig:
        for name, plan in self.models.items():
            unknown = [candidate for candidate in plan.candidates if candidate not in self.candidates]
            if unknown:
                raise ValueError(f"models.{name}.candidates: {unknown[0]!r} is none of {', '.join(self.candidates)}")
        return self

    @model_validator(mode="after")
    def _shares_fit(self) -> TrainConfig:
        _check_shares(self.changed_share, self.hard_share)
        return self

    @model_validator(mode="after")
    def _every_fold_can_be_validated(self) -> TrainConfig:
        for fold in self.folds:
            if self.early_stop and not set(self.early_stop.scenes) - set(fold):
                raise ValueError(f"early_stop.scenes leaves nothing to validate on beside the fold {', '.join(fold)}")
        return self

    def candidates_of(self, model: str) -> tuple[str, ...]:
        """Return the names of the candidates that compete for `model`."""
        return self.models[model].candidates or tuple(self.candidates)


class Pipeline(_Config):
    """A pipeline file: one of its blocks.

    Attributes:
        run: for `changedet run`.
        train: for `changedet train`.
        dataset: for `changedet evaluate` and `changedet calibrate`.
    """

    run: RunStep | None = None
    train: TrainConfig | None = None
    dataset: DatasetConfig | None = None

    @model_validator(mode="after")
    def _one_block(self) -> Pipeline:
        if sum(block is not None for block in (self.run, self.train, self.dataset)) != 1:
            raise ValueError("expected one block: run, train or dataset")
        return self


def load_pipeline(path: str | Path, changes: tuple[str, ...] = ()) -> Pipeline:
    """Read a pipeline file.

    Args:
        path: YAML.
        changes: `key=value` with dots for nesting, e.g. `run.threshold=0.4`; values are YAML.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: not YAML, an unknown key, or a wrong type; the message names the line.
    """
    file = Path(path)
    if not file.is_file():
        raise NotFoundError(f"no pipeline file {file}")
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} holds no block", expected="run:, train: or dataset: at the top level")
    for change in changes:
        _set(content, change)
    try:
        return Pipeline.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n  ".join(_located(file, root, problem) for problem in error.errors())) from error


def check_options(options: dict[str, Any]) -> RunConfig:
    """Return validated options of a run.

    Raises:
        ConfigError: an unknown option or a wrong value.
    """
    return checked(RunConfig, options)


def checked(kind: type[Kind], options: dict[str, Any]) -> Kind:
    """Return validated options of one kind.

    Raises:
        ConfigError: an unknown option or a wrong value.
    """
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        raise ConfigError("; ".join(f"{_key(problem)}: {_said(problem)}" for problem in error.errors())) from error


def _set(content: dict[str, Any], change: str) -> None:
    key, separator, value = change.partition("=")
    *path, last = key.split(".")
    for part in path:
        inner = content.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {change}: {part} is not a block")
        content = inner
    if not separator:
        raise ConfigError(f"--set {change}", expected="key=value, e.g. --set run.threshold=0.4")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {change}: the value is not YAML") from error


def _key(problem: Any) -> str:
    return ".".join(map(str, problem["loc"]))


def _said(problem: Any) -> str:
    shown = "" if problem["type"] in ("extra_forbidden", "missing") else f" (got {str(problem['input'])[:80]!r})"
    return str({"extra_forbidden": "unknown key"}.get(problem["type"], problem["msg"])) + shown


def _located(file: Path, root: yaml.Node | None, problem: Any) -> str:
    return f"{file}, line {_line(root, problem['loc'])}: {_key(problem) or 'file'}: {_said(problem)}"


def _line(node: yaml.Node | None, path: tuple[str | int, ...]) -> int:
    """Return the 1-based line of the deepest part of `path` that the file has."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in path:
        children: dict[object, tuple[yaml.Node, yaml.Node]] = {}
        if isinstance(node, yaml.MappingNode):
            children = {key.value: (key, value) for key, value in node.value}
        elif isinstance(node, yaml.SequenceNode):
            children = {index: (value, value) for index, value in enumerate(node.value)}
        if part not in children:
            break
        key, node = children[part]
        line = key.start_mark.line + 1
    return line
