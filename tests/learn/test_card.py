import pytest
import torch

from changedet.learn.card import _core


@pytest.mark.parametrize(
    ("height", "width", "stride", "core"),
    [
        (1180, 1070, 16, 512),
        (1024, 90, 32, 512),
        (700, 800, 16, 400),
        (64, 50, 16, 32),
        (70, 64, 32, 32),
        (20, 20, 16, 16),
    ],
)
def test_the_core_leaves_room_for_a_halo(height: int, width: int, stride: int, core: int) -> None:
    """A core of 512 px where the image allows it, else half the image, always whole strides."""
    assert _core(torch.empty(1, 1, height, width), stride) == core
