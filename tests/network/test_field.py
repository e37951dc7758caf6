from typing import Any

import pytest
import torch
from torch import Tensor, nn

from changedet.errors import ModelError
from changedet.network.base import ChangeNetwork
from changedet.network.fc_siam import FCEF, FCSiamConc, FCSiamDiff
from changedet.network.field import measure_halo, measure_memory, receptive_field
from changedet.network.normalise import LogReflectance
from changedet.network.siamese import SiameseSMP


class _Chain(ChangeNetwork):
    """Layers on the absolute difference of the dates."""

    directional = False

    def __init__(self, stride: int, *layers: nn.Module) -> None:
        super().__init__()
        self.stride = stride
        self.layers = nn.Sequential(*layers)

    def logits(self, before: Tensor, after: Tensor) -> Tensor:
        logits: Tensor = self.layers((before - after).abs())
        return logits


def _conv(channels: int = 2, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, **{"padding": 1, **options})


def _hourglass() -> _Chain:
    """A network that sees 5 px beyond its stride cell.

    Backwards from the cell of rows 0 and 1: head from -1..2, enlarged from -1..1, convolved from -2..2, pooled from
    -4..5, convolved from -5..6.
    """
    up = nn.Upsample(scale_factor=2)
    return _Chain(2, _conv(), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), _conv(), nn.Dropout2d(), up, _conv())


@pytest.mark.parametrize(
    ("network", "field"),
    [
        (_Chain(1, nn.Conv2d(2, 1, 1)), 0),
        (_Chain(1, _conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv()), 3),
        (_Chain(1, _conv(dilation=4, padding=4)), 4),
        (_Chain(1, nn.Conv2d(2, 1, (1, 7), padding=(0, 3))), 3),
        (_hourglass(), 5),
    ],
    ids=["point", "three", "dilated", "oblong", "hourglass"],
)
def test_field_by_hand(network: ChangeNetwork, field: int) -> None:
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert receptive_field(network, 2) == field
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    "network",
    [
        FCEF(1, width=2),
        FCSiamConc(1, width=2),
        FCSiamDiff(1, width=2),
        SiameseSMP("tu-resnet10t", "unet", 1, encoder_depth=3, decoder_channels=(8, 8, 8)),
        SiameseSMP("tu-resnet10t", "unet", 1, encoder_depth=3, decoder_channels=(8, 8, 8), fusion="diff"),
        SiameseSMP("tu-resnet10t", "unet", 1, encoder_depth=3, decoder_channels=(8, 8, 8), stem_pool=False),
    ],
    ids=["fc_ef", "fc_siam_conc", "fc_siam_diff", "absdiff", "diff", "no_stem_pool"],
)
@torch.no_grad()
def test_field_is_where_not_a_number_comes_from(network: ChangeNetwork) -> None:
    """NaN beyond the field never reaches the cell, and NaN in the field's last row does, on one side at least."""
    network = network.double().eval()
    field, stride = receptive_field(network, 1), network.stride
    start = (field // stride + 2) * stride
    cell = (..., slice(start, start + stride), slice(None))

    def _cell_is_reached(distance: int) -> bool:
        before, after = (torch.randn(1, 1, 2 * start + stride, 32, dtype=torch.float64) for _ in range(2))
        for date in (before, after):
            date[..., : start - distance, :] = float("nan")
            date[..., start + stride + distance :, :] = float("nan")
        return bool(network(before, after)[cell].isnan().any())

    assert not _cell_is_reached(field)
    assert _cell_is_reached(field - 1)


def test_refuses_a_field_without_bound() -> None:
    class _Global(_Chain):
        def logits(self, before: Tensor, after: Tensor) -> Tensor:
            difference = super().logits(before, after)
            return difference + difference.mean(dim=(2, 3), keepdim=True)

    with pytest.raises(ModelError, match=r"(?s)more than 2048 px.*fixed_chip"):
        receptive_field(_Global(1, nn.Conv2d(1, 1, 1)), 1)


def test_refuses_a_network_without_gradients() -> None:
    class _Steps(_Chain):
        def logits(self, before: Tensor, after: Tensor) -> Tensor:
            return super().logits(before, after).sign()

    with pytest.raises(ModelError, match="no gradient reaches"):
        receptive_field(_Steps(1, nn.Conv2d(1, 1, 1)), 1)


class _Sees(ChangeNetwork):
    """A pixel of the map is the mean of the rows `reach` px above and below it in the image: a known halo."""

    stride = 4
    directional = False

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def logits(self, before: Tensor, after: Tensor) -> Tensor:
        difference = LogReflectance()(before.exp()) - LogReflectance()(after.exp())
        above, below = torch.zeros_like(difference), torch.zeros_like(difference)
        above[..., self.reach :, :] = difference[..., : -self.reach, :]
        below[..., : -self.reach, :] = difference[..., self.reach :, :]
        return above + below


@pytest.mark.parametrize(("reach", "halo"), [(1, 4), (4, 4), (5, 8), (12, 12)])
def test_halo_is_the_smallest_that_suffices(reach: int, halo: int) -> None:
    before, after = torch.rand(1, 1, 66, 49), torch.rand(1, 1, 66, 49)
    assert measure_halo(_Sees(reach), before, after, core=16) == halo


def test_halo_of_a_pointwise_network_is_none() -> None:
    network = _Chain(1, nn.Conv2d(1, 1, 1))
    assert measure_halo(network, torch.rand(1, 1, 20, 30), torch.rand(1, 1, 20, 30), core=8) == 0
    assert network.training


@pytest.mark.parametrize(("side", "core", "message"), [(16, 16, "no halo found"), (32, 10, "multiple of the stride")])
def test_halo_refusals(side: int, core: int, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        measure_halo(_Sees(1), torch.rand(1, 1, side, side), torch.rand(1, 1, side, side), core=core)


def test_memory_is_that_of_the_live_tensors() -> None:
    """FC-EF's widest moment, the last skip concatenated, is within a few times its 96 bytes a pixel at width 8."""
    measured = measure_memory("fc_ef", {"in_channels": 2, "width": 8}, size=768)
    assert 96 < measured < 960
