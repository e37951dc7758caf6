"""`changedet batch plan`: from what a user has to a manifest, with what is not in it and what it will cost.

`plan_batch` is the story, one line a step.
"""

from __future__ import annotations

import csv
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from odc.geo.geobox import GeoBox

from changedet.batch.estimate import Estimate, Probe, estimate, probe
from changedet.batch.failures import cell
from changedet.batch.groups import Placed, group_pairs, place_on_grid
from changedet.batch.manifest import ID, IDENTICAL, MOSAIC, OUTSIDE, SKIP, WINDOW, Manifest, Mosaic
from changedet.batch.manifest_file import check_suffix, write_manifest
from changedet.batch.mosaic import Place, write_mosaic
from changedet.batch.mosaics import MethodOf
from changedet.batch.paths import absolute
from changedet.batch.sources import Unmatched, are_identical, find_pairs
from changedet.batch.tiles import BySize, Layer, Mgrs, TileGrid, Windows, Xyz, parse_size, to_pixels
from changedet.config import PlanConfig, check_plan_options
from changedet.detect.method import choose_method
from changedet.detect.scenes import reading_options
from changedet.detect.stitch import Progress, silent
from changedet.errors import ConfigError, OutputExistsError
from changedet.grid import Lattice, Window
from changedet.read.target import Area
from changedet.write.staging import atomic_path, atomic_paths

# From so many times the work of one run on, and tiles so many times longer than asked for, it is worth a note.
_WASTEFUL: Final = 1.5
_LARGER: Final = 1.5


@dataclass(frozen=True, eq=False)
class Plan:
    """A manifest that was written, and what a user should know before running it.

    Attributes:
        path: of the manifest.
        manifest: its content.
        probed: what one pair told of the work.
        estimate: of the cost.
        notes: what to think of before running it.
        pairs: of scenes in it.
        warped: mosaics whose pixels are resampled to the grid of the batch.
        unmatched: what is not in it, and why; `unmatched_path` lists them, None where there are none.
    """

    path: Path
    manifest: Manifest
    probed: Probe
    estimate: Estimate
    notes: tuple[str, ...]
    pairs: int
    warped: tuple[str, ...]
    unmatched: tuple[Unmatched, ...]

    @property
    def unmatched_path(self) -> Path | None:
        """Where all that is not in the plan is listed, None where everything is."""
        return _beside(self.path, "unmatched.csv") if self.unmatched else None


def plan_batch(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    progress: Progress = silent,
    method_of: MethodOf = choose_method,
    **options: Any,
) -> Plan:
    """Plan a batch.

    Args:
        before: two scenes or mosaics, two folders of scenes, or two STAC item collections: the earlier date.
        after: likewise, the later date.
        out: the manifest to write, `.parquet` or `.csv`. Mosaics of several files lie beside it, in `NAME.sources`, and
            what did not match in `NAME.unmatched.csv`.
        progress: hears how far each stage has come.
        method_of: from scenes and options to what maps them.
        **options: see `changedet.config.PlanConfig`.

    Raises:
        ChangeDetError: one of its children, see `changedet.errors`; nothing is written then.
    """
    config = check_plan_options(options)
    path = Path(out).absolute()
    _refuse_existing(path, overwrite=config.overwrite)
    run = config.of_run()
    grid = reading_options(run).grid
    pairs, unmatched = find_pairs(os.fspath(before), os.fspath(after), config.match, run, progress)
    groups = group_pairs(pairs, apart=config.apart)
    geobox, placed, left = place_on_grid(groups, grid, refuse_warps=config.other_grids == "refuse")
    probed = probe(placed[0].group.pairs[0], run, _longest(placed), method_of)
    tiles = _tile_grid(config, geobox, probed.lattice)
    with atomic_paths(path.parent, ()) as work:
        place = Place(work / "sources", _beside(path, "sources"), path.parent)
        mosaics = [_mosaic(it, place, config) for it in placed]
        table = _table(geobox, placed, mosaics, tiles, grid.area, progress)
        along = probed.lattice if isinstance(tiles, BySize) else None
        manifest = Manifest(geobox, tuple(mosaics), table, along, config.aoi and absolute(config.aoi, Path.cwd()))
        left_out = (*unmatched, *left)
        _publish(path, manifest, place, left_out)
    warped = tuple(it.group.name for it in placed if it.warped)
    count = sum(len(it.group.pairs) for it in placed)
    cost = estimate(manifest, probed)
    notes = (*probed.notes, *_notes(manifest, tiles, cost))
    return Plan(path, manifest, probed, cost, notes, count, warped, left_out)


