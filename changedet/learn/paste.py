"""Copy-paste of changes: a changed object of one chip, pixels of both dates, into an unchanged place of another.

After Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021, and
Chen, Li and Shi, "Adversarial Instance Augmentation for Building Change Detection in Remote Sensing Images", TGRS 2022.
There one date gets the object; here both dates come along, so what was there before stays true of the object, and the
edge between the two places, being in both dates, is no sign of change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from changedet.learn.datasets.labels import NOT_KNOWN
from changedet.learn.sample import Batch

# Larger objects leave no room for a place around them.
_LARGEST_SHARE = 0.125
_ATTEMPTS = 8
Kind = TypeVar("Kind", bound=np.generic)
_EIGHT = np.ones((3, 3), np.bool_)


@dataclass(frozen=True, slots=True)
class ChangedObject:
    """A changed object with its surroundings, cut out of a chip.

    Attributes:
        before: float32 (C, h, w).
        after: float32 (C, h, w).
        truth: float32 (h, w), the kind of change 1..K on the object, else 0.
        weight: float32 (h, w), 1 on the object, falling to 0 over the feather.
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    truth: NDArray[np.float32]
    weight: NDArray[np.float32]

    def turned(self, quarter: int, *, mirrored: bool) -> ChangedObject:
        """Return it after so many quarter turns, then mirrored or not."""

        def turn(array: NDArray[Kind]) -> NDArray[Kind]:
            array = np.rot90(array, quarter, (-2, -1))
            return array[..., ::-1] if mirrored else array

        return ChangedObject(turn(self.before), turn(self.after), turn(self.truth), turn(self.weight))


def paste_changes(batch: Batch, *, share: float, feather: int, generator: torch.Generator) -> Batch:
    """Paste a changed object of another chip into about `share` of the chips.

    The object is turned at random, and lies wholly inside the chip, on pixels that are valid and unchanged. A chip
    stays as it is where its donor has no object of the right size or where no place is found.

    Args:
        batch: chips; it is left as it is.
        share: of the chips, 0..1.
        feather: over how many px around the object its surroundings fade into the chip's.
        generator: of all draws.
    """
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    parts = tuple(part.numpy() for part in (batch.before, batch.after, batch.target, batch.valid))
    before, after, target, valid = (part.copy() for part in parts)
    count = len(before)
    for receiver in np.flatnonzero(rng.random(count) < share):
        donor = (receiver + rng.integers(1, count)) % count if count > 1 else receiver
        found = cut_object(*(part[donor] for part in parts), feather=feather, rng=rng)
        if found is None:
            continue
        place = _free_place(target[receiver, 0] > 0, valid[receiver, 0], found.weight > 0, rng)
        if place is not None:
            _paste(found, place, before[receiver], after[receiver], target[receiver, 0])
    return Batch(*map(torch.from_numpy, (before, after, target, valid)))


def cut_object(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    target: NDArray[np.float32],
    valid: NDArray[np.bool_],
    *,
    feather: int,
    rng: np.random.Generator,
) -> ChangedObject | None:
    """Cut one changed object, 8-connected, out of a chip, turned at random; None where there is none to be had.

    Objects that touch the chip's edge within the feather, invalid pixels or another object's feather are left alone:
    parts of them would be missing, or parts of others come along unlabelled. So are those beside pixels that nobody
    knows of.

    Args:
        before: (C, H, W).
        after: (C, H, W).
        target: (1, H, W), 0 unchanged, 1..K the kind of change, 255 where that is not known.
        valid: bool (1, H, W), True = valid.
        feather: px.
        rng: of the draws.
    """
    changed_or_unknown = target[0] > 0
    labels, count = ndimage.label(changed_or_unknown & (target[0] != NOT_KNOWN), structure=_EIGHT)
    for index in rng.permutation(count) + 1:
        own = labels == index
        if own.sum() > _LARGEST_SHARE * own.size:
            continue
        weight = feathered(own, feather)
        inside = weight > 0
        whole = not (inside[[0, -1]].any() or inside[:, [0, -1]].any())
        if whole and valid[0][inside].all() and not (changed_or_unknown & inside & ~own).any():
            rows, cols = ndimage.find_objects(inside.astype(np.int8))[0]
            truth = np.where(own, target[0], 0)
            found = ChangedObject(before[:, rows, cols], after[:, rows, cols], truth[rows, cols], weight[rows, cols])
            return found.turned(int(rng.integers(4)), mirrored=bool(rng.integers(2)))
    return None


def feathered(own: NDArray[np.bool_], feather: int) -> NDArray[np.float32]:
    """Return 1 on an object (H, W; True = on it), falling linearly with the distance to 0 at `feather + 1` px."""
    distance = ndimage.distance_transform_edt(~own)
    weight: NDArray[np.float32] = np.clip(1 - distance / (feather + 1), 0, 1).astype(np.float32)
    return weight


def _free_place(
    changed: NDArray[np.bool_], valid: NDArray[np.bool_], footprint: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[slice, slice] | None:
    """Return where `footprint` lies on valid, unchanged pixels only; None where a few attempts find no such place."""
    room = [size - own for size, own in zip(changed.shape, footprint.shape, strict=True)]
    if min(room) < 0:
        return None
    free = valid & ~changed
    for _ in range(_ATTEMPTS):
        row, col = (int(rng.integers(0, n + 1)) for n in room)
        place = slice(row, row + footprint.shape[0]), slice(col, col + footprint.shape[1])
        if free[place][footprint].all():
            return place
    return None


def _paste(
    found: ChangedObject,
    place: tuple[slice, slice],
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    target: NDArray[np.float32],
) -> None:
    for image, pixels in ((before, found.before), (after, found.after)):
        image[:, *place] += found.weight * (pixels - image[:, *place])
    target[place][found.truth > 0] = found.truth[found.truth > 0]
