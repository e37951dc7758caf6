"""Counts of a map with classes of change against its truth. Counts add up; ratios are taken once, at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from changedet.grid.quantise import NODATA, STEPS, stored_change, stored_threshold
from changedet.learn.counts import ChangeCounts, ProbabilityHistogram


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Pixels by truth (row) and map (column): 0 unchanged, 1..K the class of change.

    Attributes:
        confusion: int64 (K + 1, K + 1).
    """

    confusion: NDArray[np.int64]

    def __add__(self, other: Self) -> ClassCounts:
        return ClassCounts(self.confusion + other.confusion)

    @classmethod
    def empty(cls, classes: int) -> ClassCounts:
        """Return the counts of nothing, for K `classes` of change."""
        return cls(np.zeros((classes + 1, classes + 1), np.int64))

    @classmethod
    def of(
        cls, mask: NDArray[np.uint8], truth: NDArray[np.uint8], valid: NDArray[np.bool_], *, classes: int
    ) -> ClassCounts:
        """Count `mask` (H, W; 0..K) by `truth` (H, W; 0..K) where `valid` (H, W; True = valid)."""
        size = classes + 1
        pairs = truth[valid].astype(np.int64) * size + mask[valid]
        return cls(np.bincount(pairs, minlength=size * size).reshape(size, size).astype(np.int64))

    def of_class(self, index: int) -> ChangeCounts:
        """Return the counts of one class, 0..K, against all others."""
        tp = int(self.confusion[index, index])
        fn, fp = int(self.confusion[index].sum()) - tp, int(self.confusion[:, index].sum()) - tp
        return ChangeCounts(tp, fp, fn, int(self.confusion.sum()) - tp - fn - fp)

    def change(self) -> ChangeCounts:
        """Return the counts of change of any class against none."""
        changed = self.confusion[1:, 1:].sum()
        return ChangeCounts(
            int(changed), int(self.confusion[0, 1:].sum()), int(self.confusion[1:, 0].sum()), int(self.confusion[0, 0])
        )

    @property
    def mean_f1(self) -> float:
        """The mean F1 over the classes of change that occur in truth or map; NaN where none does."""
        scores = [self.of_class(index).f1 for index in range(1, len(self.confusion))]
        known = [score for score in scores if not np.isnan(score)]
        return float(np.mean(known)) if known else float("nan")

    @property
    def kappa(self) -> float:
        """Cohen's kappa over all classes, unchanged included (Cohen 1960); NaN where it is not defined."""
        # Python's integers, as the squares of a billion pixels are beyond a float's precision.
        rows, cols = ([int(n) for n in self.confusion.sum(axis=axis)] for axis in (1, 0))
        total, agreed = sum(rows), int(np.trace(self.confusion))
        by_chance = sum(row * col for row, col in zip(rows, cols, strict=True))
        apart = total * total - by_chance
        return (agreed * total - by_chance) / apart if apart else float("nan")

    def figures(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return for JSON: each class of change against all else, their mean F1, kappa over all; None where undefined.

        Args:
            names: of the classes 1..K.
        """
        of_each = {name: self.of_class(index).figures() for index, name in enumerate(names, start=1)}
        return {"classes": of_each, "mean_f1": _plain(self.mean_f1), "kappa": _plain(self.kappa)}


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)


@dataclass(frozen=True, slots=True)
class ClassHistogram:
    """Valid pixels by truth, by the likeliest class of change, and by the stored probability of change of any kind.

    Gives the counts at any threshold.

    Attributes:
        pixels: int64 (K + 1, K, 255); the truth is 0 unchanged, 1..K the class.
    """

    pixels: NDArray[np.int64]

    def __add__(self, other: Self) -> ClassHistogram:
        return ClassHistogram(self.pixels + other.pixels)

    @classmethod
    def of(cls, stored: NDArray[np.uint8], truth: NDArray[np.uint8], valid: NDArray[np.bool_]) -> ClassHistogram:
        """Count `stored` (K, H, W; 255 = no data) by `truth` (H, W; 0..K) where `valid` (H, W; True = valid)."""
        classes, change = len(stored), stored_change(stored)
        counted = valid & (change != NODATA)
        likeliest = stored.argmax(axis=0)[counted]
        at = (truth[counted].astype(np.int64) * classes + likeliest) * (STEPS + 1) + change[counted]
        shape = (classes + 1, classes, STEPS + 1)
        return cls(np.bincount(at, minlength=math.prod(shape)).reshape(shape).astype(np.int64))

    def moved(self, to: NDArray[np.intp]) -> ClassHistogram:
        """Return it with the pixels of each stored value k at `to[k]` (255,)."""
        pixels = np.zeros_like(self.pixels)
        for stored, becomes in enumerate(to):
            pixels[..., becomes] += self.pixels[..., stored]
        return ClassHistogram(pixels)

    def change(self) -> ProbabilityHistogram:
        """Return the histogram of change of any class."""
        return ProbabilityHistogram(self.pixels[1:].sum(axis=(0, 1)), self.pixels[0].sum(axis=0))

    def counts(self, threshold: float) -> ClassCounts:
        """Return the counts of the mask that `threshold` (0..1) makes, changed pixels being of the likeliest class."""
        first = stored_threshold(threshold)
        changed, unchanged = self.pixels[..., first:].sum(axis=2), self.pixels[..., :first].sum(axis=(1, 2))
        return ClassCounts(np.column_stack([unchanged, changed]))
