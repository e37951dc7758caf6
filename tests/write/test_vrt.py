"""Mosaics of tiles, read back through GDAL."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from changedet.grid.window import Window, blocks
from changedet.write.raster import (
    RasterSink,
    mask_layout,
    probability_layout,
    statistic_layout,
    to_cog,
)
from changedet.write.vrt import TileFile, add_overviews, write_vrt
from tests.data import geobox

GRID = geobox(40, 56)
NASTY = {"MODEL": "<a> & \"b\" 'c'", "DATE_BEFORE": "2018-03-28"}


def _tile(folder: Path, name: str, window: Window, values: np.ndarray) -> TileFile:
    with RasterSink(folder / name, mask_layout(GRID[window.slices])) as sink:
        sink.write(Window(0, 0, window.height, window.width), np.ascontiguousarray(values[(..., *window.slices)]))
    return TileFile(name, window)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(9, 40), left_out=st.sets(st.integers(0, 20)), seed=st.integers(0, 9))
def test_the_pixels_are_the_tiles_and_nodata_between_them(
    tmp_path: Path, size: int, left_out: set[int], seed: int
) -> None:
    values = np.random.default_rng(seed).choice([0, 1, 255], GRID.shape).astype(np.uint8)
    expected = np.full(GRID.shape, 255, np.uint8)
    tiles = []
    for index, window in enumerate(blocks(*GRID.shape, size)):
        if index not in left_out:
            tiles.append(_tile(tmp_path, f"{index}.tif", window, values))
            expected[window.slices] = values[window.slices]
    write_vrt(tmp_path / "mask.vrt", mask_layout(GRID), tiles)
    with rasterio.open(tmp_path / "mask.vrt") as mosaic:
        assert np.array_equal(mosaic.read(1), expected)


def test_a_mosaic_says_what_a_raster_of_one_piece_says(tmp_path: Path) -> None:
    for name, layout in (
        ("mask", mask_layout(GRID, classes=3, tags=NASTY)),
        ("probability", probability_layout(GRID, classes=("new <roof>", "lost"), tags=NASTY)),
        ("statistic", statistic_layout(GRID, ("chi-square", "MAD 1"))),
    ):
        with RasterSink(tmp_path / f"{name}.tif", layout):
            pass
        to_cog(tmp_path / f"{name}.tif", tmp_path / f"{name}_cog.tif", overview_resampling="nearest")
        write_vrt(tmp_path / f"{name}.vrt", layout, [])
        with rasterio.open(tmp_path / f"{name}_cog.tif") as one, rasterio.open(tmp_path / f"{name}.vrt") as mosaic:
            assert GeoBox.from_rio(mosaic) == GeoBox.from_rio(one)
            assert (mosaic.dtypes, mosaic.scales, mosaic.offsets) == (one.dtypes, one.scales, one.offsets)
            assert mosaic.descriptions == one.descriptions
            assert mosaic.nodatavals == pytest.approx(one.nodatavals, nan_ok=True)
            assert mosaic.tags().items() >= layout.tags.items()
            if name == "mask":
                assert mosaic.colormap(1) == one.colormap(1)
                assert mosaic.colorinterp == one.colorinterp


def test_where_tiles_overlap_nodata_hides_nothing(tmp_path: Path) -> None:
    known, unknown = np.ones(GRID.shape, np.uint8), np.full(GRID.shape, 255, np.uint8)
    first, second = Window(0, 0, 20, 30), Window(10, 10, 20, 30)
    tiles = [_tile(tmp_path, "a.tif", first, known), _tile(tmp_path, "b.tif", second, unknown)]
    write_vrt(tmp_path / "mask.vrt", mask_layout(GRID), tiles)
    with rasterio.open(tmp_path / "mask.vrt") as mosaic:
        assert (mosaic.read(1)[first.slices] == 1).all()


def test_it_moves_with_its_tiles_and_opens_none_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a" / "tiles").mkdir(parents=True)
    tile = _tile(tmp_path / "a", "tiles/<&>.tif", Window(0, 0, 40, 56), np.ones(GRID.shape, np.uint8))
    gone = TileFile("tiles/gone.tif", Window(0, 0, 1, 1))
    write_vrt(tmp_path / "a" / "mask.vrt", mask_layout(GRID), [tile])
    write_vrt(tmp_path / "a" / "other.vrt", mask_layout(GRID), [gone])
    (tmp_path / "a").rename(tmp_path / "b")
    with rasterio.open(tmp_path / "b" / "mask.vrt") as mosaic:
        assert (mosaic.read(1) == 1).all()
    with rasterio.open(tmp_path / "b" / "other.vrt") as mosaic:
        assert mosaic.shape == GRID.shape


def test_overviews_of_the_whole_begin_where_those_of_tiles_end(tmp_path: Path) -> None:
    grid = geobox(1120, 8192)
    values = np.zeros(grid.shape, np.uint8)
    values[:, 4096:] = 1
    with RasterSink(tmp_path / "one.tif", mask_layout(grid)) as sink:
        sink.write(Window(0, 0, *grid.shape), values)
    write_vrt(tmp_path / "mask.vrt", mask_layout(grid), [TileFile("one.tif", Window(0, 0, *grid.shape))])
    said = (tmp_path / "mask.vrt").read_bytes()
    assert add_overviews(tmp_path / "mask.vrt", resampling="nearest") == tmp_path / "mask.vrt.ovr"
    assert (tmp_path / "mask.vrt").read_bytes() == said
    with rasterio.open(tmp_path / "mask.vrt") as mosaic:
        assert mosaic.overviews(1) == [16]
        (tmp_path / "one.tif").unlink()
        small = mosaic.read(1, out_shape=(70, 512))
    assert (small[:, :256] == 0).all()
    assert (small[:, 256:] == 1).all()


def test_a_small_mosaic_needs_no_overviews(tmp_path: Path) -> None:
    write_vrt(tmp_path / "mask.vrt", mask_layout(GRID), [])
    assert add_overviews(tmp_path / "mask.vrt", resampling="nearest") is None
    assert not (tmp_path / "mask.vrt.ovr").exists()
