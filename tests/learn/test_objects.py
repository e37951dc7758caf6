from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from changedet.learn.objects import ObjectCounts, count_objects
from tests.data import write_raster


def _mask(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Boxes of row, col, height, width."""
    mask = np.zeros((60, 60), np.uint8)
    for row, col, height, width in boxes:
        mask[row : row + height, col : col + width] = 1
    return mask


def _counted(folder: Path, called: NDArray[np.uint8], true: NDArray[np.uint8], pixel_m2: float = 100) -> ObjectCounts:
    paths = [write_raster(folder / f"{name}.tif", mask) for name, mask in (("mask", called), ("truth", true))]
    return count_objects(*paths, pixel_m2=pixel_m2)


def test_hand_drawn_objects(tmp_path: Path) -> None:
    # 4 x 4 found half (IoU 1/2), 10 x 10 found by a quarter (IoU 1/4), 20 x 20 exactly, 2 x 2 not at all; one wrong.
    true = _mask((0, 0, 4, 4), (10, 0, 10, 10), (30, 30, 20, 20), (0, 50, 2, 2))
    called = _mask((0, 0, 4, 2), (10, 0, 5, 5), (30, 30, 20, 20), (55, 0, 3, 3))
    figures = _counted(tmp_path, called, true).figures()
    assert (figures["all"]["true"], figures["all"]["called"]) == (4, 4)
    assert figures["all"]["iou_0.1"] == {"precision": 0.75, "recall": 0.75}
    assert figures["all"]["iou_0.3"] == {"precision": 0.5, "recall": 0.5}
    assert figures["all"]["iou_0.5"] == {"precision": 0.5, "recall": 0.5}
    # In m²: 1,600 and 400; 10,000; 40,000. Of the map: 800 and 900; 2,500; 40,000.
    assert [figures[size]["true"] for size in ("small", "medium", "large")] == [1, 1, 2]
    assert [figures[size]["called"] for size in ("small", "medium", "large")] == [2, 1, 1]
    assert figures["large"]["iou_0.3"] == {"precision": 1.0, "recall": 0.5}
    assert figures["small"]["iou_0.5"] == {"precision": 0.5, "recall": 0.0}


def test_an_object_is_matched_once_and_to_what_overlaps_it_most(tmp_path: Path) -> None:
    # One large call over two true objects finds the larger one only; the other is missed.
    true, called = _mask((0, 0, 10, 10), (0, 11, 10, 6)), _mask((0, 0, 10, 17))
    figures = _counted(tmp_path, called, true).figures()["all"]
    assert figures["iou_0.5"] == {"precision": 1.0, "recall": 0.5}
    figures = _counted(tmp_path, true, called).figures()["all"]
    assert figures["iou_0.5"] == {"precision": 0.5, "recall": 1.0}


def test_pixels_that_touch_at_a_corner_are_one_object_and_touching_is_no_overlap(tmp_path: Path) -> None:
    figures = _counted(tmp_path, _mask((8, 8, 4, 4)), _mask((0, 0, 4, 4), (4, 4, 4, 4))).figures()["all"]
    assert (figures["true"], figures["called"]) == (1, 1)
    assert figures["iou_0.1"] == {"precision": 0.0, "recall": 0.0}


def test_counts_add_up_and_nothing_is_undefined_not_perfect(tmp_path: Path) -> None:
    one = _counted(tmp_path, _mask((0, 0, 4, 4)), _mask((0, 0, 4, 4)))
    none = _counted(tmp_path, _mask(), _mask())
    assert (one + none).figures() == (one + ObjectCounts.empty()).figures() == one.figures()
    assert (one + one).figures()["all"]["true"] == 2
    assert none.figures()["all"]["iou_0.1"] == {"precision": None, "recall": None}


@pytest.mark.parametrize(("pixel_m2", "size"), [(10, "small"), (100, "medium"), (1000, "large")])
def test_sizes_are_those_on_the_ground(tmp_path: Path, pixel_m2: float, size: str) -> None:
    figures = _counted(tmp_path, _mask(), _mask((0, 0, 4, 4)), pixel_m2).figures()
    assert figures[size]["true"] == 1