def _notes(manifest: Manifest, tiles: TileGrid, cost: Estimate) -> Iterator[str]:
    """Yield what to think of: tiles that do not go well with the chips."""
    if cost.times > _WASTEFUL:
        yield (
            "the tiles are small beside the chips, which are computed whole for each: take larger ones, --tile-size, or"
            " a smaller --max-memory"
        )
    shared = _overlap([mosaic.window for mosaic in manifest.mosaics])
    if shared:
        yield (
            f"{shared:.1%} of the ground lies in more than one mosaic, of other dates or on other grids: it is mapped"
            " for each, its polygons are there for each, and the rasters show the last"
        )
    side = math.sqrt(np.prod(manifest.windows[:, 2:].astype(float), axis=1).max())
    if isinstance(tiles, BySize) and side > _LARGER * tiles.size:
        yield (
            f"tiles of {tiles.size} px would be smaller than chips, so they are of up to {side:.0f} px: a smaller"
            " --max-memory makes smaller chips"
        )


def _overlap(windows: Sequence[Window]) -> float:
    """Return which share of the ground of some windows lies in more than one."""
    boxes = shapely.box(*np.array([(it.col, it.row, it.stop_col, it.stop_row) for it in windows], dtype=float).T)
    one, other = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    twice = shapely.intersection(boxes[one[one < other]], boxes[other[one < other]])
    return float(shapely.union_all(twice).area / shapely.union_all(boxes).area)


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}.{what}")


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    check_suffix(path)
    there = [it for it in (path, _beside(path, "sources"), _beside(path, "unmatched.csv")) if it.exists()]
    if there and not overwrite:
        raise OutputExistsError(f"{there[0]} exists", expected="a new manifest", remedy="--overwrite, or another -o")


def _longest(placed: Sequence[Placed]) -> int:
    return max(max(it.window.height, it.window.width) for it in placed)


def _tile_grid(config: PlanConfig, geobox: GeoBox, lattice: Lattice) -> TileGrid:
    if config.xyz is not None:
        return Xyz(config.xyz, config.tms)
    if config.mgrs:
        return Mgrs()
    if config.tiles is not None:
        return Layer(config.tiles, config.tile_id)
    return BySize(parse_size(config.tile_size, geobox), lattice)


def _mosaic(placed: Placed, place: Place, config: PlanConfig) -> Mosaic:
    """Return a mosaic of the manifest, with the files that make several scenes one."""
    group, window = placed.group, placed.window
    dates = group.pairs[0].dates
    if len(group.pairs) == 1:
        return Mosaic(group.name, *group.pairs[0].sources, window, config.bands, dates)
    before = write_mosaic(place, f"{group.name}-before", [pair.before for pair in group.pairs])
    after = write_mosaic(place, f"{group.name}-after", [pair.after for pair in group.pairs])
    return Mosaic(group.name, before, after, window, None, dates)


def _table(
    geobox: GeoBox,
    placed: Sequence[Placed],
    mosaics: Sequence[Mosaic],
    tiles: TileGrid,
    area: Area | None,
    progress: Progress,
) -> pa.Table:
    """Return the tiles of all mosaics as the table of a manifest.

    Raises:
        ConfigError: there are none.
    """
    parts = []
    for done, (place, mosaic) in enumerate(zip(placed, mosaics, strict=True)):
        progress("cut tiles", done, len(placed))
        names, windows = tiles.cut(geobox, mosaic.window)
        if len(placed) > 1:
            names = np.array([mosaic.name]) if len(names) == 1 else np.strings.add(f"{mosaic.name}_", names)
        columns = {name: pa.array(column) for name, column in zip(WINDOW, windows.T, strict=True)}
        same = pa.repeat(pa.scalar(mosaic.name), len(names))
        parts.append(pa.table({ID: names, MOSAIC: same, **columns, SKIP: _skips(place, geobox, windows, area)}))
    table = pa.concat_tables(parts)
    if not table.num_rows:
        raise ConfigError("no tile of that grid lies on the scenes", remedy="another tile grid, or --tile-size")
    return table


def _skips(placed: Placed, geobox: GeoBox, windows: Windows, area: Area | None) -> pa.Array:
    """Return why tiles need not be computed, null where they must."""
    if all(map(are_identical, placed.group.pairs)):
        return pa.repeat(pa.scalar(IDENTICAL), len(windows))
    if area is None:
        return pa.nulls(len(windows), pa.string())
    row, col, height, width = windows.T
    wanted = to_pixels(geobox.crs, geobox)(area.on(geobox).to_numpy())[0]
    shapely.prepare(wanted)
    inside = shapely.intersects(wanted, shapely.box(col, row, col + width, row + height))
    return pc.if_else(pa.array(inside), pa.scalar(None, pa.string()), OUTSIDE)


def _publish(path: Path, manifest: Manifest, place: Place, unmatched: Sequence[Unmatched]) -> None:
    """Put everything in its place, the manifest last: where it is, all of it is."""
    listed = _beside(path, "unmatched.csv")
    listed.unlink(missing_ok=True)
    shutil.rmtree(place.final, ignore_errors=True)
    if place.work.exists():
        place.work.replace(place.final)
    if unmatched:
        with atomic_path(listed) as work, work.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["source", "why"])
            rows.writerows((cell(entry.source), cell(entry.why)) for entry in unmatched)
    write_manifest(path, manifest, overwrite=True)
