"""Three dates or more: every two that follow each other are compared, and where change showed first is mapped."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from changedet.config import RunConfig, check_options
from changedet.detect.backend import open_detector
from changedet.detect.budget import CACHE_BYTES, plan_chips_of
from changedet.detect.choose import bands_for, choose_model
from changedet.detect.detector import NetworkDetector
from changedet.detect.encode import Encoder
from changedet.detect.method import NetworkMethod
from changedet.detect.prepare import prepare_series
from changedet.detect.rasters import STORED
from changedet.detect.record import begin_record
from changedet.detect.run import Detection, RunResult, finish
from changedet.detect.scenes import open_series, reading_options
from changedet.detect.stitch import Progress, silent
from changedet.errors import ConfigError
from changedet.grid import ChipPlan
from changedet.grid.quantise import NODATA, quantise, stored_threshold
from changedet.network.shipped import read_card
from changedet.read.opening import Source
from changedet.read.pair import PairOptions, RasterPair
from changedet.read.scene import Scene
from changedet.read.series import RasterSeries
from changedet.read.target import series_grid
from changedet.write.provenance import write_run_json
from changedet.write.raster import RasterLayout, RasterSink, probability_layout, to_cog
from changedet.write.staging import RUN_JSON, Staging
from changedet.write.targets import FORMATS

FIRST_CHANGE = "first_change.tif"
_NEVER, _UNKNOWN = 0, 65_535
_FOLDER = re.compile(r"interval_\d{2,}")


@dataclass(frozen=True)
class SeriesResult:
    """What a series found and where it lies.

    Attributes:
        out: the output folder, with first_change.tif, run.json and a folder for each interval.
        record: run.json, as it was written.
        intervals: what was found between two dates each, in their order.
    """

    out: Path
    record: dict[str, Any]
    intervals: tuple[RunResult, ...]


def run_series(
    sources: Sequence[Source], out: str | os.PathLike[str], *, progress: Progress = silent, **options: Any
) -> SeriesResult:
    """Map what changed between every two dates that follow each other, and at which date change showed first.

    All dates are put on the grid of the first, over what they all cover, and corrected against it. Each date's features
    are computed once where the network keeps dates apart and torch computes it, which it does here unless another
    backend is asked for.

    Args:
        sources: the scenes, in the order of their dates.
        out: folder for first_change.tif, run.json, and `interval_01` and so on, each with the results of a run.
        progress: hears how far each stage has come.
        **options: see `changedet.config.RunConfig`.

    Raises:
        ChangeDetError: one of its children, see `changedet.errors`; nothing is left in `out` then.
    """
    config = check_options(options)
    _refuse_what_is_for_two_dates(sources, config)
    started = datetime.now(UTC)
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES),
        Staging(out, config.overwrite) as staging,
        _intervals(Path(out), len(sources) - 1, config) as folders,
    ):
        scenes = open_series(sources, config)
        name = choose_model(scenes, config, str(out))
        backend = config.model_copy(update={"backend": "torch"}) if config.backend == "auto" else config
        detector = open_detector(name, bands_for(read_card(name), scenes), backend)
        method = NetworkMethod(detector)
        with ExitStack() as stack:
            raw = [stack.enter_context(pair) for pair in _with_first(scenes, method.bands, config)]
            notes = method.notes(raw[0], config)
            preparations = prepare_series(raw, coregister=config.coregister, normalize=config.normalize)
            threshold = method.threshold(config.threshold, preparations.intervals[0])
            plan = plan_chips_of(raw[0].geobox, detector, method.name, config)
            begun = [
                begin_record(dates, config, preparation, plan, method)
                for dates, preparation in zip(pairwise(scenes), preparations.intervals, strict=True)
            ]
            detections = [
                Detection(started, dates, reading, config, threshold, record, preparation, notes)
                for dates, reading, record, preparation in zip(
                    pairwise(scenes), _readings(config, len(scenes)), begun, preparations.intervals, strict=True
                )
            ]
            series = stack.enter_context(RasterSeries(preparations.corrected(raw)))
            layouts = [
                probability_layout(series.geobox, classes=method.classes, tags=detection.tags)
                for detection in detections
            ]
            sinks = [
                stack.enter_context(RasterSink(folder.path(STORED), layout))
                for folder, layout in zip(folders, layouts, strict=True)
            ]
            first = stack.enter_context(RasterSink(staging.path("first.tif"), _first_layout(series, scenes)))
            _detect(series, detector, plan, sinks, first, stored_threshold(threshold.probability), progress)
        method.release()
        finished = [finish(f, detection, progress) for f, detection in zip(folders, detections, strict=True)]
        records = [record for record, _ in finished]
        to_cog(staging.path("first.tif"), staging.path(FIRST_CHANGE), overview_resampling="nearest")
        record = _record(scenes, records, started)
        write_run_json(staging.path(RUN_JSON), record)
        for name in (FIRST_CHANGE, RUN_JSON):
            staging.publish(name)
    results = tuple(RunResult(folder.out_dir, *found) for folder, found in zip(folders, finished, strict=True))
    return SeriesResult(Path(out), record, results)


def _refuse_what_is_for_two_dates(sources: Sequence[Source], config: RunConfig) -> None:
    if len(sources) < 2:
        raise ConfigError(f"{len(sources)} scenes", expected="two or more, in the order of their dates")
    if config.detector is not None:
        raise ConfigError(
            f"--detector {config.detector} for a series: it is fitted to two dates", expected="two scenes, or a model"
        )
    if config.ensemble or config.tta:
        raise ConfigError("several models or --tta for a series", expected="one model, or two scenes")
    if config.reuse or config.reuse_from or config.append or any(text not in FORMATS for text in config.vector):
        raise ConfigError(
            "reuse, append or a vector target elsewhere for a series",
            expected="runs of two dates for those",
            remedy="each folder of an interval holds its own changes.gpkg",
        )


@contextmanager
def _intervals(out: Path, count: int, config: RunConfig) -> Iterator[list[Staging]]:
    """Open a folder for each interval; with `overwrite`, those of an earlier and longer series go in the end."""
    names = [f"interval_{number:02d}" for number in range(1, count + 1)]
    with ExitStack() as stack:
        yield [stack.enter_context(Staging(out / name, config.overwrite)) for name in names]
    for folder in out.iterdir():
        if config.overwrite and _FOLDER.fullmatch(folder.name) and folder.name not in names:
            shutil.rmtree(folder)


def _with_first(scenes: Sequence[Scene], bands: tuple[str, ...], config: RunConfig) -> list[RasterPair]:
    """Return the first date with each of the others, on one grid."""
    first, *others = (scene.select(bands) for scene in scenes)
    count = len(scenes)
    options = [reading_options(config, which=(0, number), count=count) for number in range(1, count)]
    grid = series_grid([first.geobox, *(other.geobox for other in others)], options[0].grid)
    return [RasterPair(first, other, option, geobox=grid) for other, option in zip(others, options, strict=True)]


def _readings(config: RunConfig, count: int) -> list[PairOptions]:
    """Return how the two dates of each interval are read."""
    return [reading_options(config, which=(number, number + 1), count=count) for number in range(count - 1)]


def _detect(
    series: RasterSeries,
    detector: NetworkDetector,
    plan: ChipPlan,
    sinks: Sequence[RasterSink],
    first: RasterSink,
    lowest: int,
    progress: Progress,
) -> None:
    encoder = Encoder(detector)
    for done, planned in enumerate(plan.chips, start=1):
        rows, cols = planned.core.relative_to(planned.read).slices
        stored = []
        for chip in series.read(planned.read):
            probability = encoder.probability(chip.before, chip.after)
            stored.append(quantise(probability[:, rows, cols], chip.valid[rows, cols]))
        for sink, array in zip(sinks, stored, strict=True):
            sink.write(planned.core, array)
        first.write(planned.core, first_change(stored, lowest)[None])
        progress("detect", done, len(plan.chips))


def first_change(stored: Sequence[NDArray[np.uint8]], lowest: int) -> NDArray[np.uint16]:
    """Return at which date change showed first: 1 for the second date, 0 for never, 65535 where nothing was comparable.

    Args:
        stored: probabilities of each interval as they are stored, uint8 (K, H, W).
        lowest: stored value from which a pixel is changed.
    """
    known = np.stack([(interval != NODATA).all(axis=0) for interval in stored])
    changed = np.stack([interval.max(axis=0) >= lowest for interval in stored]) & known
    index = np.where(changed.any(axis=0), changed.argmax(axis=0) + 1, _NEVER)
    return np.where(known.any(axis=0), index, _UNKNOWN).astype(np.uint16)


def _first_layout(series: RasterSeries, scenes: Sequence[Scene]) -> RasterLayout:
    dates = {f"DATE_{number}": scene.date for number, scene in enumerate(scenes) if scene.date}
    told = ("index of the date that shows change first",)
    return RasterLayout(series.geobox, dtype="uint16", nodata=_UNKNOWN, descriptions=told, tags=dates)


def _record(scenes: Sequence[Scene], records: Sequence[dict[str, Any]], started: datetime) -> dict[str, Any]:
    """Return the content of the series' own run.json; all else is in those of its intervals."""
    return {
        "dates": [{"index": number, "date": scene.date, "path": scene.path} for number, scene in enumerate(scenes)],
        "first_change": {"never": _NEVER, "unknown": _UNKNOWN, "index": "of the date, from 1 on"},
        "intervals": [
            {"folder": f"interval_{number:02d}", "dates": record["dates"], "areas": record["areas"]}
            for number, record in enumerate(records, start=1)
        ],
        "model": records[0]["model"],
        "parameters": records[0]["parameters"],
        "warnings": list(dict.fromkeys(warning for record in records for warning in record["warnings"])),
        "versions": records[0]["versions"],
        "times": {"started": started.isoformat(), "seconds": (datetime.now(UTC) - started).total_seconds()},
    }
