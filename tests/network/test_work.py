import pytest
import torch
from torch import Tensor, nn

from changedet.network.base import ChangeNetwork
from changedet.network.fc_siam import FCEF, FCSiamConc, FCSiamDiff
from changedet.network.work import count_multiply_adds
from tests.network.published import as_published


class _One(ChangeNetwork):
    """A 3 x 3 convolution of the difference."""

    stride = 4
    directional = True
    classes = 5

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 5, 3, padding=1)

    def logits(self, before: Tensor, after: Tensor) -> Tensor:
        logits: Tensor = self.convolution(after - before)
        return logits


def test_a_convolution_by_hand() -> None:
    network = _One()
    assert count_multiply_adds(network, 2, 8) == 2 * 5 * 9 * 8 * 8
    # Padded to the stride.
    assert count_multiply_adds(network, 2, 7) == count_multiply_adds(network, 2, 8)
    assert network.training
    assert network.convolution.weight.device.type == "cpu"


@pytest.mark.parametrize(("kind", "giga"), [(FCEF, 1.78), (FCSiamDiff, 2.33), (FCSiamConc, 2.66)])
def test_the_fully_convolutional_networks_do_as_published(kind: type[ChangeNetwork], giga: float) -> None:
    """Table I of Chen, Qi and Shi (2021) gives half of the work on both dates."""
    with torch.device("meta"):
        network = kind(3)
    assert as_published(network) / 2 == pytest.approx(giga, rel=0.01)
