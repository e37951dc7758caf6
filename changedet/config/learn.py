"""How a model is trained and fine-tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from changedet.config.base import Bytes, Config
from changedet.config.data import DatasetConfig


def _oscd_of_path(value: object) -> object:
    return {"kind": "oscd", "root": value, "split": "train"} if isinstance(value, str | Path) else value


class AugmentConfig(Config):
    """How strongly chips are varied in training.

    Attributes:
        crop_px: side of a chip after augmentation.
        warp_share: share of the chips that are scaled and misregistered.
        largest_scale: scaling along each axis apart lies between this and its inverse.
        zoom: scaling along both axes together lies between this and its inverse; with `largest_scale` the chip that is
            cut should have `crop_px * largest_scale * zoom` px, or invalid pixels come in at its edge.
        misregister_px: the after date is shifted by up to this much along each axis.
        swap: chance that the dates are exchanged; not of chips whose labels tell named kinds of change apart, which
            would no longer be true. Transitions of land cover are turned round.
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


HeldOutCalibration = Literal["none", "temperature", "platt"]
_LOSSES = ("bce", "dice", "focal", "lovasz", "tversky", "contrastive", "triplet")
# Which settings of `LossConfig` belong to which of its losses.
_LOSS_SETTINGS = {
    "positive_weight": ("bce",),
    "cover_share": ("bce",),
    "hard_negatives": ("bce",),
    "focal_gamma": ("focal",),
    "focal_alpha": ("focal",),
    "false_alarm_weight": ("tversky",),
    "miss_weight": ("tversky",),
    "margin": ("contrastive", "triplet"),
    "mining": ("triplet",),
}


class LossConfig(Config):
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
        cover_share: of the land covers in `bce` where a network learns them too, the change having the rest.
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
    cover_share: float = Field(default=0.5, ge=0, le=1)
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


