"""From what was stored to all results: mask, polygons, COGs, report and run.json, published together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import rasterio

from changedet.config import RunConfig
from changedet.detect.budget import cache_bytes_of_polygons
from changedet.detect.imagery import imagery_of
from changedet.detect.rasters import (
    CHANGED,
    MASK,
    PROBABILITY,
    STATISTIC,
    UNCERTAINTY,
    stored_file,
    write_cogs,
    write_plain_mask,
)
from changedet.detect.record import make_record, warnings_of
from changedet.detect.reuse import Earlier, told_of
from changedet.detect.run import Detection
from changedet.detect.stitch import Progress
from changedet.report import Inputs, Picture, draw_pictures, drawn_pictures, write_report
from changedet.vectorize import vectorize
from changedet.write.layers import Spool
from changedet.write.provenance import write_run_json
from changedet.write.staging import RUN_JSON, Staging
from changedet.write.targets import FORMATS, file_name, write_file

_RESULTS = (PROBABILITY, MASK, STATISTIC, UNCERTAINTY, "changes.gpkg", "report.html", RUN_JSON)
STAC = "stac.json"


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
        warnings=warnings_of(detection.notes, detection.preparation),
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


def extra_files(config: RunConfig) -> dict[str, str]:
    """Return name → format of the files of polygons that lie beside changes.gpkg."""
    return {file_name(kind): kind for kind in config.vector if kind in FORMATS and kind != "geopackage"}
