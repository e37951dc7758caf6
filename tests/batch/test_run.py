"""Batches: any tile grid gives the bytes of one run, what is done is not done again, failures are data."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from odc.geo.geobox import GeoBox

from changedet.batch import run as batch_run
from changedet.batch.engine import Finished
from changedet.batch.manifest import IDENTICAL, OUTSIDE, Manifest
from changedet.batch.manifest_file import write_manifest
from changedet.batch.outcome import DONE, FAILED, LEFT, SKIPPED
from changedet.batch.plan import plan_batch
from changedet.batch.run import BatchResult, retry_batch, run_batch
from changedet.batch.tile import INVALID, Workbench, _alone, process_tile
from changedet.config import RunConfig
from changedet.errors import ConfigError, OutputError, OutputExistsError
from changedet.grid import Window
from changedet.grid.quantise import NODATA, stored_threshold
from changedet.read.scene import Scene
from changedet.write.raster import RasterLayout
from changedet.write.vrt import TileFile, write_vrt
from tests.batch.kernel import (
    BANDS,
    MEMORY,
    THRESHOLD,
    InlineEngine,
    KernelMethod,
    expected,
    kernel_method,
    manifest_over,
    stored,
    write_scenes,
)
from tests.data import UTM, write_raster


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the tiles that workers were asked for, which are this process."""
    asked: list[str] = []

    class Listening(InlineEngine):
        def map(self, function: Any, tasks: Any) -> Any:
            for finished in super().map(function, tasks):
                if function is process_tile:
                    asked.append(self.asked[-1][2].id)
                yield finished

    monkeypatch.setattr(batch_run, "Engine", Listening)
    return asked


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


def _run(manifest: Manifest, folder: Path, **options: Any) -> BatchResult:
    write_manifest(folder / "m.parquet", manifest, overwrite=True)
    return run_batch(folder / "m.parquet", folder / "out", method_of=kernel_method, **{"max_memory": MEMORY, **options})


@pytest.mark.parametrize("size", [60, 64, 37, 300])
def test_tiles_of_any_size_hold_the_bytes_of_the_whole(
    size: int, scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str]
) -> None:
    result = _run(manifest_over(*scenes, size), tmp_path)
    whole = expected(*scenes)
    np.testing.assert_array_equal(stored(result.out, result.outcomes), whole)
    mask = np.where(whole == NODATA, NODATA, whole >= stored_threshold(THRESHOLD))
    np.testing.assert_array_equal(stored(result.out, result.outcomes, "mask.tif"), mask)
    assert sum(result.outcomes.table["changed_px"].drop_null().to_pylist()) == (mask == 1).sum() > 1000
    assert sum(result.outcomes.table["known_px"].drop_null().to_pylist()) == (mask != NODATA).sum()
    chips = json.loads((result.out / "mosaics" / "000000.json").read_text())["chips"]
    assert chips["chips"] == 3 * 4  # there are seams to be seen


def test_what_is_done_is_not_done_again(scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str]) -> None:
    manifest = manifest_over(*scenes, 60)
    first = _run(manifest, tmp_path)
    assert len(tiles) == len(manifest) == 12
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tif")}
    again = _run(manifest, tmp_path)
    assert len(tiles) == 12
    assert again.outcomes.table == first.outcomes.table
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tif")} == times


def test_what_another_version_learned_in_another_form_is_refused_before_any_tile(
    scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str]
) -> None:
    manifest = manifest_over(*scenes, 90)
    _run(manifest, tmp_path)
    kept = tmp_path / "out" / "mosaics" / "000000.json"
    record = json.loads(kept.read_text())
    del record["form"], record["preparation"]["displacement_removed_before_px"]
    kept.write_text(json.dumps(record))
    del tiles[:]
    with pytest.raises(ConfigError, match=r"000000\.json is of form 1(.|\n)*try: run again with --overwrite"):
        _run(manifest, tmp_path)
    assert tiles == []
    assert len(_run(manifest, tmp_path, overwrite=True).outcomes.table) == len(tiles) == len(manifest)


