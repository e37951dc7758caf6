"""Layers of polygons on their way to a format: on the disk, read as Arrow streams, never whole in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import geopandas as gpd
import pyarrow as pa
import pyarrow.compute as pc
import pyogrio
import pyproj

from changedet.errors import ConfigError

GEOMETRY = "geometry"
ID = "id"
# Of a GeoPackage that we make.
LAYERS = ("changes", "footprint", "unknown")


@dataclass(frozen=True)
class Layer:
    """Rows of MultiPolygons, the same at every reading.

    Attributes:
        name: of the layer.
        crs: of its geometries.
        schema: Arrow's, with the geometry as WKB in the column `geometry`.
        rows: their number.
        nulls: columns that are null in some row.
        open: gives the rows as a `pyarrow.RecordBatchReader`, as a context manager.
    """

    name: str
    crs: pyproj.CRS
    schema: pa.Schema
    rows: int
    nulls: frozenset[str]
    open: Callable[[], AbstractContextManager[Any]]


class Spool:
    """A sink of layers, as a context manager: every table goes to a file of its layer at once.

    Args:
        folder: where the files go; whoever made it removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._writers: dict[str, _Writer] = {}

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, layer: str, table: gpd.GeoDataFrame) -> None:
        """Add rows of a layer; all its tables have the same columns and the same CRS."""
        arrow = pa.table(table.to_arrow(index=False, geometry_encoding="WKB")).rename_columns(
            {table.geometry.name: GEOMETRY}
        )
        self.write_arrow(layer, arrow, table.crs)

    def write_arrow(self, layer: str, rows: Any, crs: pyproj.CRS) -> None:
        """Add rows of a layer, as an Arrow table with WKB in the column `geometry`."""
        if layer not in self._writers:
            # What pandas and the extension say of a column concerns nobody here, and would differ between batches.
            schema = pa.schema([pa.field(field.name, field.type) for field in rows.schema])
            self._writers[layer] = self._stack.enter_context(_Writer(self._folder / f"{layer}.arrows", schema, crs))
        self._writers[layer].write(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def layers(self) -> dict[str, Layer]:
        """Return the layers by their names; only after the end of the context."""
        return {name: writer.layer(name) for name, writer in self._writers.items()}


class _Writer:
    """An Arrow stream in a file, with what is counted on the way."""

    def __init__(self, path: Path, schema: pa.Schema, crs: pyproj.CRS) -> None:
        self._path, self._schema, self._crs = path, schema, crs
        self._rows, self._nulls = 0, frozenset[str]()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            file = stack.enter_context(pa.OSFile(os.fspath(self._path), "wb"))
            self._stream = stack.enter_context(pa.ipc.new_stream(file, self._schema))
            self._stack = stack.pop_all()
        return self

    def write(self, rows: Any) -> None:
        table = rows.cast(self._schema)
        self._rows += table.num_rows
        self._nulls |= {name for name in table.column_names if table[name].null_count}
        self._stream.write_table(table)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def layer(self, name: str) -> Layer:
        return Layer(name, self._crs, self._schema, self._rows, self._nulls, partial(_stream_of_file, self._path))


@contextmanager
def _stream_of_file(path: Path) -> Iterator[Any]:
    with pa.OSFile(os.fspath(path)) as file, pa.ipc.open_stream(file) as reader:
        yield reader


def stored_layer(path: Path, name: str | None) -> Layer:
    """Return a layer of a file that GDAL reads, its only one where `name` is None.

    Raises:
        pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError: it is not there.
    """
    info = pyogrio.read_info(path, layer=name, force_feature_count=True)
    with _stream_of_layer(path, name) as reader:
        schema = reader.schema
    # Which columns hold nulls would take reading them all; that every one may is safe.
    return Layer(
        str(info["layer_name"]),
        pyproj.CRS(info["crs"]),
        schema,
        int(info["features"]),
        frozenset(schema.names),
        partial(_stream_of_layer, path, name),
    )


def stored_layers(path: Path) -> dict[str, Layer]:
    """Return the layers of a GeoPackage that we made."""
    return {name: stored_layer(path, name) for name in LAYERS}


@contextmanager
def _stream_of_layer(path: Path, name: str | None) -> Iterator[Any]:
    # GeoJSON has no types: what looks like a date would come as a time, and go out as another text.
    options = {"DATE_AS_STRING": "YES"} if path.suffix in (".geojson", ".json") else {}
    with pyogrio.open_arrow(path, layer=name, use_pyarrow=True, **options) as (about, reader):
        geometry = about["geometry_name"] or "wkb_geometry"
        names = [GEOMETRY if column == geometry else column for column in reader.schema.names]
        schema = pa.schema([pa.field(n, field.type) for n, field in zip(names, reader.schema, strict=True)])
        batches = (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in reader)
        yield pa.RecordBatchReader.from_batches(schema, batches)


def one_after_another(layers: Sequence[Layer]) -> Layer:
    """Return the rows of several layers of one name and CRS, with the columns of the first."""
    first = layers[0]
    for layer in layers[1:]:
        check_fits(layer, first.schema.names, first.crs)
    rows, nulls = sum(layer.rows for layer in layers), frozenset().union(*(layer.nulls for layer in layers))
    return replace(first, rows=rows, nulls=nulls, open=partial(_stream_of_all, tuple(layers)))


@contextmanager
def _stream_of_all(layers: tuple[Layer, ...]) -> Iterator[Any]:
    schema = layers[0].schema

    def batches() -> Iterator[Any]:
        for layer in layers:
            with layer.open() as reader:
                for batch in reader:
                    yield from _like(pa.table(batch), schema).to_batches()

    yield pa.RecordBatchReader.from_batches(schema, batches())


def new_rows(layer: Layer, known: Any, folder: Path) -> Layer:
    """Return the rows of a layer whose ids are not known yet, each once.

    Args:
        layer: with the column `id`.
        known: Arrow array of ids.
        folder: for the copy.
    """
    with Spool(folder) as spool, layer.open() as reader:
        spool.write_arrow(layer.name, layer.schema.empty_table(), layer.crs)
        for batch in reader:
            is_new = pc.invert(pc.is_in(batch[ID], value_set=known.cast(batch[ID].type)))
            spool.write_arrow(layer.name, pa.table(batch.filter(is_new)), layer.crs)
    return spool.layers()[layer.name]


def both(first: Layer, second: Layer, folder: Path) -> Layer:
    """Return the rows of two layers, one after the other, with the columns of the first.

    Raises:
        ConfigError: the second has other columns, or another CRS.
    """
    check_fits(second, first.schema.names, first.crs)
    with Spool(folder) as spool:
        for layer in (first, second):
            with layer.open() as reader:
                for batch in reader:
                    rows = pa.table(batch)
                    spool.write_arrow(first.name, _like(rows, first.schema), first.crs)
    return spool.layers()[first.name]


def _like(rows: Any, schema: pa.Schema) -> Any:
    columns = [
        rows[field.name].cast(field.type) if field.name in rows.column_names else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.table(columns, names=schema.names)


def check_fits(layer: Layer, columns: list[str], crs: pyproj.CRS) -> None:
    """Check that rows of a layer can be added to a table.

    Raises:
        ConfigError: it has columns that the table lacks, or another CRS.
    """
    missing = [name for name in layer.schema.names if name not in columns]
    if missing:
        raise ConfigError(
            f"the table to append to has no column {', '.join(missing)}",
            expected=f"one that changedet made for the same kind of mask: {', '.join(layer.schema.names)}",
            remedy="a new table or file",
        )
    if not layer.crs.equals(crs, ignore_axis_order=True):
        raise ConfigError(
            f"the table to append to is in {crs.name}, the polygons are in {layer.crs.name}",
            expected="the same coordinate system",
            remedy="a new table or file",
        )


def check_has_ids(layer: Layer) -> None:
    """Check that a layer has what tells its rows from those to be appended.

    Raises:
        ConfigError: it has no column `id`.
    """
    if ID not in layer.schema.names:
        raise ConfigError(f"the layer {layer.name} to append to has no column {ID}", remedy="a new file")


def ids(layer: Layer) -> Any:
    """Return the column `id` of a layer as an Arrow array.

    Raises:
        ConfigError: it has none.
    """
    check_has_ids(layer)
    with layer.open() as reader:
        columns = [batch[ID] for batch in reader]
    return pa.chunked_array(columns, type=layer.schema.field(ID).type).combine_chunks()
