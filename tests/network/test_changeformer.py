import pytest
import torch

from changedet.network.changeformer import ChangeFormer
from tests.network.published import as_published, parameters

# Heads for the loss at coarser scales, which are not built here: two 3 x 3 convolutions and a norm at four scales.
_HEADS = 4 * ((9 * 256 * 2 + 2) + 2 * 2 + (9 * 2 * 2 + 2))


def test_parameters_and_work_are_the_published_ones() -> None:
    """41.03 million and 202.9 billion, as the tables of later papers have it."""
    with torch.device("meta"):
        network = ChangeFormer(3, classes=2, directional=True)
    assert round((parameters(network) + _HEADS) / 1e6, 2) == 41.03
    assert as_published(network) == pytest.approx(202.9, rel=0.01)


def test_symmetry_costs_no_parameter_and_the_small_one_is_small() -> None:
    small = {"widths": [32, 64, 128, 192], "depths": [2, 2, 2, 2], "patch": 3, "decoder_width": 48}
    with torch.device("meta"):
        sizes = {parameters(ChangeFormer(12, directional=directional, **small)) for directional in (False, True)}
    assert len(sizes) == 1
    assert sizes.pop() < 3.5e6


@torch.no_grad()
def test_every_scale_of_either_date_counts() -> None:
    network = ChangeFormer(1, widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), patch=3, decoder_width=8).eval()
    before, after = (network.features(torch.randn(1, 1, 64, 64)) for _ in range(2))
    assert [level.shape[-1] for level in before] == [16, 8, 4, 2]
    logits = network.compare(before, after)
    for level in range(4):
        other = [value + 3 * (index == level) for index, value in enumerate(after)]
        assert not torch.equal(network.compare(before, other), logits)
