from typing import Any

import pytest
import torch
from torch import Tensor

from changedet.errors import ModelError
from changedet.network.base import ChangeNetwork
from changedet.network.fc_siam import FCSiamDiff
from changedet.network.seam import fixed_chip, fixed_halo, measure_seam
from changedet.network.tinycd import TinyCD


@pytest.mark.parametrize(
    ("crop", "stride", "chip", "halo"),
    [(96, 16, 96, 16), (96, 32, 96, 0), (128, 32, 128, 32), (100, 16, 96, 16), (8, 16, 16, 0)],
)
def test_chip_and_halo(crop: int, stride: int, chip: int, halo: int) -> None:
    assert (fixed_chip(crop, stride), fixed_halo(chip, stride)) == (chip, halo)


class _Mean(ChangeNetwork):
    """The logit is the mean difference over the chip: all that two chips disagree about."""

    stride = 4
    directional = True
    classes = 1

    def logits(self, before: Tensor, after: Tensor) -> Tensor:
        difference = after - before
        return difference.mean(dim=(2, 3), keepdim=True).expand_as(difference)


def test_the_seam_of_a_mean_is_what_the_means_of_two_chips_differ_by() -> None:
    before = torch.full((1, 1, 24, 24), 0.1)
    after = before.clone()
    after[..., 20:, 20:] = 0.1 + 0.12 * (torch.e - 1)  # 1 more in the network's scale
    # One chip of 16 px at 0, whose mean is 0, and one at 8, of which 16 of 256 px differ by 1.
    expected = torch.sigmoid(torch.tensor(16 / 256)) - 0.5
    seam = measure_seam(_Mean(), before, after, chip=16, halo=0)
    assert seam == pytest.approx(float(expected), rel=1e-4)


def test_only_networks_that_see_the_whole_chip_have_a_seam() -> None:
    pair = torch.rand(2, 1, 1, 160, 160)
    options: dict[str, Any] = {"chip": 96, "halo": 32}
    assert measure_seam(FCSiamDiff(1, width=2), *pair, **options) < 1e-5
    assert measure_seam(TinyCD(1), *pair, **options) > 1e-3


@pytest.mark.parametrize(("side", "chip", "halo"), [(40, 32, 8), (64, 32, 16), (64, 16, 0)])
def test_refusals(side: int, chip: int, halo: int) -> None:
    image = torch.rand(1, 1, side, side)
    with pytest.raises(ModelError, match="no seam to measure"):
        measure_seam(FCSiamDiff(1, width=2), image, image, chip=chip, halo=halo)
