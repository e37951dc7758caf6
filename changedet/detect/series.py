"""Three dates or more: every two that follow each other are compared, and where change showed first is mapped."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.config import RunConfig, check_options
from changedet.detect.budget import CACHE_BYTES, cache_bytes, plan_chips_of
from changedet.detect.detector import ChangeDetector
from changedet.detect.encode import Encoder, KeepsFeatures
from changedet.detect.finish import finish
from changedet.detect.fused import FusedDetector, around_core, network_of
from changedet.detect.method import Method, choose_method
from changedet.detect.pipe import WindowSink
from changedet.detect.prepare import SeriesPreparation, prepare_series
from changedet.detect.rasters import CHANGED, open_sinks
from changedet.detect.record import begin_record, identify
from changedet.detect.reuse import Earlier, causes_of, earlier_run
from changedet.detect.run import Detection, RunResult, deliver, targets_of
from changedet.detect.scenes import open_series, reading_options
from changedet.detect.stitch import Progress, silent, stitch
from changedet.errors import ConfigError
from changedet.grid import ChipPlan
from changedet.grid.quantise import NODATA, stored_as
from changedet.grid.window import blocks
from changedet.read.file import rasterio_window
from changedet.read.opening import Source
from changedet.read.pair import RasterPair
from changedet.read.scene import Scene
from changedet.read.series import Interval, RasterSeries
from changedet.read.target import series_grid
from changedet.write.layers import one_after_another, stored_layers
from changedet.write.provenance import FORM, redact, write_run_json
from changedet.write.raster import RasterLayout, RasterSink, to_cog
from changedet.write.staging import RUN_JSON, Staging
from changedet.write.style import first_change_style
from changedet.write.targets import Target

FIRST_CHANGE = "first_change.tif"
# Named as QGIS looks for the style of a raster.
FIRST_STYLE = "first_change.qml"
_NEVER, _UNKNOWN = 0, 65_535
_FOLDER = re.compile(r"interval_\d{2,}")
_BLOCK_PX = 2048


@dataclass(frozen=True)
class SeriesResult:
    """What a series found and where it lies.

    Attributes:
        out: the output folder, with first_change.tif and its style, run.json and a folder for each interval.
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
    backend is asked for. A detector without labels is fitted to each interval.

    Args:
        sources: the scenes, in the order of their dates.
        out: folder for first_change.tif, run.json, and `interval_01` and so on, each with the results of a run.
        progress: hears how far each stage has come.
        **options: see `changedet.config.RunConfig`. Reuse is decided for each interval; polygons go elsewhere together.

    Raises:
        ChangeDetError: one of its children, see `changedet.errors`; nothing is left in `out` then, unless all that
            failed was to write the polygons elsewhere too.
    """
    config = check_options(options)
    targets = targets_of(config)
    if len(sources) < 2:
        raise ConfigError(f"{len(sources)} scenes", expected="two or more, in the order of their dates")
    started = datetime.now(UTC)
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES),
        Staging(out, config.overwrite or config.reuse) as staging,
        _folders(Path(out), len(sources) - 1, config) as folders,
    ):
        scenes = open_series(sources, config)
        _refuse_equal_ids(scenes, targets)
        method = choose_method(scenes, _on_torch(config), os.fspath(out))
        with ExitStack() as stack:
            raw = [stack.enter_context(pair) for pair in _with_first(scenes, method.bands, config)]
            notes = method.notes(raw[0], config)
            preparations = prepare_series(raw, coregister=config.coregister, normalize=config.normalize)
            opened = [stack.enter_context(RasterSeries(preparations.corrected(raw))) for _ in range(config.readers)]
            decide = _Decide(started, scenes, config, method, notes, preparations)
            intervals = [
                decide.interval(number, opened[0].interval(number), folder, progress)
                for number, folder in enumerate(folders)
            ]
            _detect(opened, intervals, method.classes, progress)
        method.release()
        finished = [finish(each.folder, each.detection, progress, reused=each.earlier) for each in intervals]
        records = [record for record, _ in finished]
        _write_first_change([folder.path(CHANGED) for folder in folders], staging, scenes)
        record = _record(scenes, records, started)
        write_run_json(staging.path(RUN_JSON), record)
        for name in (FIRST_CHANGE, FIRST_STYLE, RUN_JSON):
            staging.publish(name)
    results = tuple(RunResult(folder.out_dir, *found) for folder, found in zip(folders, finished, strict=True))
    if targets:
        found = [stored_layers(result.path("changes.gpkg")) for result in results]
        deliver({name: one_after_another([each[name] for each in found]) for name in found[0]}, targets, config)
    return SeriesResult(Path(out), record, results)


def _refuse_equal_ids(scenes: Sequence[Scene], targets: Sequence[Target]) -> None:
    """Refuse to put polygons of all intervals in one table where their ids, hashes of their dates too, may be equal."""
    undated = [scene.path for scene in scenes if scene.date is None]
    if targets and undated and len(scenes) > 2:
        raise ConfigError(
            f"--vector {targets[0]} of a series, but the date of {redact(undated[0])} is not known",
            expected="dates, as polygons of two intervals could not be told apart",
            remedy="--dates with one for each scene",
        )
    intervals = list(pairwise(scene.date for scene in scenes))
    repeated = next((dates for number, dates in enumerate(intervals) if dates in intervals[:number]), None)
    if targets and repeated:
        raise ConfigError(
            f"--vector {targets[0]} of a series in which two intervals are from {repeated[0]} to {repeated[1]}",
            expected="intervals of different dates, as polygons of these could not be told apart",
            remedy="--dates with times too, such as 2018-03-28T10:05",
        )


def _on_torch(config: RunConfig) -> RunConfig:
    """Return the options with the backend that keeps a date's features, where no other was asked for."""
    is_plain = config.backend == "auto" and config.detector is None and not (config.ensemble or config.tta)
    return config.model_copy(update={"backend": "torch"}) if is_plain else config


