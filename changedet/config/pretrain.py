"""How a model is trained without a label."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from changedet.config.base import Config
from changedet.config.learn import Candidate, Recipe


class MadeConfig(Config):
    """Changes that are made, by pasting into the after date what lies elsewhere.

    Attributes:
        share: of the chips into which changes are pasted.
        still: share of the chips into which content that did not change is pasted, so that a seam tells nothing.
        built_up: share of the pastes whose content is the most built-up of several places, the others' any.
        most: masks a chip, from 1 to so many.
        largest_px: sides and lengths of a mask are drawn up to this.
        feather_px: over how many px around a mask its content fades out.
    """

    share: float = Field(default=0.5, ge=0, le=1)
    still: float = Field(default=0.5, ge=0, le=1)
    built_up: float = Field(default=0.7, ge=0, le=1)
    most: int = Field(default=4, ge=1)
    largest_px: int = Field(default=40, ge=8)
    feather_px: int = Field(default=2, ge=0)


class PseudoConfig(Config):
    """Labels that `changedet.stats.urban.UrbanChange`, fitted to each pair by itself, is sure of.

    The defaults are where its grade is 0.9 and 0.1. What lies between them is not learned from.

    Attributes:
        changed_from: values of the statistic from which a pixel is surely changed.
        unchanged_to: values up to which it is surely unchanged.
    """

    changed_from: float = Field(default=2.25, gt=0, allow_inf_nan=False)
    unchanged_to: float = Field(default=1.15, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.unchanged_to >= self.changed_from:
            raise ValueError(f"unchanged_to {self.unchanged_to} lies not below changed_from {self.changed_from}")
        return self


class PlacesConfig(Config):
    """Metric learning on the encoder's coarsest features: a place is near itself at the other date, others are far.

    Attributes:
        weight: of the loss beside that of the map.
        margin: contrastive: from which distance (0..2, of unit vectors) on other places are far enough.
        triplet_margin: by how much the nearest other place shall be farther than the place itself.
        samples: places a batch.
        apart_px: places closer than this to each other are no other places.
    """

    weight: float = Field(default=0.3, gt=0, allow_inf_nan=False)
    margin: float = Field(default=0.7, gt=0, le=2)
    triplet_margin: float = Field(default=0.3, gt=0, le=2)
    samples: int = Field(default=64, ge=2)
    apart_px: int = Field(default=32, ge=1)


class PretrainConfig(Recipe):
    """The `pretrain` block of a pipeline file: learn from pairs without labels, and package what was learned.

    Attributes:
        network: what is built.
        leave_out: names of scenes that are not learned from.
        made: changes that are made; None makes none.
        pseudo: labels that a statistic of the pair is sure of; None takes every pixel for unchanged.
        places: metric learning; None learns none.
        urban_weight: see `Recipe`; 4 makes the statistic's share the logit of its own grade.
    """

    network: Candidate
    leave_out: tuple[str, ...] = ()
    made: MadeConfig | None = MadeConfig()
    pseudo: PseudoConfig | None = PseudoConfig()
    places: PlacesConfig | None = PlacesConfig()
    urban_weight: float = Field(default=4.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not (self.made or self.pseudo or self.places):
            raise ValueError("nothing to learn; expected one or more of made, pseudo, places")
        return self

    @model_validator(mode="after")
    def _no_labels_wanted(self) -> Self:
        if self.early_stop:
            raise ValueError("early_stop needs labels")
        if self.augment.paste:
            raise ValueError("augment.paste needs labels; made pastes without")
        if self.data.classes or self.data.covers:
            raise ValueError("data.classes and data.covers need labels; without them there is change or no change")
        return self
