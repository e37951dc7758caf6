"""A manifest as a file: a table with one row a tile, GeoParquet or CSV by its suffix.

Every row says all that concerns its tile, the grid included, so that what was filtered or sorted elsewhere, with the
metadata of the file lost, is a manifest still.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from changedet.batch.manifest import ID, MOSAIC, SKIP, WINDOW, Manifest, Mosaic
from changedet.batch.paths import absolute, relative
from changedet.errors import ConfigError, NotFoundError, OutputError
from changedet.grid import Lattice, Window
from changedet.write.geoparquet import write_batches
from changedet.write.layers import GEOMETRY
from changedet.write.staging import atomic_path

_MOSAIC_WINDOW: Final = tuple(f"mosaic_{name}" for name in WINDOW)
_OF_MOSAIC: Final = ("before", "after", "bands", "date_before", "date_after", *_MOSAIC_WINDOW)
_OF_GRID: Final = ("crs", "transform", "grid_height", "grid_width", "lattice", "aoi")
_NUMBERS: Final = (*WINDOW, *_MOSAIC_WINDOW, "grid_height", "grid_width")
_TYPES: Final = {
    name: pa.int32() if name in _NUMBERS else pa.string()
    for name in (ID, MOSAIC, *_OF_MOSAIC, *WINDOW, SKIP, *_OF_GRID)
}
_CSV, _PARQUET = ".csv", (".parquet", ".geoparquet")
# These may be missing: nobody need say them.
_OPTIONAL: Final = (SKIP, "bands", "date_before", "date_after", "lattice", "aoi")
_SCHEMA: Final = pa.schema([*_TYPES.items(), (GEOMETRY, pa.binary())])
# Rows that are in memory with their geometries at one time.
_ROWS: Final = 65_536


def write_manifest(path: str | os.PathLike[str], manifest: Manifest, *, overwrite: bool = False) -> None:
    """Write a manifest, GeoParquet or CSV by the suffix of `path`.

    The geometry is the outline of a tile's window in the CRS of the batch. Sources in the folder of the manifest or
    below are written relative to it.

    Raises:
        ConfigError: another suffix.
        OutputExistsError: the file is there, and `overwrite` is not set.
        OutputError: it cannot be written.
    """
    target = Path(path)
    as_csv = _is_csv(target)
    with atomic_path(target, overwrite=overwrite) as work:
        batches = _batches(manifest, target.parent)
        try:
            if as_csv:
                _write_csv(work, batches)
            else:
                write_batches(work, batches, manifest.crs, schema=_SCHEMA, geometry_type="Polygon")
        except pa.ArrowException as error:
            raise OutputError(f"{target} could not be written ({error})") from error


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest that `write_manifest` wrote; rows may have been left out or sorted since, and columns added.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it is no manifest, or its rows contradict each other.
    """
    source = Path(path)
    read = _read_csv if _is_csv(source) else _read_parquet
    if not source.is_file():
        raise NotFoundError(f"no manifest {source}", remedy="changedet batch plan makes one")
    try:
        table = _as_typed(read(source))
        geobox, lattice, aoi = _grid_of(table, source.parent)
        return Manifest(geobox, _mosaics_of(table, source.parent), table, lattice, aoi)
    except (pa.ArrowException, KeyError, ValueError, TypeError, CRSError) as error:
        raise ConfigError(
            f"{source} is no manifest of a batch: {error}", expected="a file that `changedet batch plan` wrote"
        ) from error


def check_suffix(path: Path) -> None:
    """Refuse a name that says neither format.

    Raises:
        ConfigError: it does not.
    """
    if path.suffix.lower() not in (_CSV, *_PARQUET):
        raise ConfigError(f"a manifest called {path.name}", expected="a name that ends in .parquet or .csv")


def _is_csv(path: Path) -> bool:
    check_suffix(path)
    return path.suffix.lower() == _CSV


def _batches(manifest: Manifest, folder: Path) -> Iterator[Any]:
    """Yield the rows with all their columns, the geometry as WKB."""
    mosaics = pa.array([mosaic.name for mosaic in manifest.mosaics])
    told = zip(*(_told_of_mosaic(mosaic, folder) for mosaic in manifest.mosaics), strict=True)
    of_mosaic = {name: pa.array(values, _TYPES[name]) for name, values in zip(_OF_MOSAIC, told, strict=True)}
    of_grid = dict(zip(_OF_GRID, _told_of_grid(manifest, folder), strict=True))
    for batch in manifest.table.to_batches(max_chunksize=_ROWS):
        columns = {name: batch[name] for name in batch.schema.names}
        which = pc.index_in(batch[MOSAIC], value_set=mosaics)
        columns |= {name: values.take(which) for name, values in of_mosaic.items()}
        columns |= {name: pa.repeat(pa.scalar(it, _TYPES[name]), batch.num_rows) for name, it in of_grid.items()}
        columns[GEOMETRY] = pa.array(shapely.to_wkb(_outlines(batch, manifest.geobox.affine)), pa.binary())
        yield pa.RecordBatch.from_pydict(columns, schema=_SCHEMA)


