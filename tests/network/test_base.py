"""The axioms that every change network keeps, and those of the symmetric and the Siamese ones."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from changedet.network.base import ChangeNetwork, SiameseNetwork, lay_out, pad_to_stride
from changedet.network.bit import BIT
from changedet.network.changeformer import ChangeFormer
from changedet.network.fc_siam import FCEF, FCSiamConc, FCSiamDiff
from changedet.network.field import UnboundedFieldError, receptive_field
from changedet.network.siamese import SiameseSMP
from changedet.network.stanet import STANet
from changedet.network.tinycd import TinyCD

_SMALL: dict[str, Any] = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
_SMALL_STANET: dict[str, Any] = {"encoder_depth": 2, "level_width": 8, "pyramid_width": 16, "embedding": 16}
_SMALL_CHANGEFORMER: dict[str, Any] = {
    "widths": (8, 16, 24, 32),
    "depths": (1, 1, 1, 1),
    "patch": 3,
    "decoder_width": 8,
}
NETWORKS: dict[str, Callable[[], ChangeNetwork]] = {
    "fc_ef": lambda: FCEF(3, classes=2, width=4),
    "fc_siam_conc": lambda: FCSiamConc(3, classes=2, width=4),
    "fc_siam_diff": lambda: FCSiamDiff(3, classes=2, width=4),
    "absdiff": lambda: SiameseSMP("resnet18", "unet", 3, 2, **_SMALL),
    "diff": lambda: SiameseSMP("resnet18", "unet", 3, 2, fusion="diff", **_SMALL),
    "concat": lambda: SiameseSMP("resnet18", "unet", 3, 2, fusion="concat", **_SMALL),
    "learned": lambda: SiameseSMP("resnet18", "unet", 3, 2, fusion="learned", **_SMALL),
    "learned_directional": lambda: SiameseSMP("resnet18", "unet", 3, 2, fusion="learned_directional", **_SMALL),
    "no_stem_pool": lambda: SiameseSMP("resnet18", "unet", 3, 2, stem_pool=False, **_SMALL),
    "stanet": lambda: STANet(3, **_SMALL_STANET),
    "bit": lambda: BIT(3, 2, decoder_layers=2, encoder_depth=3),
    "bit_directional": lambda: BIT(3, 2, decoder_layers=2, encoder_depth=3, directional=True),
    "changeformer": lambda: ChangeFormer(3, 2, **_SMALL_CHANGEFORMER),
    "changeformer_directional": lambda: ChangeFormer(3, 2, directional=True, **_SMALL_CHANGEFORMER),
    "tinycd": lambda: TinyCD(3, 2),
    "tinycd_directional": lambda: TinyCD(3, 2, directional=True),
}
# Exchanging the dates changes nothing.
SYMMETRIC = (
    *("fc_siam_diff", "absdiff", "learned", "no_stem_pool"),
    *("stanet", "bit", "changeformer", "tinycd"),
)
# Only differences get through, so equal dates give one map whatever they show.
DIFFERENCES = tuple(name for name in SYMMETRIC if name not in ("learned", "changeformer", "tinycd"))
EXACT = tuple(name for name in NETWORKS if not name.startswith(("stanet", "bit", "changeformer", "tinycd")))


@pytest.fixture(params=NETWORKS)
def any_network(request: pytest.FixtureRequest) -> ChangeNetwork:
    return _scrambled(NETWORKS[request.param]())


@pytest.fixture(params=SYMMETRIC)
def symmetric(request: pytest.FixtureRequest) -> ChangeNetwork:
    return _scrambled(NETWORKS[request.param]())


def _scrambled(network: ChangeNetwork) -> ChangeNetwork:
    """Give batch norm the figures a training might, so that eval mode is not the identity."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.get_buffer("running_mean"), 0, 0.2)
            torch.nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


def _pair(height: int = 48, width: int = 64, count: int = 1) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, height, width), torch.randn(count, 3, height, width)


