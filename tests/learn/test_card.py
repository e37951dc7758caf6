import numpy as np
import pytest
import torch

from changedet.learn.card import _core, _seam, _tiling
from changedet.learn.datasets import LabelledScene
from changedet.learn.packaging import _example
from changedet.network.fc_siam import FCSiamDiff
from changedet.network.siamese import SiameseSMP
from changedet.network.tinycd import TinyCD


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


def test_a_network_that_sees_the_whole_chip_gets_the_crop_as_chip_and_its_seam_told() -> None:
    network = TinyCD(2).eval()
    before, after = torch.rand(2, 1, 2, 160, 160)
    tiling = _tiling(network, before, after, 96)
    assert tiling == {"tiling": "fixed_chip", "chip_px": 96, "halo_px": 16, "receptive_field_px": None}
    seam = _seam(network, before, after, 96)["seam"]["mean_difference_in_probability"]
    assert 0 < seam < 0.5
    small = _seam(network, before[..., :96, :96], after[..., :96, :96], 96)
    assert "images larger than" in small["seam"]["not_measured"]


def test_a_network_of_bounded_field_is_exact_and_has_no_seam() -> None:
    network = FCSiamDiff(2, width=2).eval()
    before, after = torch.rand(2, 1, 2, 160, 160)
    tiling = _tiling(network, before, after, 96)
    assert (tiling["tiling"], tiling["receptive_field_px"]) == ("exact", 106)
    assert _seam(network, before, after, None) == {}


def test_where_the_example_is_too_small_to_measure_a_halo_it_is_the_field() -> None:
    torch.manual_seed(0)
    network = SiameseSMP(in_channels=2, encoder_depth=3, decoder_channels=[16, 8, 8]).eval()
    tiling = _tiling(network, *torch.rand(2, 1, 2, 64, 64), 64)
    field = tiling["receptive_field_px"]
    assert field <= tiling["halo_px"] < field + network.stride
    assert tiling["halo_px"] % network.stride == 0


def test_the_example_is_the_middle_of_a_large_scene() -> None:
    columns = np.broadcast_to(np.arange(2100, dtype=np.float16), (1, 40, 2100))
    truth = np.zeros((40, 2100), np.uint8)
    example = _example(LabelledScene("wide", columns, columns, truth, truth == 0))
    assert example.shape == (40, 2048)
    assert example.before[0, 0, 0] == 26
