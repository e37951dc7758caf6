"""The main job: two scenes in, a change raster and change polygons out.

`run` is the way of the data, one line a step; what lies below it are the steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rasterio

from changedet.config import RunConfig, check_options
from changedet.detect.budget import CACHE_BYTES, cache_bytes, cache_bytes_of_polygons, plan_within
from changedet.detect.detector import ChangeDetector
from changedet.detect.ensemble import EnsembleDetector
from changedet.detect.imagery import imagery_of
from changedet.detect.label_free import StatisticDetector
from changedet.detect.method import choose_method
from changedet.detect.pipe import Halves, WindowSink
from changedet.detect.prepare import Preparation, prepare
from changedet.detect.record import begin_record, make_record
from changedet.detect.reuse import UNCERTAINTY, causes_of, earlier_run, restore
from changedet.detect.scenes import open_scenes, reading_options
from changedet.detect.stitch import Progress, silent, stitch
from changedet.detect.threshold import Threshold
from changedet.errors import ConfigError
from changedet.grid import ChipPlan
from changedet.read.pair import PairOptions, RasterPair
from changedet.read.scene import Scene
from changedet.report import Inputs, write_report
from changedet.vectorize import vectorize
from changedet.write.layers import Layer, Spool, stored_layers
from changedet.write.provenance import write_run_json
from changedet.write.raster import (
    RasterSink,
    probability_layout,
    statistic_layout,
    to_cog,
    uncertainty_layout,
    write_mask,
    write_mask_of_statistic,
)
from changedet.write.staging import Staging
from changedet.write.targets import FORMATS, Target, check_target, file_name, target_of, write_file, write_target

if TYPE_CHECKING:
    import geopandas as gpd

_RESULTS = ("probability.tif", "mask.tif", "statistic.tif", UNCERTAINTY, "changes.gpkg", "report.html", "run.json")
STAC = "stac.json"


@dataclass(frozen=True)
class RunResult:
    """What a run found and where it lies.

    Attributes:
        out: the output folder, with probability.tif, mask.tif, changes.gpkg, report.html and run.json; of a label-free
            detector also statistic.tif, of an ensemble uncertainty.tif.
        record: run.json, as it was written.
        results: names of the files in `out`.
    """

    out: Path
    record: dict[str, Any]
    results: tuple[str, ...]

    @cached_property
    def changes(self) -> gpd.GeoDataFrame:
        """The layer `changes`, read when it is first asked for."""
        import geopandas as gpd

        return gpd.read_file(self.path("changes.gpkg"), layer="changes")

    def path(self, name: str) -> Path:
        """Return the path of one of the results, e.g. `mask.tif`."""
        return self.out / name


def run(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    progress: Progress = silent,
    **options: Any,
) -> RunResult:
    """Map what changed between two scenes.

    Args:
        before: file, folder of single-band files, URL or GDAL path of the earlier date.
        after: likewise, the later date.
        out: folder for the results.
        progress: hears how far each stage has come.
        **options: see `changedet.config.RunConfig`.

    Raises:
        ChangeDetError: one of its children, see `changedet.errors`; nothing is left in `out` then, unless all that
            failed was to write the polygons elsewhere too.

    Example:
        >>> result = run("sample_data/before.tif", "sample_data/after.tif", "out")  # doctest: +SKIP
        >>> result.changes.area_m2.sum()  # doctest: +SKIP
    """
    config = check_options(options)
    targets = _targets(config)
    started = datetime.now(UTC)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), Staging(out, config.overwrite or config.reuse) as staging:
        scenes = open_scenes(before, after, config)
        method = choose_method(scenes, config, os.fspath(out))
        selected = [scene.select(method.bands) for scene in scenes]
        with RasterPair(selected[0], selected[1], reading_options(config)) as raw:
            notes = method.notes(raw, config)
            preparation = prepare(raw, coregister=config.coregister, normalize=config.normalize)
            with _corrected(raw, preparation, config.readers) as (pair, *more):
                detector, preparation = method.fit(pair, preparation, progress)
                threshold = method.threshold(config.threshold, preparation)
                plan = plan_chips_of(pair, detector, method.name, config)
                begun = begin_record(scenes, config, preparation, plan, method)
                detection = Detection(started, scenes, raw.options, config, threshold, begun, preparation, notes)
                earlier = earlier_run(out, config, causes_of(begun))
                with (
                    _sinks(staging, pair, detector, method.classes, detection.tags) as (sink, statistic),
                    rasterio.Env(GDAL_CACHEMAX=cache_bytes(plan, len(method.bands))),
                ):
                    if earlier is not None:
                        restore(earlier, sink, statistic)
                    else:
                        stitch(pair, detector, plan, sink, progress, more=more, statistic=statistic)
        method.release()
        record, results = finish(staging, detection, progress, reused=earlier)
    result = RunResult(Path(out), record, results)
    _deliver(result, targets, config)
    return result


def _targets(config: RunConfig) -> list[Target]:
    """Return where else the polygons go, checked before the work."""
    targets = [target_of(text) for text in config.vector if text not in FORMATS]
    for target in targets:
        check_target(target, append=config.append, overwrite=config.overwrite)
    return targets


def _extra_files(config: RunConfig) -> dict[str, str]:
    """Return name → format of the files of polygons that lie beside changes.gpkg."""
    return {file_name(kind): kind for kind in config.vector if kind in FORMATS and kind != "geopackage"}


def _deliver(result: RunResult, targets: list[Target], config: RunConfig) -> None:
    """Write the polygons elsewhere, from the results that are safe by now, whatever becomes of a database."""
    for target in targets:
        write_target(
            target,
            stored_layers(result.path("changes.gpkg")),
            append=config.append,
            overwrite=config.overwrite and not config.append,
        )


@contextmanager
def _sinks(
    staging: Staging, pair: RasterPair, detector: ChangeDetector, classes: tuple[str, ...], tags: dict[str, str]
) -> Iterator[tuple[WindowSink, RasterSink | None]]:
    """Open what takes the probabilities, of an ensemble also how far they differ, and the statistic."""
    with ExitStack() as stack:
        stored = RasterSink(staging.path("stored.tif"), probability_layout(pair.geobox, classes=classes, tags=tags))
        statistic = None
        if isinstance(detector, EnsembleDetector):
            spread = RasterSink(staging.path("spread.tif"), uncertainty_layout(pair.geobox, classes=classes, tags=tags))
            yield Halves(stack.enter_context(stored), stack.enter_context(spread)), None
            return
        if isinstance(detector, StatisticDetector):
            layout = statistic_layout(pair.geobox, detector.fitted.statistic.names, tags=tags)
            statistic = stack.enter_context(RasterSink(staging.path("values.tif"), layout))
        yield stack.enter_context(stored), statistic


def _write_mask(staging: Staging, threshold: Threshold, tags: dict[str, str]) -> None:
    """Write the mask that follows from what was stored, the probability or the statistic."""
    path = staging.path("changed.tif")
    if threshold.statistic is None:
        write_mask(staging.path("stored.tif"), path, threshold.probability, tags=tags)
    else:
        write_mask_of_statistic(staging.path("values.tif"), path, threshold.statistic, tags=tags)


def plan_chips_of(pair: RasterPair, detector: ChangeDetector, name: str, config: RunConfig) -> ChipPlan:
    """Return the chips of a pair, by the halo of the detector called `name` and the memory it may take.

    Raises:
        ConfigError: an exact halo of a model that has none, or too little memory.
    """
    height, width = pair.geobox.shape
    if config.halo == "exact" and detector.tiling != "exact":
        raise ConfigError(
            f"--halo exact with {name}, whose answer depends on the whole chip",
            expected="a model whose card says tiling: exact",
        )
    halo = {"default": detector.halo, "exact": detector.field}.get(config.halo, config.halo)  # type: ignore[arg-type]  # an int is no key, and so itself
    return plan_within(height, width, detector, halo=int(halo), max_memory=config.max_memory, readers=config.readers)


@contextmanager
def _corrected(raw: RasterPair, preparation: Preparation, count: int) -> Iterator[list[RasterPair]]:
    """Open the pair `count` times, with what was found to be wrong put right while it is read."""
    with ExitStack() as stack:
        yield [stack.enter_context(raw.corrected(preparation.correction)) for _ in range(count)]


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """What was decided before the first chip, and is told of with the results.

    Attributes:
        started: when the run did.
        scenes: before and after.
        reading: how they are read.
        config: the options.
        threshold: from where a pixel is changed.
        begun: what the record holds so far, see `begin_record`.
        preparation: what was learned of the pair.
        notes: what a user should know of the method.
    """

    started: datetime
    scenes: tuple[Scene, Scene]
    reading: PairOptions
    config: RunConfig
    threshold: Threshold
    begun: dict[str, Any]
    preparation: Preparation
    notes: list[str]

    @property
    def tags(self) -> dict[str, str]:
        """What all rasters say of themselves."""
        model, statistic = self.begun["model"], self.threshold.statistic
        known = {
            "MODEL_SHA256": model["sha256"],
            "DATE_BEFORE": self.scenes[0].date,
            "DATE_AFTER": self.scenes[1].date,
            "STATISTIC_THRESHOLD": None if statistic is None else f"{statistic:.6g}",
        }
        if len(model["classes"]) > 1:
            known |= {f"CLASS_{index}": name for index, name in enumerate(model["classes"], start=1)}
        told = {name: value for name, value in known.items() if value}
        return {"MODEL": model["name"], "THRESHOLD": f"{self.threshold.probability:.6g}", **told}


def finish(
    staging: Staging, detection: Detection, progress: Progress, *, reused: Path | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Turn what was stored in `staging` into all results, publish them, and return run.json and their names."""
    config = detection.config
    _write_mask(staging, detection.threshold, detection.tags)
    imagery = imagery_of(detection.scenes, detection.reading, detection.preparation.correction.displacement)
    with rasterio.Env(GDAL_CACHEMAX=cache_bytes_of_polygons(config.max_memory)), Spool(staging.path("layers")) as spool:
        findings = vectorize(
            staging.path("changed.tif"), staging.path("stored.tif"), sink=spool, config=config, imagery=imagery
        )
    _write(staging, spool.layers(), config, progress)
    record = make_record(
        detection.begun,
        started=detection.started,
        findings=findings,
        threshold=detection.threshold,
        warnings=_warnings(detection.notes, detection.preparation, config),
        reused=reused,
    )
    write_run_json(staging.path("run.json"), record)
    _report(staging, detection, progress)
    results = tuple(name for name in (*_RESULTS, *_extra_files(config)) if staging.path(name).exists())
    if config.stac:
        # Imported here, as pystac is not wanted by most runs and takes its time.
        from changedet.write.stac import write_item

        write_item(staging.path(STAC), record, results)
        results = (*results, STAC)
    for name in results:
        staging.publish(name)
    return record, results


