from collections.abc import Callable

import pytest
import torch

from changedet.learn.datasets import LabelledScene
from changedet.learn.predict import chip_of, predict_logits
from changedet.network.fc_siam import FCSiamDiff
from changedet.network.siamese import SiameseSMP
from changedet.network.tinycd import TinyCD


def test_chips_belong_to_networks_that_see_all_of_them_as_is_said_or_found() -> None:
    small = {"encoder_depth": 2, "decoder_channels": (8, 8)}
    assert chip_of(FCSiamDiff(4, width=2), 4, 96) is None
    assert chip_of(SiameseSMP("resnet18", "unet", 4, **small), 4, 96) is None
    assert chip_of(TinyCD(4), 4, 96) == 96
    # Squeeze-and-excitation, which only measuring finds.
    assert chip_of(SiameseSMP("efficientnet-b0", "unet", 4, **small), 4, 90) == 88


def test_in_chips_as_in_one_pass_where_the_halo_covers_the_field(make_scene: Callable[..., LabelledScene]) -> None:
    network = SiameseSMP("resnet18", "unet", 4, encoder_depth=1, decoder_channels=(8,)).eval()
    scene = make_scene(61)
    whole, tiled = predict_logits(network, scene), predict_logits(network, scene, 32)
    assert whole.shape == tiled.shape == (1, 61, 61)
    inside = (0, slice(0, 56), slice(0, 56))  # the last rows see the padding, whose content differs
    torch.testing.assert_close(tiled[inside], whole[inside], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [20, 48])
def test_a_scene_smaller_than_a_chip_or_as_large(make_scene: Callable[..., LabelledScene], side: int) -> None:
    logits = predict_logits(TinyCD(4, 2).eval(), make_scene(side), 48)
    assert logits.shape == (2, side, side)
    assert logits.isfinite().all()
