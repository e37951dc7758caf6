from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from changedet.detect import choose
from changedet.detect.inspect import inspect
from changedet.errors import ConfigError, PairError
from tests.data import texture, write_raster
from tests.pairs import RGBN, SAMPLE, crop_sample


def test_it_tells_what_a_run_would_do() -> None:
    report = inspect(SAMPLE / "before.tif", SAMPLE / "after.tif")
    assert report.size == (448, 512)
    assert report.before.date == "2017-06-17"
    assert 0.9 < report.valid_share < 1
    assert report.shift.size < 0.25
    assert report.notes[-1] == "model s2-urban-rgbn would be used"


def _without_names(folder: Path) -> tuple[Path, Path]:
    bands = np.repeat((texture(64, 48) * 10_000).astype(np.uint16)[None], 2, axis=0)
    return write_raster(folder / "before.tif", bands), write_raster(folder / "after.tif", bands)


def test_a_pair_that_no_model_fits_is_reported_on_all_the_same(tmp_path: Path) -> None:
    report = inspect(*_without_names(tmp_path))
    assert report.before.bands == ("1", "2")
    assert "WARNING: no shipped model fits" in report.notes[-1]


@pytest.mark.parametrize(
    ("pixel", "told"),
    [
        (10, ""),
        (20, "expect a poorer map"),
        (60, "a run would be refused: pixels of 60 m, where s2-urban-rgbn learned"),
    ],
)
def test_it_tells_of_pixels_of_another_size_than_the_models(tmp_path: Path, pixel: int, told: str) -> None:
    image = np.stack([texture(64, 48, seed=seed) for seed in range(4)]) * 10_000
    place = Affine(pixel, 0, 500_000, 0, -pixel, 5_600_000)
    path = write_raster(tmp_path / "a.tif", image.astype(np.uint16), names=RGBN, transform=place)
    last = inspect(path, path).notes[-1]
    assert told in last
    assert last.startswith("WARNING" if told else "model s2-urban-rgbn would be used")


def test_an_installation_without_models_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "shipped_models", dict)
    report = inspect(*crop_sample(tmp_path))
    assert report.notes[-1] == "WARNING: no model came with this installation"


def test_scenes_that_do_not_overlap_are_refused(tmp_path: Path) -> None:
    (tmp_path / "north").mkdir()
    before, _ = crop_sample(tmp_path)
    _, after = crop_sample(tmp_path / "north", row=0)
    with pytest.raises(PairError, match="do not overlap"):
        inspect(before, after)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="colour: unknown key"):
        inspect(SAMPLE / "before.tif", SAMPLE / "after.tif", colour="red")
