"""The oracle is the whole raster: its pieces, put together again, must be read as it is, validity included."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pystac
import pytest
import rasterio

from changedet.batch.mosaic import Place, can_be_mosaicked, on_one_lattice, signature, union, write_mosaic
from changedet.grid import Window
from changedet.grid.window import blocks
from changedet.read import RasterPair, open_scene
from changedet.read.pair import PairOptions, common_bands
from tests.data import NORTH_UP, geobox, texture, write_raster

HEIGHT, WIDTH = 60, 80
WHOLE = Window(-5, -5, HEIGHT + 10, WIDTH + 10)


def _stored(dtype):
    image = np.stack([texture(HEIGHT, WIDTH, seed=seed) for seed in range(3)])
    return image.astype(dtype) if dtype.startswith("float") else np.rint(1 + image * 200).astype(dtype)


def _pieces(folder, whole, stem, *, size=32, **options):
    """Write a raster cut into files, overlapping by two pixels."""
    folder.mkdir(exist_ok=True)
    paths = []
    for block in blocks(HEIGHT, WIDTH, size):
        row, col = block.row, block.col
        window = Window(row, col, min(size + 2, HEIGHT - row), min(size + 2, WIDTH - col))
        rows, cols = window.slices
        own = {name: value[rows, cols] if isinstance(value, np.ndarray) else value for name, value in options.items()}
        path = folder / f"{stem}_{row}_{col}.tif"
        transform = NORTH_UP * NORTH_UP.translation(col, row)
        paths.append(write_raster(path, whole[:, rows, cols], transform=transform, **own))
    return paths


def _read(scene):
    scene = open_scene(scene) if isinstance(scene, str) else scene
    bands = common_bands(scene, scene)
    with RasterPair(scene.select(bands), scene.select(bands), PairOptions()) as pair:
        return pair.read(WHOLE)


def _mosaic(folder, scenes, name="m"):
    made = folder / "work"
    made.mkdir()
    told = write_mosaic(Place(made, folder / "final", folder), name, scenes)
    made.replace(folder / "final")
    return told


HOLE = np.ones((HEIGHT, WIDTH), bool)
HOLE[20:45, 25:50] = False


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint16", {}),
        ("uint16", {"nodata": 0}),
        ("int16", {"nodata": -9999}),
        ("int16", {}),
        ("uint8", {"mask": HOLE}),
        ("uint8", {"alpha": np.where(HOLE, 255, 0).astype(np.uint8)}),
        ("float32", {}),
        ("float32", {"nodata": -1.0}),
        ("float32", {"nodata": np.nan}),
        ("uint16", {"nodata": 65535, "names": ("B04", "B03", "B02"), "tags": {"ACQUISITION_DATE": "2018-03-28"}}),
        ("uint16", {"scale": 1e-4, "offset": -0.1, "names": ("red", "odd <&> name", "nir")}),
    ],
)
def test_pieces_are_read_as_the_whole(tmp_path, dtype, options, missing):
    stored = _stored(dtype)
    empty = options.get("nodata", np.nan if dtype == "float32" else 0)
    stored[:, ~HOLE] = 0 if empty is None else empty
    scenes = [open_scene(path) for path in _pieces(tmp_path / "in", stored, "t", **options)]
    if missing:
        # No file at all lies there: as if its pixels had been no data.
        scenes = [scene for scene in scenes if not scene.path.endswith("t_0_64.tif")]
    whole = open_scene(write_raster(tmp_path / "whole.tif", stored, **options))
    expected, got = _read(whole), _read(_mosaic(tmp_path, scenes))
    valid = expected.valid.copy()
    if missing:
        valid[5 : 5 + 32, 5 + 66 : 5 + WIDTH] = False
    np.testing.assert_array_equal(got.valid, valid)
    np.testing.assert_array_equal(got.before[:, valid], expected.before[:, valid])
    mosaic = open_scene(str(tmp_path / "final" / "m" / "m.vrt"))
    assert mosaic.date == whole.date
    assert mosaic.names == whole.names


def test_folders_of_bands_become_an_item_with_their_bands_each_at_its_resolution(tmp_path):
    fine, coarse = _stored("uint16")[:1], _stored("uint16")[:1, ::2, ::2]
    scenes = []
    for number, col in enumerate((0, 40)):
        folder = tmp_path / f"tile{number}"
        folder.mkdir()
        for name, band, scale in (("B04", fine, 1), ("B08", coarse, 2)):
            part = band[:, :, col // scale : (col + 40) // scale]
            transform = NORTH_UP * NORTH_UP.translation(col, 0) * NORTH_UP.scale(scale)
            write_raster(folder / f"{name}.tif", part, transform=transform)
        scenes.append(replace(open_scene(folder), date="2018-03-28"))
    whole = tmp_path / "whole"
    whole.mkdir()
    write_raster(whole / "B04.tif", fine)
    write_raster(whole / "B08.tif", coarse, transform=NORTH_UP * NORTH_UP.scale(2))
    told = _mosaic(tmp_path, scenes)
    assert told == f"stac:{tmp_path / 'final' / 'm' / 'item.json'}"
    expected, got = _read(open_scene(whole)), _read(told)
    np.testing.assert_array_equal(got.valid, expected.valid)
    np.testing.assert_array_equal(got.before, expected.before)
    pystac.Item.from_file(told.removeprefix("stac:")).validate()


def test_the_quality_bands_of_items_are_put_together_too(tmp_path):
    stored, scl = _stored("uint16")[:1], np.full((1, HEIGHT, WIDTH), 4, np.uint8)
    scl[:, 10:20, 30:50] = 9  # cloud, on both sides of the cut
    scenes = []
    for number, col in enumerate((0, 40)):
        transform = NORTH_UP * NORTH_UP.translation(col, 0)
        write_raster(tmp_path / f"red{number}.tif", stored[:, :, col : col + 40], transform=transform)
        write_raster(tmp_path / f"scl{number}.tif", scl[:, :, col : col + 40], transform=transform)
        assets = {
            "red": {"href": f"red{number}.tif", "bands": [{"name": "red"}]},
            "scl": {"href": f"scl{number}.tif"},
        }
        item = {"type": "Feature", "id": "x", "properties": {"datetime": "2018-03-28T00:00:00Z"}, "assets": assets}
        (tmp_path / f"{number}.json").write_text(json.dumps(item))
        scenes.append(open_scene(f"stac:{tmp_path / f'{number}.json'}"))
    told = _mosaic(tmp_path, scenes)
    assert open_scene(told).date == "2018-03-28"
    valid = _read(told).valid[5:-5, 5:-5]
    assert not valid[10:20, 30:50].any()
    assert valid.sum() == HEIGHT * WIDTH - 10 * 20


def test_names_of_files_are_escaped_and_relative_where_all_may_move_together(tmp_path):
    (path,) = _pieces(tmp_path / "a & <b>", _stored("uint8"), "t", size=100)
    _mosaic(tmp_path, [open_scene(path), open_scene(path)])
    root = ET.parse(tmp_path / "final" / "m" / "m.vrt").getroot()  # noqa: S314  # we wrote it
    names = {(node.get("relativeToVRT"), node.text) for node in root.iter("SourceFilename")}
    assert names == {("1", f"../../a & <b>/{path.name}")}
    (tmp_path / "moved").mkdir()
    (tmp_path / "final").rename(tmp_path / "moved" / "final")
    path.parent.rename(tmp_path / "moved" / "a & <b>")
    with rasterio.open(tmp_path / "moved" / "final" / "m" / "m.vrt") as dataset:
        np.testing.assert_array_equal(dataset.read(), _stored("uint8"))


def test_what_differs_is_told_apart(tmp_path):
    stored = _stored("uint16")
    one = open_scene(write_raster(tmp_path / "one.tif", stored))
    far = open_scene(write_raster(tmp_path / "far.tif", stored, transform=NORTH_UP * NORTH_UP.translation(900, 7)))
    off = open_scene(write_raster(tmp_path / "off.tif", stored, transform=NORTH_UP * NORTH_UP.translation(0.5, 0)))
    tagged = open_scene(write_raster(tmp_path / "tagged.tif", stored, nodata=0))
    large = open_scene(write_raster(tmp_path / "double.tif", stored.astype("float64")))
    assert on_one_lattice(one, far)
    assert not on_one_lattice(one, off)
    assert len({signature(scene) for scene in (one, far, off, tagged, large)}) == 3
    assert all(map(can_be_mosaicked, (one, large)))


def test_the_union_of_grids_holds_them_all():
    parts = [geobox(10, 10, row=5, col=7), geobox(3, 40, row=-2, col=30), geobox(5, 5, row=20, col=-4)]
    assert union(parts) == geobox(27, 74, row=-2, col=-4)
