import json
import sqlite3
from contextlib import closing

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from changedet.errors import ConfigError, OutputExistsError
from changedet.write.targets import check_target, target_of, write_target
from tests.write.test_geopackage import layers

FILES = ["changes.gpkg", "changes.parquet", "changes.fgb", "changes.geojson"]
GROWING = [name for name in FILES if not name.endswith("fgb")]


def read(path):
    return gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)


def write(path, spooled, tables, **options):
    return write_target(target_of(str(path)), spooled(tables), **options)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("rows", [0, 5])
def test_every_format_gives_back_what_was_written(spooled, tmp_path, name, rows):
    tables = layers(changes=rows)
    assert write(tmp_path / name, spooled, tables) == rows

    found, wanted = read(tmp_path / name), tables["changes"]

    assert len(found) == rows
    if name.endswith("geojson") and rows == 0:
        return  # without features there are no columns
    assert [column for column in found.columns if column != "bbox"] == list(wanted.columns)
    found = found.sort_values("id", ignore_index=True)
    for column in ("area_m2", "class", "touches_edge", "probability_mean"):
        assert found[column].tolist() == wanted[column].tolist()
    assert found["direction"].isna().all()
    expected = wanted.geometry.to_crs(found.crs)
    # GeoJSON keeps seven decimals of a degree.
    assert (found.geometry.symmetric_difference(expected).area < 1e-2 * expected.area).all()


def test_geojson_is_longitude_and_latitude_with_outlines_anticlockwise(spooled, tmp_path):
    tables = layers(crs="EPSG:32633")
    clockwise = shapely.reverse(tables["changes"].geometry.to_numpy())
    tables["changes"] = tables["changes"].set_geometry(gpd.GeoSeries(clockwise, crs="EPSG:32633"))
    write(tmp_path / "changes.geojson", spooled, tables)

    content = json.loads((tmp_path / "changes.geojson").read_text())

    assert "crs" not in content
    rings = [feature["geometry"]["coordinates"][0][0] for feature in content["features"]]
    assert all(shapely.is_ccw(shapely.linearrings(ring)) for ring in rings)
    assert all(-180 <= x <= 180 and -90 <= y <= 90 for ring in rings for x, y in ring)


def test_geoparquet_has_a_covering_that_tells_where_each_row_lies(spooled, tmp_path):
    tables = layers(changes=4)
    write(tmp_path / "changes.parquet", spooled, tables)

    about = json.loads(pq.read_schema(tmp_path / "changes.parquet").metadata[b"geo"])
    column = about["columns"]["geometry"]
    assert about["version"] == "1.1.0"
    assert column["covering"]["bbox"]["ymax"] == ["bbox", "ymax"]
    boxes = pq.read_table(tmp_path / "changes.parquet", columns=["bbox"])["bbox"].to_pylist()
    assert [list(box.values()) for box in boxes] == tables["changes"].bounds.to_numpy().tolist()
    some = gpd.read_parquet(tmp_path / "changes.parquet", bbox=(35, 0, 45, 10))
    assert len(some) == 1


@pytest.mark.parametrize("name", GROWING)
def test_appending_adds_only_ids_that_are_not_there(spooled, tmp_path, name):
    path = tmp_path / name
    write(path, spooled, layers(changes=3))

    assert write(path, spooled, layers(changes=5), append=True) == 2
    assert write(path, spooled, layers(changes=5), append=True) == 0
    assert sorted(read(path)["id"]) == [f"{index:016x}" for index in range(5)]
    assert np.allclose(read(path).to_crs("EPSG:32633").area, 100, rtol=1e-2)


def test_appending_to_a_geopackage_keeps_its_other_layers_and_its_styles(spooled, tmp_path):
    path = tmp_path / "changes.gpkg"
    write(path, spooled, layers(changes=3))
    gpd.GeoDataFrame({"note": ["mine"]}, geometry=[shapely.Point(0, 0)], crs=32633).to_file(path, layer="notes")

    write(path, spooled, layers(changes=5), append=True)

    assert gpd.read_file(path, layer="notes").note.tolist() == ["mine"]
    assert set(gpd.list_layers(path).name) == {"changes", "footprint", "unknown", "notes", "layer_styles"}
    assert len(gpd.read_file(path, layer="unknown")) == 2