def _write(staging: Staging, layers: dict[str, Layer], config: RunConfig, progress: Progress) -> None:
    progress("write", 0, 3)
    to_cog(
        staging.path("stored.tif"),
        staging.path("probability.tif"),
        overview_resampling="average",
        creation_options=config.co,
    )
    progress("write", 1, 3)
    to_cog(
        staging.path("changed.tif"), staging.path("mask.tif"), overview_resampling="nearest", creation_options=config.co
    )
    for name, cog in (("values.tif", "statistic.tif"), ("spread.tif", UNCERTAINTY)):
        if staging.path(name).exists():
            to_cog(staging.path(name), staging.path(cog), overview_resampling="average", creation_options=config.co)
    progress("write", 2, 3)
    for name, kind in {"changes.gpkg": "geopackage", **_extra_files(config)}.items():
        write_file(kind, staging.path(name), layers)
    progress("write", 3, 3)


def _report(staging: Staging, detection: Detection, progress: Progress) -> None:
    if not detection.config.report:
        return
    progress("report", 0, 1)
    path = staging.path("report.html")
    write_report(path, path.parent, Inputs(*detection.scenes, detection.reading))
    progress("report", 1, 1)


def _warnings(first: list[str], preparation: Preparation, config: RunConfig) -> list[str]:
    """Return what the user should know before trusting the map."""
    notes = [note.removeprefix("WARNING: ") for note in preparation.report.notes if note.startswith("WARNING: ")]
    if config.coregister:
        notes = [note for note in notes if "--coregister" not in note]
        if preparation.correction.displacement.is_none:
            notes.append("the residual shift could not be estimated, so none was removed")
    return [*first, *notes]