@pytest.mark.parametrize("name", DIFFERENCES)
@torch.no_grad()
def test_equal_dates_give_one_map_whatever_the_image(name: str) -> None:
    network, (first, second) = _scrambled(NETWORKS[name]()), _pair()
    torch.testing.assert_close(network(first, first), network(second, second), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(network(first, first), network(first, second), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_swapped_dates_give_the_same_map(symmetric: ChangeNetwork) -> None:
    before, after = _pair()
    assert not symmetric.directional
    # Convolution libraries may order the sums of the two halves of a batch in two ways.
    torch.testing.assert_close(symmetric(before, after), symmetric(after, before), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - set(SYMMETRIC)))
@torch.no_grad()
def test_directional_networks_say_so_and_are(name: str) -> None:
    network, (before, after) = _scrambled(NETWORKS[name]()), _pair()
    assert network.directional
    assert not torch.allclose(network(before, after), network(after, before), atol=1e-3)


def test_every_parameter_gets_a_gradient(any_network: ChangeNetwork) -> None:
    any_network.train()(*_pair(count=2)).square().sum().backward()
    assert [name for name, parameter in any_network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 50), (33, 16)])
@torch.no_grad()
def test_any_size_is_the_padded_size_cropped(any_network: ChangeNetwork, height: int, width: int) -> None:
    before, after = _pair(height, width)
    padded = any_network.logits(*(pad_to_stride(date, any_network.stride) for date in (before, after)))
    logits = any_network(before, after)
    assert logits.shape == (1, any_network.classes, height, width)
    assert torch.equal(logits, padded[..., :height, :width])


@pytest.mark.parametrize("name", EXACT)
@torch.no_grad()
def test_shift_by_the_stride_shifts_the_map(name: str) -> None:
    """The stride is a period of the network: a shift by it is a shift of the map, far from the edges."""
    any_network = _scrambled(NETWORKS[name]())
    assert any_network.tiling == "exact"
    s, side = any_network.stride, 416
    before, after = _pair(side, 16)
    whole = any_network(before, after)
    shifted = any_network(before[..., s:, :], after[..., s:, :])
    middle = slice(side // 2 - 32, side // 2 + 32)
    torch.testing.assert_close(shifted[..., middle, :], whole[..., s:, :][..., middle, :], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"fc_ef"}))
@torch.no_grad()
def test_features_kept_and_compared_again(name: str) -> None:
    network, (before, after) = _scrambled(NETWORKS[name]()), _pair(64, 96)
    assert isinstance(network, SiameseNetwork)
    again = network.compare(network.features(before), network.features(after))
    torch.testing.assert_close(again, network(before, after), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - set(EXACT)))
@torch.no_grad()
def test_networks_that_see_the_whole_chip_say_so_and_do(name: str) -> None:
    """A far corner of the chip that is changed changes every pixel, and no field is claimed."""
    network, (before, after) = _scrambled(NETWORKS[name]()), _pair(160, 160)
    assert network.tiling == "fixed_chip"
    other = after.clone()
    other[..., -32:, -32:] += 3
    assert not torch.equal(network(before, after)[..., :32, :32], network(before, other)[..., :32, :32])
    with pytest.raises(UnboundedFieldError, match="depends on the whole chip"):
        receptive_field(network, 3)


@pytest.mark.parametrize("name", ["fc_siam_conc", "absdiff", "bit", "tinycd_directional"])
@torch.no_grad()
def test_features_of_a_date_can_be_kept_and_compared_again(name: str) -> None:
    network = _scrambled(NETWORKS[name]())
    assert isinstance(network, SiameseNetwork)
    dates = list(torch.randn(4, 1, 3, 64, 96))
    kept = [network.features(date) for date in dates]
    for (first, second), (before, after) in zip(pairwise(kept), pairwise(dates), strict=True):
        torch.testing.assert_close(network.compare(first, second), network(before, after), rtol=1e-5, atol=1e-5)


def test_padding_repeats_the_edge_and_leaves_multiples_alone() -> None:
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert pad_to_stride(image, 4)[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert pad_to_stride(image, 1) is image


def test_learns_in_half_precision_from_channels_that_lie_together(any_network: ChangeNetwork) -> None:
    layout = lay_out(any_network.train(), half=True)
    images = torch.rand(2, 2, 3, 32, 32).unbind()
    with torch.autocast("cpu", torch.bfloat16):
        logits = any_network(*(image.contiguous(memory_format=layout) for image in images))
    logits.float().sum().backward()  # type: ignore[no-untyped-call]  # torch gives it no types
    assert layout == torch.channels_last
    assert all(p.grad is not None and p.grad.isfinite().all() for p in any_network.parameters())
