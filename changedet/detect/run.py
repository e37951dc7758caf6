"""The main job: two scenes in, a change raster and change polygons out.

`run` is the way of the data, one line a step; what lies below it are the steps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rasterio

from changedet.config import RunConfig, check_options
from changedet.detect.budget import CACHE_BYTES, cache_bytes, plan_chips_of
from changedet.detect.method import choose_method
from changedet.detect.prepare import Preparation, open_corrected, prepare
from changedet.detect.rasters import open_sinks, tags_of
from changedet.detect.record import begin_record, identify
from changedet.detect.reuse import causes_of, earlier_run
from changedet.detect.scenes import open_scenes, reading_options
from changedet.detect.stitch import Progress, silent, stitch
from changedet.detect.threshold import Threshold
from changedet.read.pair import PairOptions, RasterPair
from changedet.read.scene import Scene
from changedet.write.creation import check_creation_options
from changedet.write.staging import Staging

if TYPE_CHECKING:
    import geopandas as gpd

    from changedet.write.layers import Layer
    from changedet.write.targets import Target


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
        # Not before: geopandas and what draws take a second to import, which the first chip need not wait for.
        from changedet.detect.finish import finish
        from changedet.write.layers import stored_layers

        record, results = finish(staging, detection, progress, reused=earlier)
    result = RunResult(Path(out), record, results)
    deliver(stored_layers(result.path("changes.gpkg")), targets, config)
    return result


def targets_of(config: RunConfig) -> list[Target]:
    """Return where else the polygons go; they, and how rasters are to be written, are checked before the work."""
    check_creation_options(config.co, dtype=config.probability_dtype)
    if not config.vector:
        return []
    from changedet.write.targets import FORMATS, check_target, target_of

    targets = [target_of(text) for text in config.vector if text not in FORMATS]
    for target in targets:
        check_target(target, append=config.append, overwrite=config.overwrite)
    return targets


def deliver(layers: Mapping[str, Layer], targets: list[Target], config: RunConfig) -> None:
    """Write the polygons elsewhere, from the results that are safe by now, whatever becomes of a database."""
    from changedet.write.targets import write_target

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
