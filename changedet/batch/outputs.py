"""What a batch as a whole leaves: one layer of pixels over its tiles, one of polygons, and what there is to tell."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import rasterio

from changedet.batch.failures import NAME as FAILURES
from changedet.batch.failures import write_failures
from changedet.batch.job import Job
from changedet.batch.join import Part, join_polygons, seen_mosaic, write_mosaics
from changedet.batch.learned import Record
from changedet.batch.ledger import TileResult
from changedet.batch.manifest import Mosaic
from changedet.batch.mosaics import options_of
from changedet.batch.outcome import Outcomes, tile_folder
from changedet.batch.overview import NAME as OVERVIEW
from changedet.batch.overview import write_overview
from changedet.batch.record import batch_record
from changedet.detect.budget import cache_bytes_of_polygons
from changedet.detect.finish import extra_files
from changedet.detect.imagery import imagery_of
from changedet.detect.prepare import correction_of
from changedet.detect.rasters import MASK, PROBABILITY, STATISTIC, UNCERTAINTY, tags_of, tags_of_threshold
from changedet.detect.scenes import open_scenes, reading_options
from changedet.detect.stitch import Progress
from changedet.detect.threshold import restored_threshold
from changedet.errors import ConfigError, SceneError
from changedet.vectorize import Findings, Imagery, Labels
from changedet.write.layers import Layer, Spool
from changedet.write.provenance import redact, write_run_json
from changedet.write.raster import (
    RasterLayout,
    mask_layout,
    probability_layout,
    statistic_layout,
    uncertainty_layout,
)
from changedet.write.staging import RUN_JSON, Staging
from changedet.write.targets import write_file

CHANGES: Final = "changes.gpkg"
MANIFEST: Final = "manifest.parquet"
Learned = Mapping[str, Record | TileResult]


def write_outputs(
    job: Job, outcomes: Outcomes, learned: Learned, started: datetime, progress: Progress
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Join what the tiles hold, publish it in the folder of the batch, and return run.json and the names of the files.

    Args:
        job: the batch.
        outcomes: of its tiles.
        learned: name of a mosaic → its record, or what became of all its tiles.
        started: when this run of the batch was.
        progress: hears of every step.

    Raises:
        ConfigError: mosaics were mapped to different kinds of change.
        OutputError: the disk is full.
    """
    records = {name: record.content for name, record in learned.items() if isinstance(record, Record)}
    config, out = job.config, job.out
    with Staging(out, overwrite=True) as staging:
        layouts = _layouts(job, outcomes, records)
        progress("join", 0, 4)
        names = write_mosaics(out, staging.work, outcomes, layouts)
        progress("join", 1, 4)
        findings, layers, warnings = _joined(job, outcomes, learned, layouts, staging.work)
        names += _write_polygons(staging, layers, {CHANGES: "geopackage", **extra_files(config)})
        progress("join", 2, 4)
        write_failures(staging.path(FAILURES), outcomes)
        record = batch_record(
            outcomes,
            records,
            findings,
            parameters={**config.model_dump(mode="json"), "vector": [*map(redact, config.vector)]},
            started=started,
            warnings=warnings,
        )
        write_run_json(staging.path(RUN_JSON), record)
        seen = seen_mosaic(staging.path("seen.vrt"), out, outcomes.with_files(), PROBABILITY, layouts[PROBABILITY])
        write_overview(staging.work, seen, outcomes, MANIFEST)
        names += [FAILURES, RUN_JSON, OVERVIEW]
        progress("join", 3, 4)
        names += _write_catalogue(out, staging.work, outcomes, records, names)
        progress("join", 4, 4)
        for name in names:
            staging.publish(name)
    return record, tuple(names)


def _write_polygons(staging: Staging, layers: dict[str, Layer], files: Mapping[str, str]) -> list[str]:
    for name, kind in files.items():
        write_file(kind, staging.path(name), layers)
    return list(files)


def _write_catalogue(
    out: Path, work: Path, outcomes: Outcomes, records: Mapping[str, Mapping[str, Any]], results: Iterable[str]
) -> list[str]:
    # Imported here, as pystac takes its time, and no worker wants it.
    from changedet.batch.catalogue import write_catalogue

    return write_catalogue(out, work, outcomes, records, [*results])


