"""Changes that are made: what lies elsewhere, pasted into the after date, and pastes of unchanged content beside them.

A network that learns from pasted changes alone learns the paste: its border, and a light that is not that of its
surroundings. So the border is feathered, the content is brought to the light of the date it is pasted into, and as many
chips get pastes that are no change: of the place's own earlier content, whose border is in one date as that of a made
change is, and of both dates of another place. What tells the two apart is the content.

Pasting for change detection without labels: Zheng et al., "Change is Everywhere: Single-Temporal Supervised Object
Change Detection in Remote Sensing Imagery", ICCV 2021; Seo et al., "Self-Pair: Synthesizing Changes from Single Source
for Object Change Detection in Remote Sensing Imagery", WACV 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from changedet.config import NEUTRAL_REFLECTANCE, MadeConfig
from changedet.grid import Window
from changedet.learn.datasets import TrainingScene
from changedet.learn.datasets.labels import NOT_KNOWN
from changedet.learn.hard import Centre
from changedet.learn.masks import draw_mask
from changedet.learn.paste import feathered
from changedet.learn.sample import Batch

Floats = NDArray[np.float32]

# Of so many places the most built-up one is pasted.
_CHOICES: Final = 4
# Of the draws' seeds, apart from those of chips and augmentation.
_STREAM: Final = 7
# A gain beyond this would make noise, or a flat scene, into content.
_MOST_GAIN: Final = 2.0
_LEAST_SUM: Final = 0.02
# Mean step of the bands, in standard deviations over the scene, from which a made change can be seen.
_SEEN: Final = 0.2


class Light(NamedTuple):
    """Mean and standard deviation of each band over a date of a scene, (C,) each."""

    mean: Floats
    deviation: Floats


class Chip(NamedTuple):
    """A chip of a batch, of the same memory: both dates (C, H, W), and the target (H, W)."""

    before: Floats
    after: Floats
    target: Floats

    @property
    def size(self) -> int:
        """Its side, px."""
        return len(self.target)


class Donor(NamedTuple):
    """A place of another scene, or of the same: both dates (C, H, W) in their light, and where it is valid (H, W)."""

    before: Floats
    after: Floats
    valid: NDArray[np.bool_]
    lights: tuple[Light, Light]


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes changes in the chips of a batch; a function of the seed, the number of the batch and the chips alone.

    Attributes:
        scenes: that the chips are of, and that content is taken from.
        lights: of both dates of each.
        bands: names of their channels.
        config: how many, how large.
        seed: of all draws.
    """

    scenes: Sequence[TrainingScene]
    lights: Sequence[tuple[Light, Light]]
    bands: tuple[str, ...]
    config: MadeConfig
    seed: int

    def __call__(self, batch: Batch, centres: Sequence[Centre], index: int) -> Batch:
        """Return the batch with what was pasted into it, labels and all; it is changed in place.

        Args:
            batch: chips as they were cut.
            centres: where.
            index: number of the batch.
        """
        rng = np.random.default_rng([self.seed, _STREAM, index])
        for at, centre in enumerate(centres):
            before, after, target = (part[at].numpy() for part in (batch.before, batch.after, batch.target))
            chip = Chip(before, after, target[0])
            lights = self.lights[centre.scene]
            if rng.random() < self.config.still:
                self._keep_still(chip, lights, rng)
            if rng.random() < self.config.share:
                self._change(chip, lights, rng)
        return batch

    def _change(self, chip: Chip, lights: tuple[Light, Light], rng: np.random.Generator) -> None:
        """Paste a date of another place into the after date."""
        donor, own = self._donor(chip.size, rng), self._mask(chip.size, rng)
        which = int(rng.integers(2))
        content = relit((donor.before, donor.after)[which], donor.lights[which], lights[1])
        weight = self._weight(own) * donor.valid
        step = _blend(chip.after, content, weight)
        # Water on water is no change that could be seen, and no proof that there is none.
        seen = np.abs(step / np.maximum(lights[1].deviation, 1e-4)[:, None, None]).mean(axis=0) > _SEEN
        chip.target[weight >= 0.5] = np.where(seen, 1, NOT_KNOWN)[weight >= 0.5]

    def _keep_still(self, chip: Chip, lights: tuple[Light, Light], rng: np.random.Generator) -> None:
        """Paste what is no change: the place's own earlier content, or both dates of another place."""
        weight = self._weight(self._mask(chip.size, rng))
        if rng.random() < 0.5:
            _blend(chip.after, relit(chip.before, *lights), weight)
        else:
            donor = self._donor(chip.size, rng)
            weight = weight * donor.valid
            _blend(chip.before, relit(donor.before, donor.lights[0], lights[0]), weight)
            _blend(chip.after, relit(donor.after, donor.lights[1], lights[1]), weight)
        chip.target[weight >= 0.5] = 0

    def _weight(self, own: NDArray[np.bool_]) -> Floats:
        return feathered(own, self.config.feather_px)

    def _mask(self, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        masks = [
            draw_mask(size, self.config.largest_px, rng) for _ in range(int(rng.integers(1, self.config.most + 1)))
        ]
        union: NDArray[np.bool_] = np.logical_or.reduce(masks)
        return union

    def _donor(self, size: int, rng: np.random.Generator) -> Donor:
        """Return a place to take content from: any, or the most built-up of several."""
        count = _CHOICES if rng.random() < self.config.built_up else 1
        return max((self._place(size, rng) for _ in range(count)), key=self._built_up)

    def _place(self, size: int, rng: np.random.Generator) -> Donor:
        which = int(rng.integers(len(self.scenes)))
        scene = self.scenes[which]
        height, width = (min(size, side) for side in scene.shape)
        row, col = (
            int(rng.integers(0, side - part + 1)) for side, part in zip(scene.shape, (height, width), strict=True)
        )
        before, after, _, valid = scene.read(Window(row, col, height, width))
        padding = ((0, size - height), (0, size - width))
        first, last = (
            np.pad(date.astype(np.float32), ((0, 0), *padding), constant_values=NEUTRAL_REFLECTANCE)
            for date in (before, after)
        )
        return Donor(first, last, np.pad(valid, padding), self.lights[which])

    def _built_up(self, place: Donor) -> float:
        """Return the mean index of built-up ground over the place, at the date where it is higher."""
        if not place.valid.any():
            return -np.inf
        return max(float(built_up(date, self.bands)[place.valid].mean()) for date in (place.before, place.after))


def _blend(image: Floats, content: Floats, weight: Floats) -> Floats:
    """Paste content (C, H, W) into an image, in place, with weights (H, W); return by how much each value moved."""
    step: Floats = weight * (content - image)
    image += step
    return step


def relit(content: Floats, given: Light, wanted: Light) -> Floats:
    """Return content (C, H, W) of a date of a scene as it would look in the light of another: a line for each band."""
    gain = np.clip(wanted.deviation / np.maximum(given.deviation, 1e-4), 1 / _MOST_GAIN, _MOST_GAIN)
    shift = wanted.mean - gain * given.mean
    moved: Floats = (content * gain[:, None, None] + shift[:, None, None]).astype(np.float32)
    return moved


def built_up(image: Floats, bands: Sequence[str]) -> Floats:
    """Return an index (H, W) that is high on built-up ground, of reflectance (C, H, W).

    The normalised difference of short-wave and near infrared (NDBI; Zha, Gao and Ni, IJRS 2003), less that of near
    infrared and red, so that bare fields count less; where there is no short-wave infrared, the second alone; without
    near infrared, the brightness.
    """
    band = dict(zip(bands, image, strict=True))
    if not {"B04", "B08"} <= band.keys():
        brightness: Floats = image.mean(axis=0)
        return brightness
    green = _difference(band["B08"], band["B04"])
    # Water has no more vegetation than a roof has, and is dark.
    index: Floats = np.minimum(band["B04"] / np.float32(0.1), 1) - 1 - green
    if "B11" in band:
        index = index + _difference(band["B11"], band["B08"])
    return index


def _difference(one: Floats, other: Floats) -> Floats:
    index: Floats = (one - other) / np.maximum(one + other, np.float32(_LEAST_SUM))
    return index


def lights_of(mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> tuple[Light, Light]:
    """Return the light of both dates from figures of stacked bands (before, then after), (2C,) each."""
    means, deviations = (np.split(values.astype(np.float32), 2) for values in (mean, deviation))
    return Light(means[0], deviations[0]), Light(means[1], deviations[1])
