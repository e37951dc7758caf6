import json
import shutil

import geopandas as gpd
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from affine import Affine

from changedet.batch.manifest import OUTSIDE, Mosaic
from changedet.batch.manifest_file import read_manifest, write_manifest
from changedet.errors import ConfigError, NotFoundError, OutputExistsError
from changedet.grid import Lattice, Window
from changedet.grid.window import blocks
from tests.batch.manifests import manifest_of, whole
from tests.data import geobox

GRID = geobox(100, 150)
MOSAICS = [
    Mosaic("a", "/data/b.tif", "/data/a.tif", Window(0, 0, 100, 128), 'red=3,"odd"', ("2018-01-01", None)),
    Mosaic("b", "https://host/b.tif", "stac:/data/item.json", whole(GRID)),
]
FORMATS = pytest.mark.parametrize("name", ["tiles.parquet", "tiles.csv"])


def _manifest(grid=GRID):
    names = ["a", "b", "b", "a", "b", "b"]
    return manifest_of(
        grid, blocks(100, 150, 64), MOSAICS, names=names, skip=[OUTSIDE, *[None] * 5], lattice=Lattice(64, 0, 1)
    )


@FORMATS
@pytest.mark.parametrize(
    "grid",
    [
        GRID,
        geobox(100, 150, crs="EPSG:4326", transform=Affine(1 / 3e4, 0, 0.1, 0, -1 / 3e4, 1 / 7)),
        geobox(100, 150, crs="+proj=laea +lat_0=10 +lon_0=-81 +ellps=WGS84", transform=Affine(9, 1, 5, 1, -9, 6)),
    ],
)
def test_what_was_written_is_read(tmp_path, name, grid):
    manifest = _manifest(grid)
    write_manifest(tmp_path / name, manifest)
    read = read_manifest(tmp_path / name)
    assert (read.geobox, read.mosaics, read.lattice) == (manifest.geobox, manifest.mosaics, manifest.lattice)
    assert read.table == manifest.table
    assert read.digest == manifest.digest


@FORMATS
def test_sources_beside_the_manifest_move_with_it(tmp_path, name):
    home = tmp_path / "home"
    mosaics = [Mosaic("m", str(home / "b.vrt"), f"{home / 'a1.tif'},{home / 'deep' / 'a2.tif'}", whole(GRID))]
    write_manifest(home / name, manifest_of(GRID, blocks(100, 150, 64), mosaics, aoi=str(home / "area.gpkg")))
    shutil.move(home, tmp_path / "away")
    away = tmp_path / "away"
    read = read_manifest(away / name)
    moved = Mosaic("m", str(away / "b.vrt"), f"{away / 'a1.tif'},{away / 'deep' / 'a2.tif'}", whole(GRID))
    assert read.mosaics == (moved,)
    assert read.aoi == str(away / "area.gpkg")


def test_other_programs_read_the_geometries(tmp_path):
    manifest = _manifest()
    write_manifest(tmp_path / "tiles.parquet", manifest)
    write_manifest(tmp_path / "tiles.csv", manifest)
    table = gpd.read_parquet(tmp_path / "tiles.parquet")
    assert table.crs == "EPSG:32633"
    assert table.geometry.area.sum() == 100 * 150 * 10 * 10
    assert table.geometry[0].bounds == (500_000, 5_599_360, 500_640, 5_600_000)
    plain = gpd.GeoSeries.from_wkt(pd.read_csv(tmp_path / "tiles.csv").geometry)
    assert shapely.equals(plain.array, table.geometry.array).all()
    assert {"version": "1.1.0"}.items() <= _geo_metadata(tmp_path / "tiles.parquet").items()


def _geo_metadata(path):
    return json.loads(pq.read_schema(path).metadata[b"geo"])


def test_rows_filtered_and_sorted_by_other_programs_are_a_manifest_still(tmp_path):
    manifest = _manifest()
    write_manifest(tmp_path / "tiles.parquet", manifest)
    table = gpd.read_parquet(tmp_path / "tiles.parquet")
    table = table[table.mosaic == "b"].iloc[::-1].assign(note="ours").drop(columns=["skip", "bands"])
    table.to_parquet(tmp_path / "half.parquet")
    pd.DataFrame(table.drop(columns="geometry")).to_csv(tmp_path / "half.csv", index=False)
    kept = [tile for tile in manifest.tiles() if tile.mosaic == "b"][::-1]
    for name in ("half.parquet", "half.csv"):
        read = read_manifest(tmp_path / name)
        assert list(read.tiles()) == kept
        assert read.geobox == GRID
        assert read.mosaics == (MOSAICS[1],)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", "PAR1 but not really PAR1", "is no manifest"),
        ("a.csv", "id,mosaic\nx,y\n", "it has no column before, after, mosaic_row"),
        ("a.csv", "", "is no manifest"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_manifest(tmp_path / name)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("crs", "EPSG:4326", "differ in crs"),
        ("before", "/elsewhere.tif", "one mosaic of each name"),
        ("row", "many", "many"),
        ("row", "-3", "inside their mosaic"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(tmp_path, column, value, message):
    path = tmp_path / "tiles.csv"
    write_manifest(path, _manifest())
    table = pd.read_csv(path, dtype=str)
    table.loc[0, column] = value
    table.to_csv(path, index=False)
    with pytest.raises(ConfigError, match=message):
        read_manifest(path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("before", None, "nothing stands in the column before"),
        ("mosaic", None, "nothing stands in the column mosaic"),
        ("row", None, "nothing stands in the column row"),
        ("grid_height", None, "nothing stands in the column grid_height"),
        ("transform", "1 2 3 4 5", "is no manifest"),
        ("transform", "0 0 1 0 0 2", "gives pixels no area"),
        ("crs", "EPSG:0", "is no manifest(.|\n)*EPSG:0"),
    ],
)
def test_what_was_lost_in_another_program_is_told(tmp_path, suffix, column, value, message):
    path = tmp_path / f"tiles.{suffix}"
    write_manifest(path, _manifest())
    read, write = (pd.read_csv, "to_csv") if suffix == "csv" else (pd.read_parquet, "to_parquet")
    table = read(path)
    table[column] = value
    getattr(table, write)(path, index=False)
    with pytest.raises(ConfigError, match=message):
        read_manifest(path)


def test_refusals_of_files(tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.parquet or \.csv"):
        write_manifest(tmp_path / "tiles.gpkg", _manifest())
    with pytest.raises(NotFoundError, match="batch plan makes one"):
        read_manifest(tmp_path / "tiles.csv")
    write_manifest(tmp_path / "tiles.csv", _manifest())
    with pytest.raises(OutputExistsError):
        write_manifest(tmp_path / "tiles.csv", _manifest())
    write_manifest(tmp_path / "tiles.csv", _manifest(), overwrite=True)
