import pytest
import torch

from changedet.network.base import ChangeNetwork
from changedet.network.fc_siam import FCEF, FCSiamConc, FCSiamDiff


@pytest.mark.parametrize(("kind", "millions"), [(FCEF, 1.35), (FCSiamConc, 1.55), (FCSiamDiff, 1.35)])
def test_parameters_are_the_published_ones(kind: type[ChangeNetwork], millions: float) -> None:
    """Table 1 of the paper, for three bands."""
    parameters = sum(parameter.numel() for parameter in kind(3).parameters())
    assert round(parameters / 1e6, 2) == millions


@torch.no_grad()
def test_difference_is_absolute_at_every_level() -> None:
    network = FCSiamDiff(1, width=2).eval()
    levels = network.features(torch.randn(1, 1, 32, 32))
    flipped = [level + 1 for level in levels], [level - 1 for level in levels]
    assert [level.shape[-1] for level in levels] == [32, 16, 8, 4, 2]
    torch.testing.assert_close(network.compare(levels, flipped[0]), network.compare(levels, flipped[1]))
    for changed in range(5):
        other = [level + (i == changed) for i, level in enumerate(levels)]
        assert not torch.equal(network.compare(levels, other), network.compare(levels, levels))


def test_dropout_drops_only_in_training() -> None:
    network = FCSiamDiff(1, width=4, dropout=0.5)
    pair = torch.randn(1, 1, 32, 32), torch.randn(1, 1, 32, 32)
    assert not torch.equal(network(*pair), network(*pair))
    network.eval()
    assert torch.equal(network(*pair), network(*pair))
