import numpy as np
import pytest

from changedet.errors import SceneError
from changedet.learn.datasets.labels import ClassDecoder


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