def test_a_worker_loads_the_model_once_for_all_tiles_of_all_mosaics(
    scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in scenes:
        (tmp_path / path.stem).mkdir()
        for name in "ab":
            shutil.copy(path, tmp_path / path.stem / f"{name}.tif")
    folders = (tmp_path / path.stem for path in scenes)
    plan_batch(*folders, tmp_path / "m.parquet", apart=True, tile_size="60", method_of=kernel_method, max_memory=MEMORY)
    loaded: list[RunConfig] = []

    def counted(pair: tuple[Scene, Scene], config: RunConfig) -> KernelMethod:
        loaded.append(config)
        return kernel_method(pair, config)

    bench = Workbench()  # that of a worker which has just begun
    monkeypatch.setattr("changedet.batch.tile._bench", lambda: bench)
    run_batch(tmp_path / "m.parquet", tmp_path / "out", method_of=counted, max_memory=MEMORY)
    assert len(tiles) == 2 * 12
    assert len(loaded) == 2 + 1  # to prepare each mosaic, and for the tiles
    _alone(Workbench.close)


def test_a_change_of_options_does_all_tiles_again_and_one_that_the_tiles_do_not_see_none(
    scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str]
) -> None:
    manifest = manifest_over(*scenes, 90)
    _run(manifest, tmp_path)
    del tiles[:]
    assert _run(manifest, tmp_path, min_area=500.0, retries=1).redone["parameters"] == 0
    assert tiles == []
    result = _run(manifest, tmp_path, threshold=0.4)
    assert (result.redone, len(tiles)) == ({"inputs": 0, "parameters": 6, "model": 0}, 6)
    mask = stored(result.out, result.outcomes, "mask.tif")
    assert ((mask == 1) == (expected(*scenes) >= stored_threshold(0.4)) & (mask != NODATA)).all()


def test_another_model_does_all_tiles_again(
    scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_over(*scenes, 90)
    _run(manifest, tmp_path)
    monkeypatch.setattr("tests.batch.kernel.KernelMethod.digest", "n" * 64)
    # The record of the mosaic is of the other model: a model file that changed makes it be learned anew.
    (tmp_path / "out" / "mosaics" / "000000.json").unlink()
    assert _run(manifest, tmp_path).redone == {"inputs": 0, "parameters": 0, "model": 6}
    assert len(tiles) == 12


def test_a_changed_file_does_its_tiles_again_and_no_others(tmp_path: Path, tiles: list[str]) -> None:
    before, after = write_scenes(tmp_path)
    vrt = _split(after, tmp_path, 120)
    manifest = manifest_over(before, vrt, 60)
    _run(manifest, tmp_path)
    del tiles[:]
    left, _ = sorted(tmp_path.glob("part*.tif"))
    left.touch()  # the same bytes at another time
    assert _run(manifest, tmp_path).redone == {"inputs": 0, "parameters": 0, "model": 0}
    _brighten(left)
    result = _run(manifest, tmp_path)
    # Half the tiles lie in the part, and those right of it read its pixels through their halos.
    columns = sorted({int(name.partition("c")[2]) for name in tiles})
    assert (columns, len(tiles), result.redone["inputs"]) == ([0, 60, 120], 9, 9)
    np.testing.assert_array_equal(stored(result.out, result.outcomes), expected(before, vrt))


def _split(path: Path, folder: Path, col: int) -> Path:
    """Write a scene as two files side by side, and a virtual raster over both."""
    with rasterio.open(path) as dataset:
        array, geobox = dataset.read(), GeoBox.from_rio(dataset)
    height, width = array.shape[1:]
    parts = []
    for start, stop in ((0, col), (col, width)):
        part = write_raster(
            folder / f"part{start:03d}.tif",
            array[:, :, start:stop],
            transform=geobox[:, start:stop].affine,
            names=BANDS,
            nodata=-1,
        )
        parts.append(TileFile(part.name, Window(0, start, height, stop - start)))
    layout = RasterLayout(geobox, len(array), "float32", -1.0, descriptions=BANDS)
    write_vrt(folder / "after.vrt", layout, parts)
    return folder / "after.vrt"


def _brighten(path: Path) -> None:
    with rasterio.open(path, "r+") as dataset:
        array = dataset.read()
        dataset.write(np.where(array == -1, -1, array + 0.2).astype(np.float32))


def test_a_changed_area_does_the_tiles_again(scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str]) -> None:
    def write(right: int) -> None:
        gpd.GeoSeries([shapely.box(500_000, 5_598_200, right, 5_600_000)], crs=UTM).to_file(tmp_path / "area.gpkg")

    write(502_400)
    manifest = replace(manifest_over(*scenes, 120), aoi=str(tmp_path / "area.gpkg"))
    whole = _run(manifest, tmp_path)
    write(502_000)
    del tiles[:]
    part = _run(manifest, tmp_path)
    assert len(tiles) == len(manifest)
    assert part.redone["parameters"] == len(manifest)
    assert part.record["areas"]["comparable_m2"] < 0.9 * whole.record["areas"]["comparable_m2"]


