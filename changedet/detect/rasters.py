"""The rasters a detection leaves, of a whole pair or of one tile of a batch: opened, masked, copied to COGs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox

from changedet.detect.detector import ChangeDetector
from changedet.detect.ensemble import EnsembleDetector
from changedet.detect.fused import network_of
from changedet.detect.label_free import StatisticDetector
from changedet.detect.pipe import Halves, WindowSink
from changedet.detect.threshold import Threshold
from changedet.write.raster import (
    RasterSink,
    probability_layout,
    statistic_layout,
    to_cog,
    uncertainty_layout,
    write_mask,
    write_mask_of_statistic,
)

PROBABILITY, MASK, STATISTIC, UNCERTAINTY = "probability.tif", "mask.tif", "statistic.tif", "uncertainty.tif"
# As they are written, window by window, before they become the COGs above.
STORED, CHANGED, _VALUES, _SPREAD = "stored.tif", "changed.tif", "values.tif", "spread.tif"
# Plain file → COG, and how its overviews are made.
_COGS = {
    STORED: (PROBABILITY, "average"),
    CHANGED: (MASK, "nearest"),
    _VALUES: (STATISTIC, "average"),
    _SPREAD: (UNCERTAINTY, "average"),
}


@contextmanager
def open_sinks(
    folder: Path,
    geobox: GeoBox,
    detector: ChangeDetector,
    classes: tuple[str, ...],
    tags: Mapping[str, str],
    *,
    dtype: str,
) -> Iterator[tuple[WindowSink, RasterSink | None]]:
    """Open what takes the probabilities, of an ensemble also how far they differ, and the statistic.

    Args:
        folder: for the plain files.
        geobox: of what is written.
        detector: whose answers they are.
        classes: names of its kinds of change.
        tags: of each file.
        dtype: of the probabilities, as `stitch` stores them.
    """
    with ExitStack() as stack:
        stored = RasterSink(folder / STORED, probability_layout(geobox, classes=classes, tags=tags, dtype=dtype))
        statistic = None
        if isinstance(network_of(detector), EnsembleDetector):
            spread = RasterSink(folder / _SPREAD, uncertainty_layout(geobox, classes=classes, tags=tags))
            yield Halves(stack.enter_context(stored), stack.enter_context(spread)), None
            return
        if isinstance(detector, StatisticDetector):
            layout = statistic_layout(geobox, detector.fitted.statistic.names, tags=tags)
            statistic = stack.enter_context(RasterSink(folder / _VALUES, layout))
        yield stack.enter_context(stored), statistic


def write_plain_mask(folder: Path, threshold: Threshold, tags: Mapping[str, str]) -> None:
    """Write the mask that follows from what was stored in `folder`, the probability or the statistic."""
    if threshold.statistic is None:
        write_mask(folder / STORED, folder / CHANGED, threshold.probability, tags=tags)
    else:
        write_mask_of_statistic(folder / _VALUES, folder / CHANGED, threshold.statistic, tags=tags)


def write_cogs(folder: Path, co: Mapping[str, str], threads: int | None = None) -> tuple[str, ...]:
    """Copy the plain files in `folder` to COGs, and return the names of these.

    Args:
        folder: with the plain files.
        co: creation options.
        threads: that compress; all cores when None.
    """
    made = {plain: cog for plain, cog in _COGS.items() if (folder / plain).exists()}
    for plain, (cog, overviews) in made.items():
        to_cog(folder / plain, folder / cog, overview_resampling=overviews, creation_options=co, threads=threads)
    return tuple(cog for cog, _ in made.values())


def tags_of(model: Mapping[str, Any], dates: Mapping[str, str | None], threshold: Threshold) -> dict[str, str]:
    """Return what all rasters say of themselves.

    Args:
        model: as run.json has it.
        dates: ISO, of `before` and `after`, None where not known.
        threshold: from where a pixel is changed.
    """
    statistic = threshold.statistic
    known = {
        "MODEL_SHA256": model["sha256"],
        "DATE_BEFORE": dates["before"],
        "DATE_AFTER": dates["after"],
        "STATISTIC_THRESHOLD": None if statistic is None else f"{statistic:.6g}",
    }
    if len(model["classes"]) > 1:
        known |= {f"CLASS_{index}": name for index, name in enumerate(model["classes"], start=1)}
    told = {name: value for name, value in known.items() if value}
    return {"MODEL": model["name"], "THRESHOLD": f"{threshold.probability:.6g}", **told}
