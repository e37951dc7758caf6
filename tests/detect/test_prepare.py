from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import shift as shifted

from changedet.detect.prepare import prepare
from changedet.errors import PairError
from changedet.read.pair import open_pair
from tests.data import texture, write_raster


def _write(folder: Path, before: NDArray[np.float32], after: NDArray[np.float32]) -> tuple[Path, Path]:
    """Write both dates, of four bands, as digital numbers with 0 for nodata."""
    paths = folder / "before.tif", folder / "after.tif"
    for path, image in zip(paths, (before, after), strict=True):
        bands = np.repeat(np.rint(image * 10_000).astype(np.uint16)[None], 4, axis=0)
        write_raster(path, bands, names=["B04", "B03", "B02", "B08"], nodata=0)
    return paths


def test_a_pair_without_a_valid_pixel_in_common_is_refused(tmp_path: Path) -> None:
    before, after = texture(64, 64), texture(64, 64)
    before[:, :32], after[:, 32:] = 0, 0
    with (
        open_pair(*_write(tmp_path, before, after)) as pair,
        pytest.raises(PairError, match=r"no pixel is valid at both dates \(before: nodata tag: 0"),
    ):
        prepare(pair, coregister=False)


def test_one_valid_pixel_that_the_sample_misses_is_enough(tmp_path: Path) -> None:
    before, after = np.zeros((2, 2500, 2500), np.float32)
    before[300, 300] = after[300, 300] = 0.2
    with open_pair(*_write(tmp_path, before, after)) as pair:
        preparation = prepare(pair, coregister=False)
    assert preparation.report.valid_share == 0


def test_the_shift_is_removed_only_where_that_was_asked_for(tmp_path: Path) -> None:
    image = texture(700, 600, seed=3)
    with open_pair(*_write(tmp_path, image, shifted(image, (1.5, -0.75), mode="nearest"))) as pair:
        kept, removed = prepare(pair, coregister=False), prepare(pair, coregister=True)
    assert kept.correction.displacement.is_none
    assert np.abs(removed.correction.displacement.mean) == pytest.approx([1.5, 0.75], abs=0.05)
    row, col = removed.correction.displacement.mean
    assert removed.as_json()["displacement_removed_px"] == {"row": row, "col": col}
    assert removed.report.remaining is not None
    assert removed.report.remaining.size < 0.1
