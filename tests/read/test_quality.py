from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from changedet.errors import ConfigError, NotFoundError
from changedet.grid import Window
from changedet.read import open_pair, open_scene
from changedet.read.quality import quality_for_date, quality_of
from tests.data import geobox, texture, write_raster

GRID = geobox(60, 50)
WHOLE = Window(0, 0, 60, 50)
HOLE = np.zeros((60, 50), bool)
HOLE[20:30, 10:25] = True


def _pair(folder: Path) -> tuple[Path, Path]:
    image = np.stack([texture(60, 50), texture(60, 50, seed=1)])
    return write_raster(folder / "before.tif", image), write_raster(folder / "after.tif", image)


def _classes(folder: Path, values: NDArray[np.generic], name: str = "classes.tif", **place: object) -> Path:
    return write_raster(folder / name, values, **place)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "good", "bad", "dtype"),
    [
        ("", 1, 0, np.uint8),
        ("mask:", 255, 0, np.uint8),
        ("scl:", 5, 9, np.uint8),
        ("scl:", 6, 3, np.uint8),
        ("qa_pixel:", 21824, 22280, np.uint16),  # the usual codes of clear land and of cloud
        ("cfmask:", 1, 4, np.uint8),
        ("omnicloudmask:", 0, 2, np.uint8),
    ],
)
def test_a_quality_band_hides_what_its_kind_says(tmp_path: Path, kind: str, good: int, bad: int, dtype: type) -> None:
    before, after = _pair(tmp_path)
    classes = _classes(tmp_path, np.where(HOLE, bad, good).astype(dtype))
    with open_pair(before, after, valid_mask=("none", f"{kind}{classes}")) as pair:
        chip = pair.read(WHOLE)
    assert np.array_equal(chip.valid, ~HOLE)
    assert (chip.before[:, HOLE] == chip.after[:, HOLE]).all()


def test_a_coarser_mask_elsewhere_is_taken_by_its_nearest_pixel_and_unknown_outside(tmp_path: Path) -> None:
    before, after = _pair(tmp_path)
    grid = geobox(20, 20, row=10, col=0).zoom_out(2)
    values = np.ones(grid.shape, np.uint8)
    values[2:4, 5:7] = 0
    mask = _classes(tmp_path, values, transform=grid.affine)
    with open_pair(before, after, valid_mask=(str(mask), "none")) as pair:
        valid = pair.read(WHOLE).valid
    expected = np.zeros((60, 50), bool)
    expected[10:30, 0:20] = True
    expected[14:18, 10:14] = False
    assert np.array_equal(valid, expected)


def test_a_band_of_the_scene_itself_can_be_the_mask(tmp_path: Path) -> None:
    image = np.stack([texture(60, 50) * 10_000, np.where(HOLE, 4, 0)]).astype(np.int16)
    path = write_raster(tmp_path / "scene.tif", image)
    with open_pair(path, path, mapping={"B04": 1}, valid_mask=("cfmask:#2", "none")) as pair:
        assert np.array_equal(pair.read(WHOLE).valid, ~HOLE)


def test_a_mask_moves_with_the_date_it_is_of(tmp_path: Path) -> None:
    before, after = _pair(tmp_path)
    mask = _classes(tmp_path, np.where(HOLE, 0, 1).astype(np.uint8))
    with (
        open_pair(before, after, valid_mask=("none", str(mask))) as pair,
        pair.shifted((3.0, -2.0)) as moved,
    ):
        valid = moved.read(WHOLE).valid
    assert np.array_equal(~valid[5:50, 5:45], np.roll(HOLE, (-3, 2), axis=(0, 1))[5:50, 5:45])


@pytest.mark.parametrize("told", ["scl:", "mask:", ""])
def test_a_mask_without_a_file_is_refused(tmp_path: Path, told: str) -> None:
    scene = open_scene(_pair(tmp_path)[0])
    with pytest.raises(ConfigError, match=r"\[KIND:\]FILE\[#BAND\]"):
        quality_of(scene, told)


def test_a_mask_that_is_not_there_is_refused(tmp_path: Path) -> None:
    scene = open_scene(_pair(tmp_path)[0])
    with pytest.raises(NotFoundError):
        quality_of(scene, str(tmp_path / "nothing.tif"))
    with pytest.raises(ConfigError, match="the file has no band 7"):
        quality_of(scene, "cfmask:#7")


def test_masks_are_one_for_all_dates_or_one_a_date() -> None:
    assert quality_for_date(("auto",), 2, 3) == "auto"
    assert quality_for_date(("a", "b", "c"), 2, 3) == "c"
    with pytest.raises(ConfigError, match="2 validity masks for 3 dates"):
        quality_for_date(("a", "b"), 0, 3)
