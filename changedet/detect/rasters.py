"""The rasters a detection leaves, of a whole pair or of one tile of a batch: opened, masked, copied to COGs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
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


def take_over(rasters: Iterable[Path], folder: Path, *, as_they_are: bool) -> None:
    """Copy COGs of an earlier run into a folder: what was stored.

    Args:
        rasters: all of them but the mask.
        folder: for the copies.
        as_they_are: they are results as they are; else they stand for the plain files, and become COGs again.
    """
    plain_of = {cog: plain for plain, (cog, _) in _COGS.items()}
    for raster in rasters:
        shutil.copyfile(raster, folder / (raster.name if as_they_are else plain_of[raster.name]))


def stored_file(folder: Path, plain: str = STORED) -> Path:
    """Return where in a folder stored values lie: in a plain file, or in a COG that was taken over as it is."""
    return folder / plain if (folder / plain).exists() else folder / _COGS[plain][0]


def write_plain_mask(folder: Path, threshold: Threshold, tags: Mapping[str, str]) -> None:
    """Write the mask that follows from what was stored in `folder`, the probability or the statistic.

    Args:
        folder: with the stored values.
        threshold: from where a pixel is changed.
        tags: of all rasters; those of the threshold are added.
    """
    told = {**tags, **tags_of_threshold(threshold)}
    if threshold.statistic is None:
        write_mask(stored_file(folder), folder / CHANGED, threshold.probability, tags=told)
    else:
        write_mask_of_statistic(stored_file(folder, _VALUES), folder / CHANGED, threshold.statistic, tags=told)


def write_cogs(folder: Path, co: Mapping[str, str], threads: int | None = None) -> tuple[str, ...]:
    """Copy the plain files in `folder` to COGs, and return the names of all that are there then.

    Args:
        folder: with the plain files.
        co: creation options.
        threads: that compress; all cores when None.
    """
    made = {plain: cog for plain, cog in _COGS.items() if stored_file(folder, plain).exists()}
    for plain, (cog, overviews) in made.items():
        if not (folder / cog).exists():
            to_cog(folder / plain, folder / cog, overview_resampling=overviews, creation_options=co, threads=threads)
    return tuple(cog for cog, _ in made.values())


def tags_of(model: Mapping[str, Any], dates: Mapping[str, str | None]) -> dict[str, str]:
    """Return what all rasters say of themselves. No threshold: a probability is the same whatever the threshold.

    Args:
        model: as run.json has it.
        dates: ISO, of `before` and `after`, None where not known.
    """
    known = {"MODEL_SHA256": model["sha256"], "DATE_BEFORE": dates["before"], "DATE_AFTER": dates["after"]}
    if len(model["classes"]) > 1:
        known |= {f"CLASS_{index}": name for index, name in enumerate(model["classes"], start=1)}
    return {"MODEL": model["name"], **{name: value for name, value in known.items() if value}}


def tags_of_threshold(threshold: Threshold) -> dict[str, str]:
    """Return what a mask says of the threshold that it follows from."""
    told = {"THRESHOLD": f"{threshold.probability:.6g}"}
    return told if threshold.statistic is None else {**told, "STATISTIC_THRESHOLD": f"{threshold.statistic:.6g}"}
