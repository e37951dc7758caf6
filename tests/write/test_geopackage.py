import sqlite3
from contextlib import closing

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal

from changedet.errors import OutputError
from changedet.write import columns as told_columns
from changedet.write.geopackage import write_geopackage
from tests.data import write_raster
from tests.vectorize.tables import tables as tables_of

LAYERS = ("changes", "footprint", "unknown")


def squares(count, size=10.0):
    return [shapely.MultiPolygon([shapely.box(x, 0, x + size, size)]) for x in np.arange(count) * 2 * size]


def layers(changes=3, unknown=2, *, probability=0.7, crs="EPSG:32633"):
    """Tables as `vectorize` gives them: text columns that may be all null, and none without a type."""
    columns = {
        "id": pd.array([f"{index:016x}" for index in range(changes)], dtype="string"),
        "area_m2": np.linspace(100, 300, changes),
        "probability_mean": np.full(changes, probability),
        "class": np.arange(changes, dtype=np.int32),
        "direction": pd.array([None] * changes, dtype="string"),
        "touches_edge": np.arange(changes) % 2 == 1,
        "date_before": pd.array(["2019-01-01"] * changes, dtype="string"),
    }
    return {
        "changes": gpd.GeoDataFrame(columns, geometry=squares(changes), crs=crs),
        "footprint": gpd.GeoDataFrame(
            {"id": pd.array(["f"], dtype="string"), "area_m2": [5e4]}, geometry=squares(1, 500), crs=crs
        ),
        "unknown": gpd.GeoDataFrame(
            {
                "id": pd.array([f"u{index}" for index in range(unknown)], dtype="string"),
                "area_m2": np.full(unknown, 7.0),
            },
            geometry=squares(unknown),
            crs=crs,
        ),
    }


def rows(path, query):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "+proj=laea +lat_0=47 +lon_0=6 +ellps=GRS80"])
def test_written_and_read_is_the_same(spooled, tmp_path, crs):
    tables = layers(crs=crs)
    write_geopackage(tmp_path / "changes.gpkg", spooled(tables))

    for name, table in tables.items():
        read = gpd.read_file(tmp_path / "changes.gpkg", layer=name)
        texts = {column: object for column in table.columns if table[column].dtype == "string"}
        assert_geodataframe_equal(
            read.astype(texts).fillna(np.nan), table.astype(texts).fillna(np.nan), check_crs=crs.startswith("EPSG")
        )
        assert read.crs.equals(table.crs, ignore_axis_order=True)


def test_empty_layers_have_the_same_columns_types_and_crs(spooled, tmp_path):
    for name, tables in {"full": layers(), "empty": layers(changes=0, unknown=0)}.items():
        write_geopackage(tmp_path / f"{name}.gpkg", spooled(tables))

    for layer in LAYERS:
        full, empty = (pyogrio.read_info(tmp_path / f"{name}.gpkg", layer=layer) for name in ("full", "empty"))
        for key in ("fields", "ogr_types", "ogr_subtypes"):
            assert list(full[key]) == list(empty[key])
        assert full["geometry_type"] == empty["geometry_type"] == "MultiPolygon"
        assert full["crs"] == empty["crs"] == "EPSG:32633"
    assert len(gpd.read_file(tmp_path / "empty.gpkg", layer="changes")) == 0


def test_qgis_finds_a_default_style_for_each_layer(spooled, tmp_path):
    path = tmp_path / "changes.gpkg"
    write_geopackage(path, spooled(layers()))

    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "SELECT data_type FROM gpkg_contents WHERE table_name = 'layer_styles'") == [("attributes",)]
    columns = rows(path, "SELECT table_name, column_name FROM gpkg_geometry_columns ORDER BY table_name")
    styles = rows(
        path, "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles ORDER BY f_table_name"
    )
    assert [style[:2] for style in styles] == columns
    assert {style[2] for style in styles} == {1}
    assert "graduatedSymbol" in styles[0][3]


def test_layers_and_columns_say_what_they_mean(spooled, tmp_path):
    path = tmp_path / "changes.gpkg"
    write_geopackage(path, spooled(layers()))

    for layer in LAYERS:
        assert pyogrio.read_info(path, layer=layer)["layer_metadata"]["DESCRIPTION"] == told_columns.LAYERS[layer]
    told = dict(rows(path, "SELECT column_name, description FROM gpkg_data_columns WHERE table_name = 'changes'"))
    named = {name for _, name, *_ in rows(path, "PRAGMA table_info(changes)")} - {"fid", "geom"}
    assert told == {name: told_columns.COLUMNS[name] for name in named if name in told_columns.COLUMNS}
    assert {"id", "area_m2", "probability_mean"} <= told.keys()
    registered = rows(path, "SELECT table_name FROM gpkg_extensions WHERE extension_name = 'gpkg_schema'")
    assert sorted(registered) == [("gpkg_data_column_constraints",), ("gpkg_data_columns",)]


def test_every_column_of_a_run_is_described(tmp_path):
    mask = write_raster(tmp_path / "mask.tif", np.array([[0, 1], [2, 0]], np.uint8))
    found = tables_of(mask)
    names = {name for layer in LAYERS for name in getattr(found, layer).columns} - {"geometry"}
    assert names == told_columns.COLUMNS.keys()


def test_without_probabilities_polygons_are_not_coloured_by_them(spooled, tmp_path):
    write_geopackage(tmp_path / "changes.gpkg", spooled(layers(probability=np.nan)))

    (style,) = rows(tmp_path / "changes.gpkg", "SELECT styleQML FROM layer_styles WHERE f_table_name = 'changes'")
    assert "singleSymbol" in style[0]


def test_equal_tables_give_equal_bytes_and_the_time_setting_is_given_back(spooled, tmp_path):
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    for name in ("one", "two"):
        write_geopackage(tmp_path / f"{name}.gpkg", spooled(layers()))

    assert (tmp_path / "one.gpkg").read_bytes() == (tmp_path / "two.gpkg").read_bytes()
    assert rows(tmp_path / "one.gpkg", "SELECT DISTINCT last_change FROM gpkg_contents") == [
        ("1970-01-01T00:00:00.000Z",)
    ]
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == before


def test_a_folder_that_is_not_there_is_told(spooled, tmp_path):
    with pytest.raises(OutputError, match="could not be written"):
        write_geopackage(tmp_path / "absent" / "changes.gpkg", spooled(layers()))


@pytest.mark.parametrize("left_kb", [4, 150, 500])
def test_a_full_disk_is_told(spooled, small_disk, left_kb):
    (small_disk / "somebody else").write_bytes(bytes(2 * 2**20 - left_kb * 1024))
    with pytest.raises(OutputError, match="could not be written"):
        write_geopackage(small_disk / "changes.gpkg", spooled(layers(changes=20_000)))