def _reusing(config: RunConfig, number: int) -> RunConfig:
    """Return the options with the folder of the interval in the one of a series that is to be reused."""
    if config.reuse_from is None:
        return config
    return config.model_copy(update={"reuse_from": os.fspath(Path(config.reuse_from) / _name(number))})


@dataclass(frozen=True, slots=True, eq=False)
class _Interval:
    """Two dates that follow each other, and what was decided of them before the first chip.

    Attributes:
        number: 0 for the first two.
        folder: for its results.
        detector: what maps it.
        plan: its chips.
        detection: what is told of it.
        earlier: the run whose probabilities it takes over; None where they are computed.
    """

    number: int
    folder: Staging
    detector: ChangeDetector
    plan: ChipPlan
    detection: Detection
    earlier: Earlier | None


@dataclass(frozen=True, slots=True, eq=False)
class _Decide:
    """What is the same for all intervals of a series, see `Detection`."""

    started: datetime
    scenes: Sequence[Scene]
    config: RunConfig
    method: Method
    notes: list[str]
    preparations: SeriesPreparation

    def interval(self, number: int, pair: Interval, folder: Staging, progress: Progress) -> _Interval:
        """Decide what has to be before the first chip of an interval."""
        config, dates = self.config, (self.scenes[number], self.scenes[number + 1])
        detector, preparation = self.method.fit(pair, self.preparations.intervals[number], progress)
        threshold = self.method.threshold(config.threshold, preparation)
        plan = plan_chips_of(pair.geobox, detector, self.method.name, config)
        identity = identify(dates, config, self.method)
        begun = begin_record(identity, preparation, plan)
        # All dates decide on it, so it does not follow from the two of this interval.
        begun["preparation"] |= {"grid": _as_json(pair.geobox)}
        earlier = earlier_run(folder.out_dir, _reusing(config, number), causes_of(begun))
        if earlier is not None:
            begun = earlier.begun(identity)
        reading = reading_options(config, which=(number, number + 1), count=len(self.scenes))
        detection = Detection(self.started, dates, reading, config, threshold, begun, preparation, self.notes)
        return _Interval(number, folder, detector, plan, detection, earlier)


def _as_json(geobox: GeoBox) -> dict[str, Any]:
    return {"crs": str(geobox.crs), "transform": list(geobox.affine)[:6], "shape": list(geobox.shape)}


def _name(number: int) -> str:
    return f"interval_{number + 1:02d}"


@contextmanager
def _folders(out: Path, count: int, config: RunConfig) -> Iterator[list[Staging]]:
    """Open a folder for each interval; those of an earlier and longer series that is replaced go in the end."""
    names = [_name(number) for number in range(count)]
    replaces = config.overwrite or config.reuse
    with ExitStack() as stack:
        yield [stack.enter_context(Staging(out / name, replaces)) for name in names]
    for folder in out.iterdir():
        if replaces and _FOLDER.fullmatch(folder.name) and folder.name not in names:
            shutil.rmtree(folder)


def _with_first(scenes: Sequence[Scene], bands: tuple[str, ...], config: RunConfig) -> list[RasterPair]:
    """Return the first date with each of the others, on one grid."""
    first, *others = (scene.select(bands) for scene in scenes)
    count = len(scenes)
    options = [reading_options(config, which=(0, number), count=count) for number in range(1, count)]
    grid = series_grid([first.geobox, *(other.geobox for other in others)], options[0].grid)
    return [RasterPair(first, other, option, geobox=grid) for other, option in zip(others, options, strict=True)]