class FinetuneConfig(Config):
    """How `changedet finetune` learns from one pair.

    Steps and learning rate are those of the highest gain on six cities, see docs/experiments.md: ten times smaller
    steps gain less, twice as many of them learn some cities by heart.

    Attributes:
        name: of the new model.
        command: to be stated on its card.
        steps: optimiser steps, if time allows.
        minutes: after which it stops all the same.
        held_out_share: of the polygons of change, kept apart in space to measure the gain on; 0 learns from all.
        learning_rate: highest, after a tenth of the training; it falls to 0.
        weight_decay: of AdamW.
        ema: decay a step of the averaged weights.
        keep: share of the old weights in those that are saved, the averaged ones having the rest.
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
    steps: int = Field(default=150, ge=2)
    minutes: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    held_out_share: float = Field(default=0.25, ge=0, lt=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    ema: float = Field(default=0.95, ge=0, lt=1)
    keep: float = Field(default=0.5, ge=0, lt=1)
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


class Candidate(Config):
    """An architecture that takes part in the cross-validation.

    Attributes:
        architecture: its name.
        arguments: that it is built with.
        loss: instead of `TrainConfig.loss`.
    """

    architecture: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    loss: LossConfig | None = None


class EarlyStop(Config):
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


class ModelPlan(Config):
    """A model to be trained and shipped.

    Attributes:
        summary: one sentence, for the card.
        bands: which it sees, by name.
        candidates: names in `TrainConfig.candidates` that compete for it; empty for all.
    """

    summary: str
    bands: tuple[str, ...] = Field(min_length=1)
    candidates: tuple[str, ...] = ()


class Recipe(Config):
    """What learning with labels and without them have in common.

    Attributes:
        data: the scenes; a path alone is the folder of the OSCD download, of which the training cities.
        out: folder for checkpoints, results and finished models.
        models: name → bands of the models to make.
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
        start: model, shipped or a file, whose weights training begins with; None begins with random ones, or with
            those that the candidate's arguments name.
        urban_weight: what a unit of `changedet.stats.urban.UrbanChange`, fitted to each pair by itself, adds to the
            network's logit where models are scored and used; 0 for the network alone. Training does not see it.
        neighbour_weight: what a unit of the logarithm of the share of change around a pixel adds to the logit so
            joined, see `changedet.stats.neighbourhood`; goes with `urban_weight`.
        scene_memory: bytes that the scenes may take in each process; a set that does not fit is read from disk as chips
            are drawn, the latest blocks kept within as much. The chips are the same.
        threads: torch's threads; part of the recipe, as the order of sums, and so the figures, depend on it.
        device: `auto` is the GPU where there is one; under torchrun each process takes the GPU of its own rank.
        precision: `float16` for GPUs only; `auto` is `bfloat16` where the device computes in it, else `float32`.
        deterministic: refuse operations whose result is not the same each time; on the CPU there are none.
        tensorboard: write event files too; needs the extra `tensorboard`.
        checkpoint_every: steps between checkpoints.
        augment: see `AugmentConfig`.
        resolution_m: ground size of the training pixels, for the card.
        licence: SPDX identifier, for the card.
        licence_note: where the licence comes from, for the card.
        commercial_use: for the card.
        description: what the data are, for the card.
    """

    data: Annotated[DatasetConfig, BeforeValidator(_oscd_of_path)]
    out: Path
    models: dict[str, ModelPlan] = Field(min_length=1)
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
    start: str | None = None
    urban_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    neighbour_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    scene_memory: Bytes = Field(default=4 * 10**9, ge=0)
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
    def _chips_fit(self) -> Self:
        if self.augment.crop_px > self.chip_px:
            raise ValueError(f"augment.crop_px {self.augment.crop_px} is larger than chip_px {self.chip_px}")
        return self

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        _check_shares(self.changed_share, self.hard_share)
        return self

    @model_validator(mode="after")
    def _weights_go_together(self) -> Self:
        # As the model's card says, but before hours of training.
        if self.neighbour_weight and not self.urban_weight:
            raise ValueError("neighbour_weight goes with urban_weight, which is 0")
        return self

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        # Likewise.
        for name, plan in self.models.items():
            if len(set(plan.bands)) < len(plan.bands):
                raise ValueError(f"models.{name}.bands names one twice")
            if set(plan.bands) <= set(self.augment.optional_bands):
                raise ValueError(f"augment.optional_bands holds all bands of models.{name}; expected some of them")
        return self


class TrainConfig(Recipe):
    """The `train` block of a pipeline file: cross-validate candidates for each model, then train the best on all data.

    Attributes:
        candidates: name → architecture; the one with the highest pooled F1 is trained on all cities.
        folds: cities held out together.
        calibration: of the finished model's probabilities, fitted to the held-out scenes of all folds, see
            `changedet.network.card.Calibration`; its threshold is chosen there too. `platt` takes back what drawing
            half of the chips around changes does to the probabilities, which `temperature` cannot.
    """

    candidates: dict[str, Candidate] = Field(min_length=1)
    folds: tuple[tuple[str, ...], ...] = Field(min_length=2)
    calibration: HeldOutCalibration = "platt"

    @model_validator(mode="after")
    def _candidates_known(self) -> Self:
        for name, plan in self.models.items():
            unknown = [candidate for candidate in plan.candidates if candidate not in self.candidates]
            if unknown:
                raise ValueError(f"models.{name}.candidates: {unknown[0]!r} is none of {', '.join(self.candidates)}")
        return self

    @model_validator(mode="after")
    def _statistic_knows_one_kind(self) -> Self:
        if self.urban_weight and (self.data.classes or self.data.covers):
            raise ValueError("urban_weight goes with change or no change, and data tells several kinds apart")
        return self

    @model_validator(mode="after")
    def _every_fold_can_be_validated(self) -> Self:
        for fold in self.folds:
            if self.early_stop and not set(self.early_stop.scenes) - set(fold):
                raise ValueError(f"early_stop.scenes leaves nothing to validate on beside the fold {', '.join(fold)}")
        return self

    def candidates_of(self, model: str) -> tuple[str, ...]:
        """Return the names of the candidates that compete for `model`."""
        return self.models[model].candidates or tuple(self.candidates)
