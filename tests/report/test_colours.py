"""Whoever sees no difference between red and green, or prints in grey, still tells the classes apart."""

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from changedet.report.colours import CLASSES, as_hex

# Linear RGB as people without red or without green cones see it: Viénot, Brettel, Mollon, "Digital video colourmaps for
# checking the legibility of displays by dichromats", Color Research and Application 24 (1999).
PROTANOPIA = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
DEUTERANOPIA = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


def _seen(matrix: np.ndarray) -> np.ndarray:
    rgb = np.array([colour for _, colour in CLASSES]) / 255
    linear = np.clip((rgb**2.2) @ matrix.T, 0, 1)
    return rgb2lab(linear ** (1 / 2.2))


@pytest.mark.parametrize("matrix", [np.eye(3), PROTANOPIA, DEUTERANOPIA], ids=["normal", "protanopia", "deuteranopia"])
def test_neighbouring_classes_differ_noticeably_and_get_lighter(matrix: np.ndarray) -> None:
    lab = _seen(matrix)
    assert (deltaE_ciede2000(lab[1:], lab[:-1]) > 10).all()
    assert (np.diff(lab[:, 0]) > 0).all()


def test_a_colour_in_css() -> None:
    assert as_hex((255, 0, 10)) == "#ff000a"
