import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy.ndimage import fourier_shift

from changedet.grid import Window
from changedet.grid.window import sample_windows
from changedet.read import RasterPair, open_pair
from changedet.read.coregister import ShiftEstimate, estimate_shift
from tests.data import texture, write_raster

BANDS = ("B04", "B03", "B02")
ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CHANGEDET_DATA", ROOT.parent / "shared" / "data"))
IMAGES = DATA / "oscd" / "Onera Satellite Change Detection dataset - Images"
QUICK = ["abudhabi", "bordeaux"]
OTHERS = "aguasclaras beihai beirut bercy cupertino hongkong mumbai nantes paris pisa rennes saclay_e"


def _moved(image: np.ndarray, row: float, col: float) -> np.ndarray:
    """Return the image with what was at (r, c) at (r + row, c + col), exactly, around the edges."""
    return np.fft.ifft2(fourier_shift(np.fft.fft2(image), (row, col))).real.astype(np.float32)


def _pair(folder: Path, before: np.ndarray, after: np.ndarray) -> RasterPair:
    return open_pair(write_raster(folder / "before.tif", before), write_raster(folder / "after.tif", after), scale=1)


def test_synthetic_shift_is_recovered_and_removed(tmp_path):
    image = np.stack([texture(420, 400, seed=seed) for seed in (1, 2)])
    # Another sun and haze; a shift does not depend on them.
    after = 0.7 * np.stack([_moved(band, 0.7, -1.3) for band in image]) + 0.03
    with _pair(tmp_path, image, after) as pair:
        shift = estimate_shift(pair)
        assert shift.reliable
        assert np.hypot(shift.row - 0.7, shift.col + 1.3) < 0.05
        with pair.shifted((shift.row, shift.col)) as corrected:
            assert estimate_shift(corrected).size < 0.05


def test_change_in_part_of_the_pair_does_not_pull_the_estimate(tmp_path):
    image = np.stack([texture(600, 600, seed=seed) for seed in (1, 2)])
    after = np.stack([_moved(band, -0.4, 0.9) for band in image])
    after[:, :, 360:] = np.stack([texture(600, 240, seed=seed) for seed in (3, 4)])
    with _pair(tmp_path, image, after) as pair:
        shift = estimate_shift(pair)
    assert np.hypot(shift.row + 0.4, shift.col - 0.9) < 0.1


def test_pair_without_texture_has_no_shift(tmp_path):
    flat = np.full((250, 250), 0.3, np.float32)
    with _pair(tmp_path, flat, flat) as pair:
        shift = estimate_shift(pair)
    assert (shift.row, shift.col, shift.windows) == (0.0, 0.0, 0)
    assert not shift.reliable


def test_unrelated_scenes_give_no_reliable_shift(tmp_path):
    before, after = (np.stack([texture(500, 500, seed=seed + i) for i in range(2)]) for seed in (10, 20))
    with _pair(tmp_path, before, after) as pair:
        assert not estimate_shift(pair).reliable


def test_mostly_invalid_windows_are_left_out(tmp_path):
    image = texture(420, 400)
    image[:, 60:] = np.nan
    with _pair(tmp_path, image, image) as pair:
        assert estimate_shift(pair).windows == 0


def test_sampled_windows_lie_inside_and_reach_every_edge():
    windows = sample_windows(1000, 100, size=192, per_axis=6)
    assert {(window.height, window.width) for window in windows} == {(192, 100)}
    assert len(windows) <= 36
    assert min(window.row for window in windows) == 0
    assert max(window.stop_row for window in windows) == 1000


@pytest.mark.parametrize("city", [*QUICK, *(pytest.param(city, marks=pytest.mark.slow) for city in OTHERS.split())])
def test_oscd_city_lies_within_a_third_of_a_pixel_once_corrected(tmp_path, city):
    if not IMAGES.is_dir():
        pytest.skip(f"no OSCD images at {IMAGES} (CHANGEDET_DATA names another place)")
    folder = IMAGES / city
    with open_pair(folder / "imgs_1", folder / "imgs_2", bands=BANDS) as pair:
        shift = estimate_shift(pair)
        with pair.shifted((shift.row, shift.col)) as corrected:
            residual = _residual(tmp_path, corrected, folder / "pair" / "img2.png")
    assert shift.reliable
    assert residual.reliable
    assert residual.size < 0.3


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def _residual(folder: Path, corrected: RasterPair, registered: Path) -> ShiftEstimate:
    """Return where the corrected after date lies against the registered picture of the set."""
    height, width = corrected.geobox.shape
    with rasterio.open(registered) as picture:
        reference = picture.read((1, 2, 3))[:, :height, :width].astype(np.float32) / 255
    chip = corrected.read(Window(0, 0, height, width))
    after = np.where(chip.valid, chip.after, np.nan)[:, : reference.shape[1], : reference.shape[2]]
    with _pair(folder, reference, after) as check:
        return estimate_shift(check)