def test_appending_to_a_geopackage_that_is_open_elsewhere_keeps_what_was_saved_there(spooled, tmp_path):
    path = tmp_path / "changes.gpkg"
    write(path, spooled, layers(changes=3))
    with closing(sqlite3.connect(path)) as elsewhere:
        # As QGIS has it: what it saves stands in a log until it closes the file.
        elsewhere.execute("PRAGMA journal_mode = WAL")
        with elsewhere:
            elsewhere.execute("CREATE TABLE reviewed AS SELECT id FROM changes")
        write(path, spooled, layers(changes=5), append=True)

    assert sorted(read(path)["id"]) == [f"{index:016x}" for index in range(5)]
    with closing(sqlite3.connect(path)) as after:
        assert after.execute("SELECT count(*) FROM reviewed").fetchone() == (3,)
    assert not list(tmp_path.glob("*-wal"))


def test_appending_to_a_geojson_without_features(spooled, tmp_path):
    path = tmp_path / "changes.geojson"
    write(path, spooled, layers(changes=0))

    assert write(path, spooled, layers(changes=2), append=True) == 2
    text = path.read_text()
    assert write(path, spooled, layers(changes=0), append=True) == 0
    assert path.read_text() == text
    assert '"date_before": "2019-01-01"' in text


def test_appending_where_nothing_is_makes_a_file(spooled, tmp_path):
    assert write(tmp_path / "new.parquet", spooled, layers(changes=3), append=True) == 3


@pytest.mark.parametrize("name", GROWING[:2])
def test_appending_another_crs_or_other_columns_is_refused(spooled, tmp_path, name):
    path = tmp_path / name
    write(path, spooled, layers())
    before = path.read_bytes()

    with pytest.raises(ConfigError, match="the same coordinate system"):
        write(path, spooled, layers(crs="EPSG:4326"), append=True)
    wider = layers()
    wider["changes"]["extra"] = 1.0
    with pytest.raises(ConfigError, match="no column extra"):
        write(path, spooled, wider, append=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("layer", "why"), [("changes", "no column id"), ("roads", "no layer changes")])
def test_a_geopackage_of_somebody_else_is_refused_before_the_work(tmp_path, layer, why):
    theirs = target_of(str(tmp_path / "theirs.gpkg"))
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs=32631).to_file(theirs.where, layer=layer)
    with pytest.raises(ConfigError, match=why):
        check_target(theirs, append=True, overwrite=False)


def test_a_file_that_is_there_is_kept(spooled, tmp_path):
    path = tmp_path / "changes.fgb"
    write(path, spooled, layers())

    with pytest.raises(OutputExistsError, match="--append"):
        write(path, spooled, layers())
    with pytest.raises(ConfigError, match="indexed as a whole"):
        write(path, spooled, layers(), append=True)
    assert write(path, spooled, layers(changes=1), overwrite=True) == 1


def test_a_folder_is_neither_replaced_nor_added_to(tmp_path):
    folder = tmp_path / "changes.gpkg"
    folder.mkdir()
    for options in ({"append": True, "overwrite": False}, {"append": False, "overwrite": True}):
        with pytest.raises(OutputExistsError, match="is a folder"):
            check_target(target_of(str(folder)), **options)


@pytest.mark.parametrize("text", ["a.shp", "b.kml", "changes", "mysql://me:secret@host/db", "s3://bucket/a.gpkg"])
def test_what_cannot_be_written_is_refused_with_what_can(text):
    with pytest.raises(ConfigError, match=r"\*\.gpkg, \*\.parquet") as told:
        target_of(text)
    assert "secret" not in str(told.value)


def test_a_shapefile_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="10 letters"):
        target_of("changes.shp")


def test_a_target_shows_no_password():
    assert str(target_of("postgresql://me:secret@host/db?table=t")) == "postgresql://***@host/db?table=t"
