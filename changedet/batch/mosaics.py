"""What is learned of each mosaic once, before its tiles: how they are mapped, and what is put right.

It is found by a worker, kept as JSON in the folder of the batch, and is the same for every tile, worker and resumption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import rasterio
from odc.geo.geobox import GeoBox

from changedet.batch.job import Job
from changedet.batch.manifest import Mosaic
from changedet.config import RunConfig
from changedet.detect.budget import CACHE_BYTES, cache_bytes, plan_chips_of
from changedet.detect.detector import ChangeDetector
from changedet.detect.method import Method
from changedet.detect.prepare import correction_of, open_corrected, prepare
from changedet.detect.rasters import tags_of
from changedet.detect.record import begin_record, identify, warnings_of
from changedet.detect.scenes import open_scenes, reading_options
from changedet.detect.stitch import Answers, silent
from changedet.detect.threshold import Threshold, restored_threshold
from changedet.errors import ModelError, PairError, SceneError
from changedet.grid import ChipPlan, plan_again
from changedet.read.pair import RasterPair
from changedet.read.reader import Scaling
from changedet.read.scene import Scene
from changedet.write.provenance import plain

# From opened scenes and options to what maps them, as `changedet.detect.method.choose_method`.
MethodOf = Callable[[tuple[Scene, Scene], RunConfig], Method]
# Names of the record that say how a mosaic is mapped; workers on other machines must do it the same way.
_SAME: Final = ("model", "backend", "precision")


def prepare_mosaic(
    job: Job, mosaic: Mosaic, method_of: MethodOf, threads: int, lattice: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Learn all that has to be known of a mosaic before its tiles.

    Args:
        job: it belongs to.
        mosaic: to be looked at.
        method_of: see `MethodOf`.
        threads: that compute.
        lattice: of the chips, as `ChipPlan.lattice` gave it, where it was decided before.

    Returns:
        What `begin_record` gives, with `scaling`, `threshold` and `notes`, as plain data.

    Raises:
        ChangeDetError: the mosaic cannot be mapped.
    """
    try:
        return _learned(job, mosaic, method_of, threads, lattice, lenient=False)
    except SceneError as error:
        # One damaged file of a thousand is the loss of its own tiles: the others are looked at without it.
        try:
            record = _learned(job, mosaic, method_of, threads, lattice, lenient=True)
        except PairError:
            raise error from None
        told = f"looked at without what cannot be read: {str(error).splitlines()[0]}"
        return {**record, "notes": [*record["notes"], told]}


def _learned(
    job: Job, mosaic: Mosaic, method_of: MethodOf, threads: int, lattice: Mapping[str, Any] | None, *, lenient: bool
) -> dict[str, Any]:
    config = options_of(job, mosaic, threads=threads)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        scenes = open_scenes(mosaic.before, mosaic.after, config)
        method = method_of(scenes, config)
        geobox = job.crop(mosaic.window)
        with _pair(scenes, method, config, geobox, lenient=lenient) as raw:
            notes = method.notes(raw, config)
            preparation = prepare(raw, coregister=config.coregister, normalize=config.normalize)
            with open_corrected(raw, preparation, 1) as (pair,):
                detector, preparation = method.fit(pair, preparation, silent)
        threshold = method.threshold(config.threshold, preparation)
        plan = plan_again(lattice) if lattice else plan_chips_of(geobox, detector, method.name, config)
        begun = begin_record(identify(scenes, config, method), preparation, plan)
        method.release()
    told = warnings_of(notes, preparation)
    return plain({**begun, "scaling": raw.scaling, "threshold": threshold.as_json(), "notes": told})


@dataclass(frozen=True, slots=True, eq=False)
class OpenMosaic:
    """A mosaic ready for its tiles.

    Attributes:
        pairs: the corrected pair on the window of the mosaic, opened once for each thread that reads.
        detector: fitted.
        plan: the chips of the whole window.
        threshold: from where a pixel is changed.
        classes: kinds of change.
        tags: of its rasters.
        answers: of the detector, kept from tile to tile.
    """

    pairs: tuple[RasterPair, ...]
    detector: ChangeDetector
    plan: ChipPlan
    threshold: Threshold
    classes: tuple[str, ...]
    tags: dict[str, str]
    answers: Answers


def open_mosaic(
    stack: ExitStack, job: Job, mosaic: Mosaic, record: Mapping[str, Any], method_of: MethodOf, threads: int
) -> OpenMosaic:
    """Open a mosaic by what was learned of it.

    Args:
        stack: closes what is opened here.
        job: it belongs to.
        mosaic: to open.
        record: as `prepare_mosaic` gave it.
        method_of: see `MethodOf`.
        threads: that compute.

    Raises:
        ChangeDetError: it cannot be opened, or this process would map it another way.
    """
    computed = {name: record[name] for name in ("backend", "precision") if record["backend"] in ("torch", "openvino")}
    config = options_of(job, mosaic, threads=threads, **({} if job.config.detector else computed))
    plan = plan_again(record["chips"])
    scenes = open_scenes(mosaic.before, mosaic.after, config)
    method = method_of(scenes, config)
    _check_same(method, record)
    # Around all that opens a file: GDAL's environment must outlive what is open in it.
    stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache_bytes(plan, len(method.bands))))
    before, after = (tuple(Scaling(**band) for band in date) for date in record["scaling"])
    raw = stack.enter_context(_pair(scenes, method, config, job.crop(mosaic.window), scaling=(before, after)))
    correction = correction_of(record["preparation"])
    pairs = tuple(stack.enter_context(raw.corrected(correction)) for _ in range(config.readers))
    detector = method.restored(record["preparation"])
    threshold = restored_threshold(record["threshold"])
    tags = tags_of(record["model"], record["dates"])
    return OpenMosaic(pairs, detector, plan, threshold, method.classes, tags, Answers(detector))


def options_of(job: Job, mosaic: Mosaic, **more: Any) -> RunConfig:
    """Return the options of a run of one mosaic of a batch, with `more` instead of the batch's."""
    # A date alone cannot be said: then what the files say of both counts.
    dates = None if None in mosaic.dates else mosaic.dates
    return job.config.of_pair(bands=mosaic.bands, dates=dates, aoi=job.aoi, **more)


def _pair(scenes: tuple[Scene, Scene], method: Method, config: RunConfig, geobox: GeoBox, **more: Any) -> RasterPair:
    before, after = (scene.select(method.bands) for scene in scenes)
    return RasterPair(before, after, reading_options(config), geobox=geobox, **more)


def _check_same(method: Method, record: Mapping[str, Any]) -> None:
    here = plain({"model": method.as_json(), "backend": method.backend, "precision": method.precision})
    for name in _SAME:
        if here[name] != record[name]:
            raise ModelError(
                f"this worker would map its tiles by {_told(here[name])}",
                expected=f"{_told(record[name])}, as the others do",
                remedy="the same changedet and models on every machine",
            )


def _told(value: Any) -> str:
    return f"{value['name']} ({str(value['sha256'])[:12]})" if isinstance(value, dict) else str(value)