def _told_of_mosaic(mosaic: Mosaic, folder: Path) -> tuple[str | int | None, ...]:
    before, after = (relative(source, folder) for source in (mosaic.before, mosaic.after))
    return before, after, mosaic.bands, *mosaic.dates, *astuple(mosaic.window)


def _told_of_grid(manifest: Manifest, folder: Path) -> tuple[str | int | None, ...]:
    (height, width), lattice, aoi = manifest.geobox.shape, manifest.lattice, manifest.aoi
    transform = " ".join(repr(float(value)) for value in manifest.geobox.affine[:6])
    along = f"{lattice.chip} {lattice.halo} {lattice.stride} {lattice.fixed:d}" if lattice else None
    return manifest.crs_text, transform, int(height), int(width), along, aoi and relative(aoi, folder)


def _outlines(batch: Any, affine: Affine) -> Any:
    """Return the outlines of windows, in the CRS of the grid."""
    row, col, height, width = (batch[name].to_numpy() for name in WINDOW)
    boxes = shapely.box(col, row, col + width, row + height)
    return shapely.transform(boxes, lambda at: at @ [[affine.a, affine.d], [affine.b, affine.e]] + [affine.c, affine.f])


def _write_csv(path: Path, batches: Iterator[Any]) -> None:
    with pa_csv.CSVWriter(path, _SCHEMA.set(len(_TYPES), pa.field(GEOMETRY, pa.string()))) as writer:
        for batch in batches:
            outlines = shapely.to_wkt(shapely.from_wkb(batch[GEOMETRY].to_numpy(zero_copy_only=False)))
            writer.write_batch(batch.set_column(len(_TYPES), GEOMETRY, pa.array(outlines, pa.string())))


def _read_csv(path: Path) -> Any:
    # Empty is null, and only where nothing stands, not even quotes.
    options = pa_csv.ConvertOptions(column_types=_TYPES, strings_can_be_null=True, quoted_strings_can_be_null=False)
    table = pa_csv.read_csv(path, convert_options=options)
    return table.select([name for name in _TYPES if name in table.column_names])


def _read_parquet(path: Path) -> Any:
    there = pq.read_schema(path).names
    return pq.read_table(path, columns=[name for name in _TYPES if name in there])


def _as_typed(table: Any) -> Any:
    """Return a table with all columns, in their types; those that nobody need say are null where they are missing."""
    for name in _OPTIONAL:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
    missing = [name for name in _TYPES if name not in table.column_names]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}")
    empty = [name for name in _TYPES if name not in _OPTIONAL and table[name].null_count]
    if empty:
        raise ValueError(f"nothing stands in the column {empty[0]} of some row")
    return table.select(list(_TYPES)).cast(pa.schema(list(_TYPES.items())))


def _grid_of(table: Any, folder: Path) -> tuple[GeoBox, Lattice | None, str | None]:
    crs, transform, height, width, lattice, aoi = (_same(table, name) for name in _OF_GRID)
    affine = Affine(*map(float, transform.split()))
    if affine.is_degenerate:
        raise ValueError(f"its transform, {transform}, gives pixels no area")
    return GeoBox((height, width), affine, crs), _lattice_of(lattice), aoi and absolute(aoi, folder)


def _lattice_of(text: str | None) -> Lattice | None:
    if not text:
        return None
    chip, halo, stride, fixed = map(int, text.split())
    return Lattice(chip, halo, stride, bool(fixed))


def _same(table: Any, name: str) -> Any:
    values = pc.unique(table[name]).to_pylist()
    if len(values) > 1:
        raise ValueError(f"its rows differ in {name}: {values[0]} and {values[1]}")
    return values[0] if values else None


def _mosaics_of(table: Any, folder: Path) -> tuple[Mosaic, ...]:
    rows = table.group_by([MOSAIC, *_OF_MOSAIC], use_threads=False).aggregate([])
    return tuple(
        Mosaic(
            row[MOSAIC],
            absolute(row["before"], folder),
            absolute(row["after"], folder),
            Window(*(row[name] for name in _MOSAIC_WINDOW)),
            row["bands"],
            (row["date_before"], row["date_after"]),
        )
        for row in rows.to_pylist()
    )
