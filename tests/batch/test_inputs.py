"""Which files tiles read, whatever the whole is made of."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from changedet.batch.inputs import Files, MosaicInputs, inputs_of
from changedet.batch.pieces import pieces_of
from changedet.config import RunConfig
from changedet.errors import SceneError
from changedet.grid import Window, plan_chips
from changedet.write.raster import RasterLayout
from changedet.write.vrt import TileFile, write_vrt
from tests.batch.kernel import BANDS
from tests.data import geobox, texture, write_raster

# Two parts side by side, on a grid of 64 x 128 px, and tiles of 32 px.
GRID = geobox(64, 128)
WINDOWS = np.array([[row, col, 32, 32] for row in (0, 32) for col in (0, 32, 64, 96)], dtype=np.int32)


def _part(path: Path, col: int, seed: int) -> Path:
    array = np.stack([texture(64, 64, seed=seed), texture(64, 64, seed=seed + 1)])
    return write_raster(path, array, transform=GRID[:, col : col + 64].affine, names=BANDS, nodata=-1)


def _vrt(folder: Path, name: str, seed: int) -> str:
    parts = [_part(folder / f"{name}-{col}.tif", col, seed + col) for col in (0, 64)]
    files = [TileFile(part.name, Window(0, 64 * number, 64, 64)) for number, part in enumerate(parts)]
    write_vrt(folder / f"{name}.vrt", RasterLayout(GRID, 2, "float32", -1.0, descriptions=BANDS), files)
    return str(folder / f"{name}.vrt")


def _index(folder: Path, name: str, seed: int) -> str:
    parts = [_part(folder / f"{name}-{col}.tif", col, seed + col) for col in (0, 64)]
    boxes = [shapely.box(*GRID[:, col : col + 64].boundingbox.bbox) for col in (0, 64)]
    path = folder / f"{name}.gti.gpkg"
    gpd.GeoDataFrame({"location": [part.name for part in parts]}, geometry=boxes, crs=GRID.crs.proj).to_file(path)
    return str(path)


def _looked_at(before: str, after: str, files: Files, **options: object) -> MosaicInputs:
    return inputs_of(before, after, GRID, RunConfig.model_validate(options), files)


@pytest.mark.parametrize("halo", [0, 8])
def test_a_tile_depends_on_the_parts_of_a_virtual_raster_that_its_chips_read(tmp_path: Path, halo: int) -> None:
    before, after = _vrt(tmp_path, "before", 0), _vrt(tmp_path, "after", 9)
    plan = plan_chips(64, 128, chip=32 + 2 * halo, halo=halo, stride=1)
    then = _looked_at(before, after, Files({})).of_tiles(plan, WINDOWS)
    _part(tmp_path / "after-64.tif", 64, 77)
    now = _looked_at(before, after, Files({})).of_tiles(plan, WINDOWS)
    changed = [one != other for one, other in zip(then.digests, now.digests, strict=True)]
    # With a halo the tiles left of the seam, at column 64, read across it.
    assert changed == [False, halo > 0, True, True] * 2
    assert now.covered.all()
    assert not now.identical.any()


def test_a_displacement_may_reach_into_the_next_part(tmp_path: Path) -> None:
    before, after = _vrt(tmp_path, "before", 0), _vrt(tmp_path, "after", 9)
    plan = plan_chips(64, 128, chip=32, halo=0, stride=1)
    then = _looked_at(before, after, Files({}), coregister=True).of_tiles(plan, WINDOWS)
    _part(tmp_path / "after-64.tif", 64, 77)
    now = _looked_at(before, after, Files({}), coregister=True).of_tiles(plan, WINDOWS)
    assert [one != other for one, other in zip(then.digests, now.digests, strict=True)] == [False, True, True, True] * 2


def test_files_are_known_again_by_what_they_hold(tmp_path: Path) -> None:
    before, after = _vrt(tmp_path, "before", 0), _vrt(tmp_path, "after", 9)
    files = Files({})
    then = _looked_at(before, after, files).digest
    again = Files(files.seen)
    (tmp_path / "after-0.tif").touch()
    assert _looked_at(before, after, again).digest == then
    assert {path: known[2] for path, known in again.seen.items()} == {p: k[2] for p, k in files.seen.items()}


def test_tiles_that_read_the_same_at_both_dates_are_told_from_those_of_missing_files(tmp_path: Path) -> None:
    before = _vrt(tmp_path, "before", 0)
    plan = plan_chips(64, 128, chip=32, halo=0, stride=1)
    same = _looked_at(before, before, Files({})).of_tiles(plan, WINDOWS)
    assert same.identical.all()
    (tmp_path / "before-64.tif").unlink()
    told = _looked_at(before, before, Files({})).of_tiles(plan, WINDOWS)
    assert told.identical.tolist() == [True, True, False, False] * 2
    assert told.digests[0] == same.digests[0]
    assert told.digests[3] != same.digests[3]


def test_tiles_without_a_source_are_not_covered(tmp_path: Path) -> None:
    before, after = _vrt(tmp_path, "before", 0), str(_part(tmp_path / "after.tif", 0, 9))
    told = _looked_at(before, after, Files({})).of_tiles(plan_chips(64, 128, chip=32, halo=0, stride=1), WINDOWS)
    assert told.covered.tolist() == [True, True, False, False] * 2


def test_the_parts_of_a_tile_index_are_told_apart(tmp_path: Path) -> None:
    pieces = pieces_of(_index(tmp_path, "after", 9), GRID)
    assert [Path(piece.path) for piece in pieces] == [tmp_path / "after-0.tif", tmp_path / "after-64.tif"]
    np.testing.assert_allclose([piece.rectangle for piece in pieces], [(0, 0, 64, 64), (0, 64, 64, 64)], atol=1e-6)


@pytest.mark.parametrize(("name", "content"), [("a.vrt", b"<VRTDataset>"), ("a.gti.gpkg", b"nothing")])
def test_what_names_no_files_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SceneError, match="cannot be read"):
        pieces_of(str(tmp_path / name), GRID)
