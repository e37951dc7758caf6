"""Counts of a change map against its truth. Counts add up; ratios are taken once, at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from changedet.grid.quantise import STEPS, stored_threshold


@dataclass(frozen=True, slots=True)
class ChangeCounts:
    """Pixels by truth and map: true/false, positive (changed) / negative (unchanged). Undefined ratios are NaN."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: Self) -> ChangeCounts:
        return ChangeCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def precision(self) -> float:
        """Share of the pixels called changed that are."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the changed pixels that are called so."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """Intersection over union of the changed pixels, TP / (TP + FP + FN): the Jaccard index."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond that of a map with the same shares drawn by chance (Cohen 1960)."""
        total = self.tp + self.fp + self.fn + self.tn
        by_chance = (self.tp + self.fp) * (self.tp + self.fn) + (self.fn + self.tn) * (self.fp + self.tn)
        # Python's integers, as the squares of a billion pixels are beyond a float's precision.
        return _ratio((self.tp + self.tn) * total - by_chance, total * total - by_chance)

    def ratios(self) -> dict[str, float]:
        """Return every ratio by its name."""
        names = ("precision", "recall", "f1", "iou", "kappa")
        return {name: getattr(self, name) for name in names}

    def figures(self) -> dict[str, float | int | None]:
        """Return counts and ratios for JSON: rounded to four places, None where undefined."""
        rounded = {name: None if np.isnan(value) else round(value, 4) for name, value in self.ratios().items()}
        return {**rounded, "tp": self.tp, "fp": self.fp, "fn": self.fn, "tn": self.tn}


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


@dataclass(frozen=True, slots=True)
class ProbabilityHistogram:
    """Valid pixels by stored probability (0..254), apart for changed and unchanged truth.

    Gives the counts at any threshold.

    Attributes:
        changed: int64 (255,), pixels that are changed in truth.
        unchanged: int64 (255,), pixels that are not.
    """

    changed: NDArray[np.int64]
    unchanged: NDArray[np.int64]

    def __add__(self, other: Self) -> ProbabilityHistogram:
        return ProbabilityHistogram(self.changed + other.changed, self.unchanged + other.unchanged)

    @classmethod
    def of(cls, stored: NDArray[np.uint8], truth: NDArray[np.bool_], valid: NDArray[np.bool_]) -> ProbabilityHistogram:
        """Count `stored` (H, W) where `valid` (H, W; True = valid), by `truth` (H, W; True = changed)."""
        changed, unchanged = (np.bincount(stored[valid & t], minlength=256)[: STEPS + 1] for t in (truth, ~truth))
        return cls(changed.astype(np.int64), unchanged.astype(np.int64))

    @classmethod
    def empty(cls) -> ProbabilityHistogram:
        """Return a histogram of nothing."""
        return cls(np.zeros(STEPS + 1, np.int64), np.zeros(STEPS + 1, np.int64))

    def counts(self, threshold: float) -> ChangeCounts:
        """Return the counts of the mask that `threshold` (0..1) makes from the stored values."""
        first = stored_threshold(threshold)
        tp, fp = int(self.changed[first:].sum()), int(self.unchanged[first:].sum())
        return ChangeCounts(tp, fp, int(self.changed.sum()) - tp, int(self.unchanged.sum()) - fp)

    def best_threshold(self) -> float:
        """Return the threshold k / 254 of highest F1; 0.5 where none has one, as nothing changed nor is called so."""
        scores = np.array([self.counts(k / STEPS).f1 for k in range(1, STEPS + 1)])
        return 0.5 if np.isnan(scores).all() else (int(np.nanargmax(scores)) + 1) / STEPS

    def moved(self, to: NDArray[np.intp]) -> ProbabilityHistogram:
        """Return it with the pixels of each stored value k at `to[k]` (255,)."""
        changed, unchanged = np.zeros_like(self.changed), np.zeros_like(self.unchanged)
        np.add.at(changed, to, self.changed)
        np.add.at(unchanged, to, self.unchanged)
        return ProbabilityHistogram(changed, unchanged)

    def as_json(self) -> dict[str, list[int]]:
        """Return both histograms as lists."""
        return {"changed": self.changed.tolist(), "unchanged": self.unchanged.tolist()}

    @classmethod
    def from_json(cls, record: dict[str, list[int]]) -> ProbabilityHistogram:
        """Return what `as_json` wrote."""
        return cls(np.array(record["changed"], np.int64), np.array(record["unchanged"], np.int64))
