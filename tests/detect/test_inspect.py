from pathlib import Path

import numpy as np
import pytest

from changedet.detect import choose
from changedet.detect.inspect import inspect
from changedet.errors import ConfigError, PairError
from tests.data import texture, write_raster
from tests.pairs import SAMPLE, crop_sample


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
