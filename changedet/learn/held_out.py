"""What the held-out scenes of a cross-validation say of a model: its calibration, its threshold and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from changedet.config import HeldOutCalibration
from changedet.learn.calibrate import fit, recalibrated
from changedet.learn.counts import ChangeCounts, ProbabilityHistogram
from changedet.learn.curves import Reliability
from changedet.network.card import Calibration

Fold: TypeAlias = dict[str, ProbabilityHistogram]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Histograms of held-out scenes, each by the network of the fold that did not learn from it.

    Attributes:
        folds: name of each scene → its pixels.
        calibration: what the pixels have been through; None for the networks' own probabilities.
    """

    folds: tuple[Fold, ...]
    calibration: Calibration | None = None

    @property
    def pooled(self) -> ProbabilityHistogram:
        """The pixels of all scenes."""
        return _pool(self.folds)

    def calibrated(self, method: HeldOutCalibration) -> HeldOut:
        """Return it as the calibration fitted to all its pixels makes it; itself for `none`, or without change."""
        if method == "none" or not _is_mixed(self.pooled):
            return self
        calibration = fit(self.pooled, method, data=f"held-out scenes of {len(self.folds)} folds")
        folds = tuple({name: h.moved(recalibrated(calibration)) for name, h in fold.items()} for fold in self.folds)
        return replace(self, folds=folds, calibration=calibration)

    def figures(self) -> dict[str, Any]:
        """Return the figures at the threshold of highest pooled F1: pooled, by fold and by scene."""
        pooled, threshold = self.pooled, self.pooled.best_threshold()
        return {
            "threshold": round(threshold, 4),
            "pooled": pooled.counts(threshold).figures(),
            "folds": [{"cities": list(fold), **_pool([fold]).counts(threshold).figures()} for fold in self.folds],
            "cities": {name: h.counts(threshold).figures() for fold in self.folds for name, h in fold.items()},
        }

    def fit_apart(self, method: HeldOutCalibration) -> dict[str, Any]:
        """Return what calibration and threshold do where each fold has those that the other folds give.

        So no scene takes part in what it is scored with: the expected calibration error before and after, and the
        pooled figures. Nothing where a fold's others have no change, or nothing else.
        """
        others = [HeldOut((*self.folds[:at], *self.folds[at + 1 :])) for at in range(len(self.folds))]
        if not all(_is_mixed(rest.pooled) for rest in others):
            return {}
        after, counts = ProbabilityHistogram.empty(), ChangeCounts()
        for fold, rest in zip(self.folds, others, strict=True):
            fitted = rest.calibrated(method)
            own = _pool([fold])
            own = own if fitted.calibration is None else own.moved(recalibrated(fitted.calibration))
            after, counts = after + own, counts + own.counts(fitted.pooled.best_threshold())
        errors = [round(Reliability.of(histogram).expected_error, 4) for histogram in (self.pooled, after)]
        return {
            "expected_calibration_error": {"before": errors[0], "after": errors[1]},
            "at_threshold_of_other_folds": counts.figures(),
        }


def _pool(folds: Sequence[Fold]) -> ProbabilityHistogram:
    every = (histogram for fold in folds for histogram in fold.values())
    return sum(every, start=ProbabilityHistogram.empty())


def _is_mixed(histogram: ProbabilityHistogram) -> bool:
    return bool(histogram.changed.any() and histogram.unchanged.any())
