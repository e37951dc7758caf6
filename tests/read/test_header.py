"""Files that are placed by ground control points, and what is refused from its header alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint

from changedet.errors import SceneError
from changedet.grid import Window
from changedet.read import open_pair, open_scene
from changedet.read.header import read_header
from tests.data import NORTH_UP, UTM, coordinates, geobox, write_raster

GRID = geobox(90, 80)


def write_with_points(path: Path, image: NDArray[Any], *, bend: float = 0.0) -> Path:
    """Write an image whose only georeference are control points; with `bend` (m) they lie on a curved surface."""
    rows, cols = np.meshgrid([0, 30, 60, 90], [0, 40, 80], indexing="ij")
    points = [
        GroundControlPoint(
            row=row, col=col, x=NORTH_UP.c + 10 * col + bend * (row / 90) ** 2, y=NORTH_UP.f - 10 * row, z=0.0
        )
        for row, col in zip(rows.ravel(), cols.ravel(), strict=True)
    ]
    size = {"height": image.shape[-2], "width": image.shape[-1], "count": len(image), "dtype": image.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size) as dataset:
        dataset.write(image)
        dataset.gcps = (points, rasterio.CRS.from_string(UTM))
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_straight_control_points_are_a_grid_like_any_other(tmp_path: Path) -> None:
    image = coordinates(GRID, GRID) / 1000
    before = write_raster(tmp_path / "before.tif", image)
    after = write_with_points(tmp_path / "after.tif", image)
    with open_pair(before, after, scale=1) as pair:
        assert pair.readers[1].placements[str(after)].how == "direct"
        chip = pair.read(Window(0, 0, 90, 80))
    assert chip.valid.all()
    assert np.array_equal(chip.before, chip.after)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bent_control_points_are_followed_in_one_resampling(tmp_path: Path) -> None:
    image = coordinates(GRID, GRID) / 1000
    before = write_raster(tmp_path / "before.tif", image)
    after = write_with_points(tmp_path / "after.tif", image, bend=60.0)
    assert read_header(str(after))[0][0].by_gcps
    with open_pair(before, after, scale=1) as pair:
        assert pair.readers[1].placements[str(after)].how == "displaced"
        chip = pair.read(Window(0, 0, 90, 80))
    rows, cols = np.indices((90, 80)) + 0.5
    # A point of the file lies 6 px times its row's square to the right of where its column says.
    expected = cols - 6 * (rows / 90) ** 2
    inner = chip.valid & (expected > 2) & (rows > 2) & (rows < 88) & (cols < 78)
    assert inner.sum() > 5000
    assert np.abs(chip.after[1] * 1000 - expected)[inner].max() < 0.05
    assert np.abs(chip.after[0] * 1000 - rows)[inner].max() < 0.05


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_rational_polynomials_alone_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "rpc.tif"
    with rasterio.open(path, "w", driver="GTiff", height=9, width=9, count=1, dtype="uint8") as dataset:
        dataset.write(np.ones((1, 9, 9), np.uint8))
        ones = [1.0] + [0.0] * 19
        dataset.rpcs = rasterio.rpc.RPC(0, 100, 45, 1, ones, ones, 4.5, 5, 10, 1, ones, ones, 4.5, 5)
    with pytest.raises(SceneError, match="rational polynomials") as caught:
        open_scene(path)
    assert "gdalwarp -rpc" in str(caught.value)