def test_a_broken_input_is_a_row_and_the_others_go_on(tmp_path: Path, tiles: list[str]) -> None:
    # Wide enough for the pair to be looked at where nothing is broken.
    before, after = write_scenes(tmp_path, 120, 480)
    vrt = _split(after, tmp_path, 360)
    manifest = manifest_over(before, vrt, 60)
    part = tmp_path / "part360.tif"
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) * 2 // 3])
    result = _run(manifest, tmp_path, any_resolution=True)
    # All that read of the part, those beside it through their halos too, and no others.
    failed = {row["id"] for row in result.failures(16)}
    assert failed == {f"r{row}c{col}" for row in (0, 60) for col in (300, 360, 420)}
    row = result.failures(1)[0]
    assert (row["error"], row["has_files"]) == ("SceneError", False)
    assert "part360.tif" in row["message"]
    del tiles[:]
    assert _run(manifest, tmp_path, any_resolution=True).failed == len(failed)
    assert tiles == []  # nothing changed that they follow from
    retry_batch(tmp_path / "out", method_of=kernel_method)
    assert set(tiles) == failed
    part.write_bytes(whole)
    again = retry_batch(tmp_path / "out", method_of=kernel_method)
    assert again.failed == 0
    np.testing.assert_array_equal(stored(again.out, again.outcomes), expected(before, after))


def test_a_mosaic_that_cannot_be_mapped_fails_all_its_tiles(
    scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str]
) -> None:
    shutil.copy(scenes[0], tmp_path / "before.tif")
    manifest = manifest_over(tmp_path / "before.tif", scenes[1], 120)
    (tmp_path / "before.tif").unlink()
    result = _run(manifest, tmp_path)
    assert (result.failed, tiles) == (4, [])
    assert result.failures(1)[0]["error"] == "NotFoundError"
    shutil.copy(scenes[0], tmp_path / "before.tif")
    assert _run(manifest, tmp_path).outcomes.counts[DONE] == 4


def test_what_cannot_have_changed_is_skipped_and_counted(tmp_path: Path, tiles: list[str]) -> None:
    before, _ = write_scenes(tmp_path)
    with rasterio.open(before, "r+") as dataset:
        array = dataset.read()
        array[:, :60, :60] = -1
        dataset.write(array)
    vrt = _split(before, tmp_path, 120)
    both = manifest_over(vrt, vrt, 60)
    outside = both.table.set_column(6, "skip", [[OUTSIDE, *[None] * 11]])
    manifest = Manifest(both.geobox, both.mosaics, outside)
    result = _run(manifest, tmp_path)
    why = Counter(result.outcomes.table["message"].to_pylist())
    assert why == {OUTSIDE: 1, IDENTICAL: 11}
    assert len(tiles) == 11
    array = stored(result.out, result.outcomes)
    np.testing.assert_array_equal(array, expected(vrt, vrt))  # no pixel of the first tile is valid
    assert result.outcomes.counts == {DONE: 0, SKIPPED: 12, FAILED: 0, LEFT: 0}


def test_a_tile_without_a_valid_pixel_has_no_files(scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str]) -> None:
    manifest = manifest_over(*scenes, 40)
    result = _run(manifest, tmp_path)
    table = result.outcomes.table
    empty = [why == INVALID for why in table["message"].to_pylist()]
    assert sum(empty) == 2  # of the corner of 45 x 80 px
    assert [not there for there in table["has_files"].to_pylist()] == empty
    assert len(list((tmp_path / "out" / "tiles").iterdir())) == len(manifest) - 2


