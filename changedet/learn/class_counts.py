"""Counts of a map with classes of change against its truth. Counts add up; ratios are taken once, at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from changedet.learn.counts import ChangeCounts


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