def _layouts(job: Job, outcomes: Outcomes, records: Mapping[str, Mapping[str, Any]]) -> dict[str, RasterLayout]:
    """Return what the rasters over all tiles are: what the tiles have in common, on the whole grid.

    Raises:
        ConfigError: mosaics were mapped to different kinds of change.
    """
    classes = {tuple(record["model"]["classes"]) for record in records.values()} or {("change",)}
    if len(classes) > 1:
        raise ConfigError(
            f"mosaics with different kinds of change: {' and '.join(', '.join(names) for names in sorted(classes))}",
            expected="the same, for one layer",
            remedy="--model, or a batch for each",
        )
    (names,) = classes
    tags = _common([tags_of(record["model"], record["dates"]) for record in records.values()])
    of_mask = _common([_tags_of_mask(record) for record in records.values()])
    dtype = job.config.probability_dtype
    layouts = {
        MASK: mask_layout(job.geobox, classes=len(names), tags=of_mask),
        PROBABILITY: probability_layout(job.geobox, classes=names, tags=tags, dtype=dtype),
        UNCERTAINTY: uncertainty_layout(job.geobox, classes=names, tags=tags),
    }
    first = next(outcomes.with_files(), None)
    there = set() if first is None else {path.name for path in tile_folder(job.out, first.id).glob("*.tif")}
    if STATISTIC in there and first is not None:
        with rasterio.open(tile_folder(job.out, first.id) / STATISTIC) as statistic:
            layouts[STATISTIC] = statistic_layout(job.geobox, statistic.descriptions, tags=tags)
    return {name: layout for name, layout in layouts.items() if name in {MASK, PROBABILITY, *there}}


def _tags_of_mask(record: Mapping[str, Any]) -> dict[str, str]:
    return tags_of(record["model"], record["dates"]) | tags_of_threshold(restored_threshold(record["threshold"]))


def _common(tags: list[dict[str, str]]) -> dict[str, str]:
    """Return the tags that all mosaics have."""
    return dict(set.intersection(*(set(own.items()) for own in tags))) if tags else {}


def _joined(
    job: Job, outcomes: Outcomes, learned: Learned, layouts: Mapping[str, RasterLayout], work: Path
) -> tuple[Findings, dict[str, Layer], list[str]]:
    """Trace the polygons; return what they come to, their layers, and what to warn of."""
    try:
        return *_traced(job, outcomes, _parts(job, outcomes, learned), layouts, work), []
    except SceneError as error:
        # One damaged file of a thousand: its tiles failed, and the polygons of all others are known.
        parts = _parts(job, outcomes, learned, directions=False)
        told = f"no polygon has a direction, as the scenes cannot be read: {str(error).splitlines()[0]}"
        return *_traced(job, outcomes, parts, layouts, work), [told]


def _traced(
    job: Job, outcomes: Outcomes, parts: list[Part], layouts: Mapping[str, RasterLayout], work: Path
) -> tuple[Findings, dict[str, Layer]]:
    folder = work / "layers"
    shutil.rmtree(folder, ignore_errors=True)
    with rasterio.Env(GDAL_CACHEMAX=cache_bytes_of_polygons(job.config.max_memory)), Spool(folder) as spool:
        findings = join_polygons(job.out, work, outcomes, parts, layouts, sink=spool, config=job.config)
    return findings, spool.layers()


def _parts(job: Job, outcomes: Outcomes, learned: Learned, *, directions: bool = True) -> list[Part]:
    return [_part(job, mosaic, learned[mosaic.name], directions=directions) for mosaic in outcomes.manifest.mosaics]


def _part(job: Job, mosaic: Mosaic, record: Record | TileResult, *, directions: bool) -> Part:
    if isinstance(record, TileResult):
        return Part(mosaic.name, Labels(), None)
    labels = Labels.of_tags(_tags_of_mask(record.content))
    return Part(mosaic.name, labels, _imagery(job, mosaic, record) if directions else None)


def _imagery(job: Job, mosaic: Mosaic, record: Record) -> Imagery | None:
    config = options_of(job, mosaic)
    scenes = open_scenes(mosaic.before, mosaic.after, config)
    correction = correction_of(record.content["preparation"])
    return imagery_of(scenes, reading_options(config), correction, job.crop(mosaic.window))
