from collections.abc import Callable

import pytest
import torch

from changedet.grid import Window
from changedet.learn import predict as predicting
from changedet.learn.datasets import LabelledScene
from changedet.learn.datasets.training import TrainingScene
from changedet.learn.predict import chip_of, predict, predict_around
from changedet.network.base import ChangeNetwork
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


def _mapped(network: ChangeNetwork, scene: TrainingScene, chip: int | None = None) -> torch.Tensor:
    logits = torch.full((network.classes, *scene.shape), torch.nan)
    for window, part in predict(network, scene, chip):
        logits[(slice(None), *window.slices)] = part
    return logits


def test_in_chips_as_in_one_pass_where_the_halo_covers_the_field(make_scene: Callable[..., LabelledScene]) -> None:
    network = SiameseSMP("resnet18", "unet", 4, encoder_depth=1, decoder_channels=(8,)).eval()
    scene = make_scene(61)
    whole, tiled = _mapped(network, scene), _mapped(network, scene, 32)
    assert whole.shape == tiled.shape == (1, 61, 61)
    inside = (0, slice(0, 56), slice(0, 56))  # the last rows see the padding, whose content differs
    torch.testing.assert_close(tiled[inside], whole[inside], rtol=1e-4, atol=1e-4)


def test_a_large_scene_is_mapped_in_parts_as_it_would_be_whole(
    make_scene: Callable[..., LabelledScene], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = FCSiamDiff(4, width=2).eval()
    scene = make_scene(400)
    whole = _mapped(network, scene)
    monkeypatch.setattr(predicting, "_WHOLE_PX", 10_000)
    monkeypatch.setattr(predicting, "_CORE_PX", 64)
    assert len(list(predict(network, scene))) > 4
    for core, around, logits in predict_around(network, scene, 16):
        assert around == core.grown(16).intersect(Window(0, 0, 400, 400))
        inside = around.intersect(Window(0, 0, 384, 384))
        assert inside is not None
        rows, cols = inside.relative_to(around).slices
        torch.testing.assert_close(logits[:, rows, cols], whole[:, *inside.slices], rtol=1e-4, atol=1e-4)
    # The last rows see what lies beyond the scene, whose content differs.
    torch.testing.assert_close(_mapped(network, scene)[..., :384, :384], whole[..., :384, :384], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [20, 48])
def test_a_scene_smaller_than_a_chip_or_as_large(make_scene: Callable[..., LabelledScene], side: int) -> None:
    logits = _mapped(TinyCD(4, 2).eval(), make_scene(side), 48)
    assert logits.shape == (2, side, side)
    assert logits.isfinite().all()
