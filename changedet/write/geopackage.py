"""GeoPackages that QGIS opens coloured."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import geopandas as gpd
import pyogrio
from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError

from changedet.errors import OutputError
from changedet.write.style import changes_style, footprint_style, unknown_style

_GEOMETRY = "geom"
# The format wants a time of last change. With a fixed one the same layers are the same bytes; times are in run.json.
_CHANGED = "1970-01-01T00:00:00.000Z"
_PYOGRIO_ERRORS = (CRSError, DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError)

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


def write_geopackage(
    path: str | os.PathLike[str], *, changes: gpd.GeoDataFrame, footprint: gpd.GeoDataFrame, unknown: gpd.GeoDataFrame
) -> None:
    """Write three layers of MultiPolygons and their styles into one new GeoPackage.

    A table without rows becomes a valid layer with the same columns, geometry type and CRS. Equal tables give equal
    bytes.

    Args:
        path: file to make; it must not exist.
        changes: with the column `probability_mean`, by which it is coloured where not null.
        footprint: what was comparable.
        unknown: what was not.

    Raises:
        OutputError: the file cannot be written whole.
    """
    layers = {"changes": changes, "footprint": footprint, "unknown": unknown}
    by_probability = changes.empty or bool(changes["probability_mean"].notna().all())
    styles = {
        "changes": changes_style(by_probability=by_probability),
        "footprint": footprint_style(),
        "unknown": unknown_style(),
    }
    with _told_as_output_error(path), _fixed_time():
        for name, layer in layers.items():
            _write_layer(path, name, layer)
        _add_styles(path, styles)
        _check_rows(path, {name: len(layer) for name, layer in layers.items()})


def _write_layer(path: str | os.PathLike[str], name: str, layer: gpd.GeoDataFrame) -> None:
    pyogrio.write_dataframe(
        layer, path, layer=name, driver="GPKG", geometry_type="MultiPolygon", layer_options={"GEOMETRY_NAME": _GEOMETRY}
    )


def _add_styles(path: str | os.PathLike[str], styles: Mapping[str, str]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_STYLES_TABLE)
        connection.execute(_REGISTER, (_CHANGED,))
        rows = [(layer, _GEOMETRY, f"changedet {layer}", qml, _CHANGED) for layer, qml in styles.items()]
        connection.executemany(_STYLE, rows)


def _check_rows(path: str | os.PathLike[str], expected: Mapping[str, int]) -> None:
    """Check that all is there: what does not fit on a disk any more may be lost without an error from GDAL."""
    with closing(sqlite3.connect(path)) as connection:
        found = dict(connection.execute("SELECT table_name, feature_count FROM gpkg_ogr_contents").fetchall())
    if found != expected:
        raise OutputError(f"{os.fspath(path)} holds {found} rows", expected=str(dict(expected)))


@contextmanager
def _fixed_time() -> Iterator[None]:
    option = "OGR_CURRENT_DATE"
    before = pyogrio.get_gdal_config_option(option)
    pyogrio.set_gdal_config_options({option: _CHANGED})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({option: before})


@contextmanager
def _told_as_output_error(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (*_PYOGRIO_ERRORS, sqlite3.Error) as error:
        raise OutputError(
            f"{os.fspath(path)} could not be written ({error})",
            expected=f"a new file in a folder with room for it: {Path(path).parent}",
            remedy="free some space, or another -o",
        ) from error
