import pytest

from changedet.batch.manifest import IDENTICAL, Manifest, Mosaic, Tile
from changedet.errors import ConfigError
from changedet.grid import Window
from changedet.grid.window import blocks
from tests.batch.manifests import manifest_of, whole
from tests.data import geobox

GRID = geobox(100, 150)
WINDOWS = blocks(100, 150, 64)


def test_tiles_come_in_order_with_all_that_is_known_of_them():
    manifest = manifest_of(GRID, WINDOWS, skip=[None, IDENTICAL, None, None, None, None])
    assert [tile.window for tile in manifest.tiles()] == WINDOWS
    assert list(manifest.tiles())[1] == Tile("r0c64", "all", Window(0, 64, 64, 64), IDENTICAL)
    assert len(manifest) == 6


def test_only_mosaics_with_tiles_are_kept():
    mosaics = [Mosaic(name, "b", "a", whole(GRID)) for name in ("x", "y", "z")]
    manifest = manifest_of(GRID, WINDOWS, mosaics, names=["z", "x", "z", "z", "z", "z"])
    assert [mosaic.name for mosaic in manifest.mosaics] == ["x", "z"]
    assert manifest.mosaic("z") is mosaics[2]


def _mosaic(name, before="b", window=None):
    return Mosaic(name, before, "a", window or whole(GRID))


@pytest.mark.parametrize("wrong", ["", "..", ".hidden", "-o", "a/b", "a b", "ü", "a" * 101, None])
def test_an_id_that_is_no_name_of_a_folder_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"the id .* of a tile"):
        manifest_of(GRID, WINDOWS[:2], ids=["good", wrong])


def test_ids_that_differ_in_capitals_only_are_refused():
    with pytest.raises(ConfigError, match="several tiles have the id tile_a"):
        manifest_of(GRID, WINDOWS[:3], ids=["tile_a", "b", "Tile_A"])


@pytest.mark.parametrize("window", [(-1, 0, 5, 5), (96, 0, 5, 5), (0, 146, 5, 5), (0, 0, 2**31 - 1, 5)])
def test_a_tile_outside_its_mosaic_is_refused(window):
    with pytest.raises(ConfigError, match="inside their mosaic"):
        manifest_of(GRID, [WINDOWS[1], Window(*window)])


def test_a_tile_in_the_grid_but_not_in_its_mosaic_and_a_mosaic_outside_the_grid_are_refused():
    mosaics = [_mosaic("x", window=Window(0, 64, 64, 64))]
    assert len(manifest_of(GRID, WINDOWS[1:2], mosaics)) == 1
    with pytest.raises(ConfigError, match="inside their mosaic"):
        manifest_of(GRID, WINDOWS[:2], mosaics)
    with pytest.raises(ConfigError, match="in 100 x 150 px"):
        manifest_of(GRID, WINDOWS[:2], [_mosaic("x", window=Window(0, 0, 101, 150))])


def test_a_mosaic_that_is_not_there_or_there_twice_is_refused():
    for mosaics in ([_mosaic("x")], [_mosaic("all"), _mosaic("all", "c")]):
        with pytest.raises(ConfigError, match="one mosaic of each name"):
            manifest_of(GRID, WINDOWS[:1], mosaics, names=["all"])


def test_a_grid_without_a_place_and_no_tile_are_refused():
    with pytest.raises(ConfigError, match="without a CRS"):
        manifest_of(geobox(100, 150, crs=None), WINDOWS)
    with pytest.raises(ConfigError, match="without tiles"):
        manifest_of(GRID, [])


def test_the_digest_tells_batches_apart_and_nothing_else():
    one = manifest_of(GRID, WINDOWS)
    assert one.digest == manifest_of(GRID, WINDOWS).digest
    others = [
        manifest_of(geobox(100, 150, row=1), WINDOWS),
        manifest_of(GRID, WINDOWS[::-1]),
        manifest_of(GRID, WINDOWS, ids=list("abcdef")),
        manifest_of(GRID, WINDOWS, skip=[IDENTICAL] * 6),
        manifest_of(GRID, WINDOWS, [Mosaic("all", "/data/before.tif", "/data/after.tif", whole(GRID), "red=1")]),
        manifest_of(GRID, WINDOWS, aoi="/data/area.gpkg"),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 7


def test_the_digest_of_half_the_tiles_is_another():
    whole = manifest_of(GRID, WINDOWS)
    half = Manifest(GRID, whole.mosaics, whole.table.slice(0, 3))
    assert half.digest != whole.digest
