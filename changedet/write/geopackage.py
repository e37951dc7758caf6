"""GeoPackages that QGIS opens coloured."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

import pyogrio

from changedet.errors import OutputError
from changedet.write.columns import COLUMNS, LAYERS
from changedet.write.layers import Layer
from changedet.write.ogr import told_as_output_error, write_ogr
from changedet.write.style import changes_style, footprint_style, unknown_style

_GEOMETRY = "geom"
# Nothing of a newer version is needed, and GDAL 3.6 and the QGIS of its time warn of those.
_VERSION = {"VERSION": "1.2"}
# The format wants a time of last change. With a fixed one the same layers are the same bytes; times are in run.json.
_CHANGED = "1970-01-01T00:00:00.000Z"

# The table as QGIS makes it, and the registration that the GeoPackage standard asks for (OGC 12-128r18, clause 2.1).
_STYLES_TABLE = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
    f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME
)
"""
_REGISTER = """
INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id)
VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?, 0)
"""
_STYLE = """
INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML,
    styleSLD, useAsDefault, description, owner, update_time)
VALUES ('', '', ?, ?, ?, ?, '', 1, '', '', ?)
"""
# The extension Schema of the standard (annex F.9), which says what columns mean.
_COLUMNS_TABLE = """
CREATE TABLE gpkg_data_columns (
    table_name TEXT NOT NULL, column_name TEXT NOT NULL, name TEXT, title TEXT, description TEXT, mime_type TEXT,
    constraint_name TEXT, CONSTRAINT pk_gdc PRIMARY KEY (table_name, column_name),
    CONSTRAINT gdc_tn UNIQUE (table_name, name)
)
"""
_CONSTRAINTS_TABLE = """
CREATE TABLE gpkg_data_column_constraints (
    constraint_name TEXT NOT NULL, constraint_type TEXT NOT NULL, value TEXT, min NUMERIC, min_is_inclusive BOOLEAN,
    max NUMERIC, max_is_inclusive BOOLEAN, description TEXT,
    CONSTRAINT gdcc_ntv UNIQUE (constraint_name, constraint_type, value)
)
"""
_REGISTER_COLUMNS = """
INSERT INTO gpkg_extensions (table_name, column_name, extension_name, definition, scope)
VALUES (?, NULL, 'gpkg_schema', 'http://www.geopackage.org/spec121/#extension_schema', 'read-write')
"""


def write_geopackage(path: str | os.PathLike[str], layers: Mapping[str, Layer]) -> None:
    """Write `changes`, `footprint` and `unknown`, or some of them, with their styles into one new GeoPackage.

    A layer without rows is a valid layer with the same columns, geometry type and CRS. Equal layers give equal bytes.

    Args:
        path: file to make; it must not exist.
        layers: `changes` is coloured by `probability_mean` where that is nowhere null.

    Raises:
        OutputError: the file cannot be written whole.
    """
    with told_as_output_error(path), _fixed_time():
        for layer in layers.values():
            options = {"GEOMETRY_NAME": _GEOMETRY, "DESCRIPTION": LAYERS[layer.name]}
            write_ogr(path, layer, driver="GPKG", options=options, dataset_options=_VERSION)
        _describe_columns(path, layers.values())
        _add_styles(path, {name: _style(layer) for name, layer in layers.items()})
        _check_rows(path, {name: layer.rows for name, layer in layers.items()})


def _style(layer: Layer) -> str:
    if layer.name == "changes":
        return changes_style(by_probability="probability_mean" not in layer.nulls)
    return {"footprint": footprint_style, "unknown": unknown_style}[layer.name]()


def copy_geopackage(old: str | os.PathLike[str], new: str | os.PathLike[str]) -> None:
    """Copy a GeoPackage with all that was saved in it.

    While QGIS has it open, the latest of that stands in a log beside it, which a copy of the file would lack.

    Raises:
        OutputError: it is being written to, or cannot be copied whole.
    """
    with told_as_output_error(new), closing(sqlite3.connect(old)) as source, closing(sqlite3.connect(new)) as copy:
        source.backup(copy)


def append_to_geopackage(path: str | os.PathLike[str], layers: Mapping[str, Layer]) -> None:
    """Add rows to the layers of a GeoPackage, which keeps everything else that is in it.

    Raises:
        OutputError: the file cannot be written whole.
    """
    before = _rows(path)
    with told_as_output_error(path), _fixed_time():
        for layer in layers.values():
            write_ogr(path, layer, driver="GPKG", append=True)
        _check_rows(path, {name: before.get(name, 0) + layer.rows for name, layer in layers.items()})


def _add_styles(path: str | os.PathLike[str], styles: Mapping[str, str]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_STYLES_TABLE)
        connection.execute(_REGISTER, (_CHANGED,))
        rows = [(layer, _GEOMETRY, f"changedet {layer}", qml, _CHANGED) for layer, qml in styles.items()]
        connection.executemany(_STYLE, rows)


def _describe_columns(path: str | os.PathLike[str], layers: Iterable[Layer]) -> None:
    rows = [(layer.name, name, COLUMNS[name]) for layer in layers for name in layer.schema.names if name in COLUMNS]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_COLUMNS_TABLE)
        connection.executemany(_REGISTER_COLUMNS, [("gpkg_data_columns",), ("gpkg_data_column_constraints",)])
        connection.execute(_CONSTRAINTS_TABLE)
        connection.executemany("INSERT INTO gpkg_data_columns VALUES (?, ?, NULL, NULL, ?, NULL, NULL)", rows)


def _check_rows(path: str | os.PathLike[str], expected: Mapping[str, int]) -> None:
    """Check that all is there: what does not fit on a disk any more may be lost without an error from GDAL."""
    found = {name: count for name, count in _rows(path).items() if name in expected}
    if found != expected:
        raise OutputError(f"{os.fspath(path)} holds {found} rows", expected=str(dict(expected)))


def _rows(path: str | os.PathLike[str]) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT table_name, feature_count FROM gpkg_ogr_contents").fetchall())


@contextmanager
def _fixed_time() -> Iterator[None]:
    option = "OGR_CURRENT_DATE"
    before = pyogrio.get_gdal_config_option(option)
    pyogrio.set_gdal_config_options({option: _CHANGED})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({option: before})
