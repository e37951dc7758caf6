"""What the benchmarks stand on."""

from pathlib import Path

import numpy as np
import rasterio
from scipy.ndimage import label

from benchmarks.pairs import make_pair, make_specks, repeat_as_vrt
from benchmarks.probe import STAGES
from changedet.detect import run


def test_the_stages_that_are_timed_are_those_of_a_run() -> None:
    assert [name for name in STAGES if not callable(getattr(run, name, None))] == []


def test_pairs_are_tiled_and_a_vrt_repeats_them(tmp_path: Path) -> None:
    before, after = make_pair(tmp_path, 600, "rgb")
    with rasterio.open(before) as scene, rasterio.open(repeat_as_vrt(before, 2)) as repeated:
        assert (scene.dtypes, scene.descriptions) == (("uint8",) * 3, ("B04", "B03", "B02"))
        assert (repeated.shape, repeated.descriptions) == ((1200, 1200), scene.descriptions)
        assert (repeated.transform, repeated.nodata) == (scene.transform, 0)
        np.testing.assert_array_equal(repeated.read(), np.tile(scene.read(), (1, 2, 2)))
    with rasterio.open(after) as scene:
        assert (scene.profile["compress"], scene.block_shapes[0]) == ("deflate", (512, 512))


def test_specks_do_not_touch(tmp_path: Path) -> None:
    with rasterio.open(make_specks(tmp_path, 900)) as mask:
        _, regions = label(mask.read(1), structure=np.ones((3, 3)))
    assert regions == 900
