from pathlib import Path

import numpy as np
import pytest

from changedet.errors import SceneError
from changedet.grid import Window
from changedet.read import open_pair, open_scene
from tests.data import texture, write_raster
from tests.products import SAFE_BANDS, ground, make_safe

WHOLE = Window(0, 0, 60, 60)


@pytest.mark.parametrize("level", ["L1C", "L2A"])
@pytest.mark.parametrize("baseline", ["02.06", "05.09"])
def test_a_product_of_any_baseline_gives_the_reflectance_of_the_ground(
    tmp_path: Path, level: str, baseline: str
) -> None:
    scene = open_scene(make_safe(tmp_path, level=level, baseline=baseline))
    assert set(scene.names) == set(SAFE_BANDS)
    assert (scene.date, scene.product) == ("2022-02-03", f"Sentinel-2 {level}, baseline {baseline}")
    with open_pair(scene.path, scene.path, bands=("B04", "B08")) as pair:
        chip = pair.read(WHOLE)
    assert chip.valid.all()
    np.testing.assert_allclose(chip.before[0], ground(600, 10), atol=6e-5)


def test_two_baselines_of_one_scene_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    """The network's input is a function of these arrays: equal reflectance is an equal map."""
    old, new = (make_safe(tmp_path, baseline=baseline) for baseline in ("02.06", "05.09"))
    with open_pair(old, new) as pair:
        chip = pair.read(WHOLE)
    np.testing.assert_allclose(chip.after, chip.before, atol=1e-7)


def test_files_taken_out_of_a_product_are_known_by_its_name_in_the_path(tmp_path: Path) -> None:
    loose = []
    for baseline in ("02.06", "05.09"):
        safe = make_safe(tmp_path, baseline=baseline)
        loose.append(next(safe.rglob("IMG_DATA")))
    with open_pair(*loose) as pair:
        assert {scaling.offset for scaling in pair.scaling[1]} == {-0.1}
        assert "baseline 05.09" in pair.scaling[1][0].why
        chip = pair.read(WHOLE)
    np.testing.assert_allclose(chip.after, chip.before, atol=1e-7)


def test_without_a_name_the_offset_is_the_users_to_say(tmp_path: Path) -> None:
    stored = np.rint(texture(60, 60) * 10_000).astype(np.uint16)
    before = write_raster(tmp_path / "old.tif", stored, names=["red"])
    after = write_raster(tmp_path / "new.tif", stored + 1000, names=["red"])
    from changedet.read.pair import PairOptions, RasterPair

    options = PairOptions(offset=(None, -0.1))
    with RasterPair(open_scene(before), open_scene(after), options) as pair:
        chip = pair.read(WHOLE)
    np.testing.assert_allclose(chip.after, chip.before, atol=1e-7)


def test_scene_classification_of_the_product_hides_clouds(tmp_path: Path) -> None:
    classes = np.full((30, 30), 4, np.uint8)
    classes[5:10, 5:10] = 9  # cloud
    classes[20:25, 20:25] = 11  # snow, which stays
    safe = make_safe(tmp_path, level="L2A", scl=classes)
    expected = np.ones((60, 60), bool)
    expected[10:20, 10:20] = False
    with open_pair(safe, safe) as pair:
        assert np.array_equal(pair.read(WHOLE).valid, expected)
    with open_pair(safe, safe, valid_mask=("none", "none")) as pair:
        assert pair.read(WHOLE).valid.all()


def test_a_product_without_metadata_is_refused(tmp_path: Path) -> None:
    safe = make_safe(tmp_path)
    (safe / "MTD_MSIL1C.xml").unlink()
    with pytest.raises(SceneError, match="has no metadata, without which its offset"):
        open_scene(safe)


def test_a_product_of_several_granules_is_refused(tmp_path: Path) -> None:
    safe = make_safe(tmp_path)
    (safe / "GRANULE" / "L1C_T31TDJ" / "IMG_DATA").mkdir(parents=True)
    with pytest.raises(SceneError, match="holds 2 granules"):
        open_scene(safe)