def _detect(
    opened: Sequence[RasterSeries], intervals: Sequence[_Interval], classes: tuple[str, ...], progress: Progress
) -> None:
    """Store the probabilities of all intervals, date by date where the detector keeps features of a date."""
    new = [each for each in intervals if each.earlier is None]
    for each in intervals:
        if each.earlier is not None:
            each.earlier.restore(each.folder.work, each.detection.config)
    with ExitStack() as stack:
        sinks = {each.number: stack.enter_context(_sinks(each, opened[0].geobox, classes)) for each in new}
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache_bytes(intervals[0].plan, len(opened[0].bands))))
        network = network_of(new[0].detector) if new else None
        if isinstance(network, KeepsFeatures) and network.keeps_features:
            _detect_by_date(opened[0], new, {number: sink for number, (sink, _) in sinks.items()}, progress)
            return
        for each in new:
            pair, *more = (series.interval(each.number) for series in opened)
            sink, statistic = sinks[each.number]
            dtype = each.detection.config.probability_dtype
            stitch(pair, each.detector, each.plan, sink, progress, more=more, statistic=statistic, dtype=dtype)


def _sinks(
    interval: _Interval, geobox: GeoBox, classes: tuple[str, ...]
) -> AbstractContextManager[tuple[WindowSink, RasterSink | None]]:
    dtype = interval.detection.config.probability_dtype
    return open_sinks(interval.folder.work, geobox, interval.detector, classes, interval.detection.tags, dtype=dtype)


def _detect_by_date(
    series: RasterSeries, intervals: Sequence[_Interval], sinks: Mapping[int, WindowSink], progress: Progress
) -> None:
    encoder, plan = Encoder(network_of(intervals[0].detector)), intervals[0].plan
    dtype = intervals[0].detection.config.probability_dtype
    detectors = {each.number: each.detector for each in intervals}
    for done, planned in enumerate(plan.chips, start=1):
        core = planned.core.relative_to(planned.read)
        for number, chip in enumerate(series.read(planned.read)):
            if number in sinks:
                detector = detectors[number]
                asked = around_core(detector, core, chip)
                probability = encoder.probability(chip.before, chip.after)[:, *asked.slices]
                if isinstance(detector, FusedDetector):
                    probability = detector.join(probability, chip, core)
                sinks[number].write(planned.core, stored_as(dtype, probability, chip.valid[core.slices]))
        progress("detect", done, len(plan.chips))


def _write_first_change(masks: Sequence[Path], staging: Staging, scenes: Sequence[Scene]) -> None:
    """Write first_change.tif from the plain masks of all intervals, and the style that QGIS draws it with."""
    with ExitStack() as stack:
        opened = [stack.enter_context(rasterio.open(mask)) for mask in masks]
        layout = _first_layout(GeoBox.from_rio(opened[0]), scenes)
        with RasterSink(staging.path("first.tif"), layout) as sink:
            for window in blocks(opened[0].height, opened[0].width, _BLOCK_PX):
                part = rasterio_window(window)
                sink.write(window, first_change([mask.read(1, window=part) for mask in opened])[None])
    to_cog(staging.path("first.tif"), staging.path(FIRST_CHANGE), overview_resampling="nearest")
    labels = [scene.date or f"scene {number}" for number, scene in enumerate(scenes[1:], start=2)]
    staging.path(FIRST_STYLE).write_text(first_change_style(labels), encoding="utf-8")


def first_change(masks: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint16]:
    """Return at which date change showed first: 1 for the second date, 0 for never, 65535 where nothing was comparable.

    Args:
        masks: of each interval, uint8 (H, W).
    """
    known = np.stack([mask != NODATA for mask in masks])
    changed = np.stack([mask != 0 for mask in masks]) & known
    index = np.where(changed.any(axis=0), changed.argmax(axis=0) + 1, _NEVER)
    return np.where(known.any(axis=0), index, _UNKNOWN).astype(np.uint16)


def _first_layout(geobox: GeoBox, scenes: Sequence[Scene]) -> RasterLayout:
    dates = {f"DATE_{number}": scene.date for number, scene in enumerate(scenes) if scene.date}
    told = "index of the date that shows change first"
    meaning = f"Which date shows change first: 1 is DATE_1, the second, {_NEVER} is never. {_UNKNOWN}: not comparable"
    tags = {"TIFFTAG_IMAGEDESCRIPTION": meaning, **dates}
    return RasterLayout(geobox, dtype="uint16", nodata=_UNKNOWN, descriptions=(told,), tags=tags)


def _record(scenes: Sequence[Scene], records: Sequence[dict[str, Any]], started: datetime) -> dict[str, Any]:
    """Return the content of the series' own run.json; all else is in those of its intervals."""
    return {
        "form": FORM,
        "dates": [{"index": number, "date": scene.date, "path": scene.path} for number, scene in enumerate(scenes)],
        "first_change": {"never": _NEVER, "unknown": _UNKNOWN, "index": "of the date, from 1 on"},
        "intervals": [
            {
                "folder": _name(number),
                "dates": record["dates"],
                "areas": record["areas"],
                "threshold": record["threshold"],
            }
            for number, record in enumerate(records)
        ],
        "model": records[0]["model"],
        "parameters": records[0]["parameters"],
        "warnings": list(dict.fromkeys(warning for record in records for warning in record["warnings"])),
        "versions": records[0]["versions"],
        "times": {"started": started.isoformat(), "seconds": (datetime.now(UTC) - started).total_seconds()},
    }
