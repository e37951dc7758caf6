"""The main job: two scenes in, a change raster and change polygons out.

`run` is the way of the data, one line a step; what lies below it are the steps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rasterio

from changedet.config import RunConfig, check_options
from changedet.detect.budget import CACHE_BYTES, cache_bytes, cache_bytes_of_polygons, plan_chips_of
from changedet.detect.imagery import imagery_of
from changedet.detect.method import choose_method
from changedet.detect.prepare import Preparation, open_corrected, prepare
from changedet.detect.rasters import (
    CHANGED,
    MASK,
    PROBABILITY,
    STATISTIC,
    UNCERTAINTY,
    open_sinks,
    stored_file,
    tags_of,
    write_cogs,
    write_plain_mask,
)
from changedet.detect.record import begin_record, identify, make_record, warnings_of
from changedet.detect.reuse import Earlier, causes_of, earlier_run, told_of
from changedet.detect.scenes import open_scenes, reading_options
from changedet.detect.stitch import Progress, silent, stitch
from changedet.detect.threshold import Threshold
from changedet.read.pair import PairOptions, RasterPair
from changedet.read.scene import Scene
from changedet.report import Inputs, Picture, draw_pictures, drawn_pictures, write_report
from changedet.vectorize import vectorize
from changedet.write.creation import check_creation_options
from changedet.write.layers import Layer, Spool, stored_layers
from changedet.write.provenance import write_run_json
from changedet.write.staging import RUN_JSON, Staging
from changedet.write.targets import FORMATS, Target, check_target, file_name, target_of, write_file, write_target

if TYPE_CHECKING:
    import geopandas as gpd

_RESULTS = (PROBABILITY, MASK, STATISTIC, UNCERTAINTY, "changes.gpkg", "report.html", RUN_JSON)
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
    targets = targets_of(config)
    started = datetime.now(UTC)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), Staging(out, config.overwrite or config.reuse) as staging:
        scenes = open_scenes(before, after, config)
        method = choose_method(scenes, config, os.fspath(out))
        identity = identify(scenes, config, method)
        earlier = earlier_run(out, config, causes_of(identity))
        selected = [scene.select(method.bands) for scene in scenes]
        with RasterPair(selected[0], selected[1], reading_options(config)) as raw:
            notes = method.notes(raw, config)

            def decide(preparation: Preparation, begun: dict[str, Any]) -> Detection:
                threshold = method.threshold(config.threshold, preparation)
                return Detection(started, scenes, raw.options, config, threshold, begun, preparation, notes)

            if earlier is not None:
                detection = decide(earlier.preparation(method, identity), earlier.begun(identity))
                earlier.restore(staging.work, config)
            else:
                preparation = prepare(raw, coregister=config.coregister, normalize=config.normalize)
                with open_corrected(raw, preparation, config.readers) as (pair, *more):
                    detector, preparation = method.fit(pair, preparation, progress)
                    plan = plan_chips_of(pair.geobox, detector, method.name, config)
                    detection = decide(preparation, begin_record(identity, preparation, plan))
                    dtype = config.probability_dtype
                    sinks = open_sinks(staging.work, pair.geobox, detector, method.classes, detection.tags, dtype=dtype)
                    with sinks as (sink, statistic), rasterio.Env(GDAL_CACHEMAX=cache_bytes(plan, len(method.bands))):
                        stitch(pair, detector, plan, sink, progress, more=more, statistic=statistic, dtype=dtype)
        method.release()
        record, results = finish(staging, detection, progress, reused=earlier)
    result = RunResult(Path(out), record, results)
    deliver(stored_layers(result.path("changes.gpkg")), targets, config)
    return result


def targets_of(config: RunConfig) -> list[Target]:
    """Return where else the polygons go; they, and how rasters are to be written, are checked before the work."""
    check_creation_options(config.co, dtype=config.probability_dtype)
    targets = [target_of(text) for text in config.vector if text not in FORMATS]
    for target in targets:
        check_target(target, append=config.append, overwrite=config.overwrite)
    return targets


def extra_files(config: RunConfig) -> dict[str, str]:
    """Return name → format of the files of polygons that lie beside changes.gpkg."""
    return {file_name(kind): kind for kind in config.vector if kind in FORMATS and kind != "geopackage"}


def deliver(layers: Mapping[str, Layer], targets: list[Target], config: RunConfig) -> None:
    """Write the polygons elsewhere, from the results that are safe by now, whatever becomes of a database."""
    for target in targets:
        write_target(target, layers, append=config.append, overwrite=config.overwrite and not config.append)


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
        """What all rasters say of themselves; the mask tells of its threshold too."""
        return tags_of(self.begun["model"], self.begun["dates"])


def finish(
    staging: Staging, detection: Detection, progress: Progress, *, reused: Earlier | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Turn what was stored in `staging` into all results, publish them, and return run.json and their names.

    Args:
        staging: the work folder, with what was stored.
        detection: see there.
        progress: hears how far it has come.
        reused: the run that this was taken over from.
    """
    config = detection.config
    with told_of(reused):
        write_plain_mask(staging.work, detection.threshold, detection.tags)
    imagery = imagery_of(detection.scenes, detection.reading, detection.preparation.correction)
    with rasterio.Env(GDAL_CACHEMAX=cache_bytes_of_polygons(config.max_memory)), ThreadPoolExecutor(1) as beside:
        drawn = beside.submit(_draw, staging, detection, reused)
        with Spool(staging.path("layers")) as spool:
            findings = vectorize(
                staging.path(CHANGED), stored_file(staging.work), sink=spool, config=config, imagery=imagery
            )
        progress("write", 0, 2)
        for name, kind in {"changes.gpkg": "geopackage", **extra_files(config)}.items():
            write_file(kind, staging.path(name), spool.layers())
        progress("write", 1, 2)
        pictures = drawn.result()
        progress("write", 2, 2)
    record = make_record(
        detection.begun,
        started=detection.started,
        findings=findings,
        threshold=detection.threshold,
        warnings=warnings_of(detection.notes, detection.preparation, config),
        reused=None if reused is None else reused.folder,
    )
    write_run_json(staging.path(RUN_JSON), record)
    if config.report:
        progress("report", 0, 1)
        write_report(staging.path("report.html"), staging.work, pictures)
        progress("report", 1, 1)
    results = tuple(name for name in (*_RESULTS, *extra_files(config)) if staging.path(name).exists())
    if config.stac:
        # Imported here, as pystac is not wanted by most runs and takes its time.
        from changedet.write.stac import write_item

        write_item(staging.path(STAC), record, results)
        results = (*results, STAC)
    for name in results:
        staging.publish(name)
    return record, results


def _draw(staging: Staging, detection: Detection, reused: Earlier | None) -> dict[str, Picture]:
    """Write the COGs, and return the pictures of the report: all that takes pixels alone, beside the polygons."""
    config = detection.config
    write_cogs(staging.work, config.co, config.threads)
    if not config.report:
        return {}
    drawn = {} if reused is None else drawn_pictures(reused.folder / "report.html", staging.path(PROBABILITY))
    return drawn or draw_pictures(
        staging.path(PROBABILITY), detection.begun, Inputs(*detection.scenes, detection.reading)
    )
