from pathlib import Path

import numpy as np
import pytest

from changedet.errors import SceneError
from changedet.grid import Window
from changedet.learn.datasets.labels import ClassDecoder, Decoder, RasterLabels, nonzero
from tests.data import write_raster

_WHOLE = Window(0, 0, 6, 8)


def _opened(path: Path, decode: Decoder = nonzero) -> RasterLabels:
    return RasterLabels(path, decode, before=(6, 8), origin=_WHOLE)


def test_values_become_the_kinds_in_their_order() -> None:
    stored = np.array([[[0, 7, 3], [3, 255, 0]]], np.uint8)
    assert ClassDecoder((7, 255, 3))(stored).tolist() == [[0, 1, 3], [3, 2, 0]]


@pytest.mark.parametrize("value", [2, 9, 255])
def test_refuses_a_value_without_a_meaning(value: int) -> None:
    with pytest.raises(SceneError, match=rf"hold the value {value}[\s\S]*expected: 0, 3, 7"):
        ClassDecoder((3, 7))(np.array([[[0, value]]], np.uint8))


def test_refuses_a_picture_in_colours() -> None:
    with pytest.raises(SceneError, match=r"3 bands[\s\S]*one band of the values 0, 1, 2"):
        ClassDecoder((1, 2))(np.zeros((3, 2, 2), np.uint8))


def test_the_alpha_band_of_a_picture_is_no_change(tmp_path: Path) -> None:
    picture, alpha = np.zeros((3, 6, 8), np.uint8), np.full((6, 8), 255, np.uint8)
    picture[:, 1, 2], alpha[5] = 255, 0
    write_raster(tmp_path / "label.tif", picture, alpha=alpha)
    with _opened(tmp_path / "label.tif") as labels:
        truth, known = labels.read(_WHOLE)
    assert np.argwhere(truth).tolist() == [[1, 2]]
    assert known.sum() == 40
    assert not known[5].any()


def test_nan_is_not_known(tmp_path: Path) -> None:
    stored = np.zeros((6, 8), np.float32)
    stored[1, 2], stored[4] = 1, np.nan
    write_raster(tmp_path / "label.tif", stored)
    for decode in (nonzero, ClassDecoder((1, 2))):
        with _opened(tmp_path / "label.tif", decode) as labels:
            assert labels.totals() == (1, 39)


@pytest.mark.parametrize("decode", [nonzero, ClassDecoder((1, 2))])
def test_refuses_unchanged_as_nodata(tmp_path: Path, decode: Decoder) -> None:
    write_raster(tmp_path / "label.tif", np.eye(6, 8, dtype=np.uint8), nodata=0)
    with pytest.raises(SceneError, match=r"declares 0 as nodata[\s\S]*unsetnodata"):
        _opened(tmp_path / "label.tif", decode)
