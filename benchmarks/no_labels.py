"""Every detector that needs no labels, on the 14 training cities of OSCD: JSON, table and pictures.

python -m benchmarks.no_labels --data ../shared/data/oscd     compute, then write all three
python -m benchmarks.no_labels --only irmad sfa               compute these anew, the others stay as they are
python -m benchmarks.no_labels --tables                       write the table again from the JSON

Labels are used for scoring only. Dates are co-registered on reading, as `run --coregister` does. `deep` has random
weights here, as the shipped encoders were trained on these labels. The area under the precision-recall curve is that of
the statistic, not of the stored probability, whose 255 steps would round it.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.config import DatasetConfig, Detector
from changedet.detect.deep import FeatureDifference
from changedet.detect.label_free import Fitted, fit, fit_posterior
from changedet.detect.sample import sample_pair
from changedet.detect.stitch import silent
from changedet.detect.threshold import threshold_of_statistic
from changedet.grid import Window
from changedet.learn.counts import ChangeCounts
from changedet.learn.datasets.which import open_dataset
from changedet.read.pair import Chip

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "no_labels.json"
DOCUMENT = ROOT / "docs" / "no-labels.md"
PICTURE = ROOT / "docs" / "images" / "no-labels.png"
BANDS = ("B04", "B03", "B02", "B08")
DETECTORS: tuple[Detector, ...] = get_args(Detector)
# Beside each detector's default.
RULES = ("otsu", "chi2:0.9999")
_DEFAULT = "default"
CITY = "beirut"


@dataclass(frozen=True)
class Held:
    """A pair in memory, with its truth."""

    geobox: GeoBox
    bands: tuple[str, ...]
    chip: Chip
    changed: NDArray[np.bool_]

    def read(self, window: Window) -> Chip:
        """See `BiTemporalPair`; outside nothing is valid."""
        height, width = self.chip.valid.shape
        before, after = (np.full((len(self.bands), window.height, window.width), 0.1, np.float32) for _ in range(2))
        valid = np.zeros((window.height, window.width), np.bool_)
        inside = window.intersect(Window(0, 0, height, width))
        if inside is not None:
            here, there = inside.relative_to(window).slices, inside.slices
            before[:, *here], after[:, *here] = self.chip.before[:, *there], self.chip.after[:, *there]
            valid[here] = self.chip.valid[there]
        return Chip(before, after, valid, window)


def hold(scene: Any) -> Held:
    """Read a labelled scene whole."""
    with scene.open(BANDS) as opened:
        height, width = opened.pair.geobox.shape
        whole = Window(0, 0, height, width)
        truth, _ = opened.labels.read(whole)
        return Held(opened.pair.geobox, BANDS, opened.pair.read(whole), truth > 0)


def fitted_to(name: Detector, held: Held) -> Fitted:
    """Fit a detector to a pair."""
    sample = sample_pair(held, silent)
    if name == "deep":
        return fit_posterior(name, FeatureDifference.of_random_weights(len(BANDS)), sample)
    return fit(name, sample)


def masks_of(fitted: Fitted, statistic: NDArray[np.float32]) -> dict[str, NDArray[np.bool_]]:
    """Return the mask of each rule that goes with the statistic, of the same shape."""
    masks = {}
    for rule in (_DEFAULT, *RULES):
        if rule.startswith("chi2") and fitted.statistic.freedom is None:
            continue
        threshold = threshold_of_statistic(None if rule == _DEFAULT else rule, fitted)
        decides = fitted.probability(statistic) if threshold.statistic is None else statistic
        masks[rule] = decides >= (threshold.probability if threshold.statistic is None else threshold.statistic)
    return masks


def counts_of(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> ChangeCounts:
    """Count a mask against the truth."""
    tp, fp, fn = int((mask & truth).sum()), int((mask & ~truth).sum()), int((~mask & truth).sum())
    return ChangeCounts(tp, fp, fn, mask.size - tp - fp - fn)


def average_precision(statistic: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Return the sum of precision times gain in recall over all thresholds."""
    hits = truth[np.argsort(-statistic, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def measure(name: Detector, cities: dict[str, Held]) -> dict[str, Any]:
    """Return the figures of a detector."""
    started = time.perf_counter()
    totals: dict[str, ChangeCounts] = {}
    by_city: dict[str, Any] = {}
    values, truths = [], []
    for city, held in cities.items():
        valid = held.chip.valid
        fitted = fitted_to(name, held)
        statistic = fitted.statistic.image(held.chip.before, held.chip.after, valid)[0][valid]
        truth = held.changed[valid]
        values.append(statistic)
        truths.append(truth)
        counts = {rule: counts_of(mask, truth) for rule, mask in masks_of(fitted, statistic).items()}
        totals = {rule: totals.get(rule, ChangeCounts()) + found for rule, found in counts.items()}
        by_city[city] = {
            "average_precision": round(average_precision(statistic, truth), 4),
            "share_of_mixture": round(fitted.mixture.share, 4),
            **{rule: found.figures() for rule, found in counts.items()},
        }
    return {
        "average_precision_pooled": round(average_precision(np.concatenate(values), np.concatenate(truths)), 4),
        "average_precision_mean": round(statistics.mean(c["average_precision"] for c in by_city.values()), 4),
        "pooled": {rule: found.figures() for rule, found in totals.items()},
        "cities": by_city,
        "seconds": round(time.perf_counter() - started, 1),
    }


def draw(held: Held) -> None:
    """Draw one city by every detector: found (white), missed (blue), wrongly marked (red)."""
    figure = Figure(figsize=(12, 9.6), layout="constrained")
    axes = figure.subplots(3, 4).ravel()
    for axis, image, title in ((axes[0], held.chip.before, "before"), (axes[1], held.chip.after, "after")):
        axis.imshow(np.clip(np.moveaxis(image[:3], 0, -1) / 0.3, 0, 1))
        axis.set_title(title)
    axes[2].imshow(held.changed, cmap="gray")
    axes[2].set_title("labels")
    for axis, name in zip(axes[3:], DETECTORS, strict=False):
        fitted = fitted_to(name, held)
        statistic = fitted.statistic.image(held.chip.before, held.chip.after, held.chip.valid)[0]
        mask = masks_of(fitted, statistic)[_DEFAULT] & held.chip.valid
        picture = np.zeros((*mask.shape, 3))
        picture[mask & held.changed] = 1.0
        picture[mask & ~held.changed] = (0.85, 0.15, 0.1)
        picture[~mask & held.changed] = (0.2, 0.4, 1.0)
        axis.imshow(picture)
        axis.set_title(f"{name}: F1 {counts_of(mask[held.chip.valid], held.changed[held.chip.valid]).f1:.2f}")
    for axis in axes:
        axis.set_axis_off()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=70)


def keep(name: Detector, figures: dict[str, Any]) -> None:
    """Put the figures of a detector into the JSON, in the order of the table."""
    known = json.loads(RESULT.read_text(encoding="utf-8"))["detectors"] if RESULT.exists() else {}
    known[name] = figures
    ordered = {detector: known[detector] for detector in DETECTORS if detector in known}
    RESULT.write_text(json.dumps({"bands": BANDS, "detectors": ordered}, indent=1) + "\n", encoding="utf-8")
    print(name, figures["pooled"][_DEFAULT], flush=True)


def table(result: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    names = ("detector", "PR area, pooled", "PR area, mean of cities", "F1, default", "precision", "recall", "F1, Otsu")
    rows = [f"| {' | '.join((*names, 'F1, chi2:0.9999'))} |", "|---|---|---|---|---|---|---|---|"]
    for name, figures in result["detectors"].items():
        pooled = figures["pooled"]
        chosen = pooled[_DEFAULT]
        quantile = f"{pooled['chi2:0.9999']['f1']:.3f}" if "chi2:0.9999" in pooled else "–"
        cells = (
            f"`{name}`",
            f"{figures['average_precision_pooled']:.3f}",
            f"{figures['average_precision_mean']:.3f}",
            f"**{chosen['f1']:.3f}**",
            f"{chosen['precision']:.3f}",
            f"{chosen['recall']:.3f}",
            f"{pooled['otsu']['f1']:.3f}",
            quantile,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def write_table(result: dict[str, Any]) -> None:
    """Put the table between its marks in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    marks = r"(<!-- table: benchmarks/no_labels.py -->\n)(.*?)(\n<!-- end -->)"
    DOCUMENT.write_text(
        re.sub(marks, lambda found: found[1] + table(result) + found[3], text, flags=re.DOTALL), encoding="utf-8"
    )


def main() -> None:
    """Compute what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "oscd", help="folder of OSCD")
    parser.add_argument("--only", nargs="+", choices=DETECTORS, default=DETECTORS, help="detectors to compute")
    parser.add_argument("--tables", action="store_true", help="only write the table again")
    options = parser.parse_args()
    if not options.tables:
        dataset = open_dataset(DatasetConfig(kind="oscd", root=options.data, split="train"))
        cities = {scene.name: hold(scene) for scene in dataset.scenes}
        draw(cities[CITY])
        for name in options.only:
            keep(name, measure(name, cities))
    write_table(json.loads(RESULT.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
