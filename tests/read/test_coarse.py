from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from changedet.errors import SceneError
from changedet.grid import Window
from changedet.read.coarse import coarsened
from changedet.read.opening import open_scene
from changedet.read.reader import Nodata, Scaling, SceneReader
from tests.data import geobox, write_raster


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A raster of columns with overviews of 2, 4 and 8 that tell of themselves by their values."""
    path = write_raster(tmp_path / "scene.tif", np.ones((320, 256), np.uint16), names=("red",))
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4, 8], Resampling.nearest)
    for level in range(3):
        with rasterio.open(path, "r+", overview_level=level) as overview:
            overview.write(np.full((1, *overview.shape), 2 ** (level + 1), np.uint16))
    return path


@pytest.mark.parametrize(("step", "read"), [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8), (50, 8)])
def test_the_coarsest_overview_that_is_fine_enough_is_read(file: Path, step: int, read: int) -> None:
    target = geobox(320, 256).zoom_out(step)
    (band,) = coarsened(open_scene(file), target).bands
    assert band.geobox.shape == (320 // read, 256 // read)
    with SceneReader(
        coarsened(open_scene(file), target),
        band.geobox,
        scaling=(Scaling(1, 0, ""),),
        nodata=(Nodata(None, False, ""),),
    ) as reader:
        values, valid = reader.read(Window(0, 0, *band.geobox.shape))
    assert valid.all()
    assert set(np.unique(values)) == {read}


def test_a_file_without_overviews_is_read_itself(tmp_path: Path) -> None:
    scene = open_scene(write_raster(tmp_path / "scene.tif", np.ones((64, 64), np.uint16)))
    assert coarsened(scene, geobox(64, 64).zoom_out(8)) == scene


def test_a_file_that_is_gone_is_told_of(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "scene.tif", np.ones((64, 64), np.uint16))
    scene = open_scene(path)
    path.unlink()
    with pytest.raises(SceneError, match="cannot be opened"):
        coarsened(scene, geobox(64, 64))