def test_another_manifest_in_the_same_folder_is_refused_unless_it_is_to_begin_anew(
    scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str]
) -> None:
    _run(manifest_over(*scenes, 90), tmp_path)
    other = manifest_over(*scenes, 120)
    with pytest.raises(OutputExistsError, match=r"holds another batch[\s\S]*--overwrite"):
        _run(other, tmp_path)
    result = _run(other, tmp_path, overwrite=True)
    assert {path.name for path in (tmp_path / "out" / "tiles").iterdir()} == {tile.id for tile in other.tiles()}
    assert result.outcomes.counts[DONE] == 4


def test_a_folder_that_holds_something_else_is_refused(
    scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("all my work")
    with pytest.raises(OutputExistsError, match=r"thesis\.txt"):
        _run(manifest_over(*scenes, 90), tmp_path)


def test_a_worker_that_outlives_its_run_leaves_nothing_behind(
    scenes: tuple[Path, Path], tmp_path: Path, tiles: list[str]
) -> None:
    manifest = manifest_over(*scenes, 90)
    _run(manifest, tmp_path)
    session, mosaic, tile, identical = InlineEngine.asked[-1]
    _run(manifest, tmp_path, threshold=0.4)
    folder = tmp_path / "out" / "tiles" / tile.id
    then = (folder / "mask.tif").read_bytes()
    result = process_tile(session, mosaic, tile, identical)
    assert (result.state, result.error) == (FAILED, "ConfigError")
    assert (folder / "mask.tif").read_bytes() == then


def test_what_a_worker_raised_is_a_row_and_a_full_disk_ends_the_batch(
    scenes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: dict[int, Exception] = {1: MemoryError("no room"), 3: OutputError("the disk is full")}

    class Failing(InlineEngine):
        def map(self, function: Any, tasks: Any) -> Any:
            for count, finished in enumerate(super().map(function, tasks)):
                error = errors.get(count) if function is process_tile else None
                yield Finished(finished.item, None, error) if error else finished

    monkeypatch.setattr(batch_run, "Engine", Failing)
    manifest = manifest_over(*scenes, 60)
    with pytest.raises(OutputError, match="the disk is full"):
        _run(manifest, tmp_path)
    del errors[3]
    result = _run(manifest, tmp_path)
    # One failed before the disk was full and is not tried again, one by one after it.
    assert [row["error"] for row in result.failures(12)] == ["MemoryError"] * 2
    assert result.outcomes.counts == {DONE: 10, SKIPPED: 0, FAILED: 2, LEFT: 0}
    del errors[1]
    again = retry_batch(tmp_path / "out", method_of=kernel_method)
    np.testing.assert_array_equal(stored(again.out, again.outcomes), expected(*scenes))


def test_options_of_the_plan_and_of_one_run_are_refused(scenes: tuple[Path, Path], tmp_path: Path) -> None:
    manifest = manifest_over(*scenes, 90)
    with pytest.raises(ConfigError, match="aoi is the plan's"):
        _run(manifest, tmp_path, aoi="a.gpkg")
    with pytest.raises(ConfigError, match="reuse is of one run"):
        _run(manifest, tmp_path, reuse=True)
    with pytest.raises(ConfigError, match="workers are those of the scheduler"):
        _run(manifest, tmp_path, workers=2, scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize("ballast_bytes", [1_400_000, 1_700_000, 1_980_000])
def test_a_full_disk_ends_the_batch_and_with_room_it_goes_on(
    ballast_bytes: int, scenes: tuple[Path, Path], small_disk: Path, tiles: list[str], tmp_path: Path
) -> None:
    manifest = manifest_over(*scenes, 60)
    write_manifest(tmp_path / "m.parquet", manifest)
    ballast = small_disk / "ballast"
    out = small_disk / "out"
    ballast.write_bytes(bytes(ballast_bytes))
    with pytest.raises(OutputError, match=r"room|full"):
        run_batch(tmp_path / "m.parquet", out, method_of=kernel_method, max_memory=MEMORY)
    assert not list(out.glob("tiles/*/.changedet-*"))
    ballast.unlink()
    result = run_batch(tmp_path / "m.parquet", out, method_of=kernel_method, max_memory=MEMORY)
    assert result.failed == 0
    np.testing.assert_array_equal(stored(out, result.outcomes), expected(*scenes))
