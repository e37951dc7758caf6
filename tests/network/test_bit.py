import pytest
import torch

from changedet.network.bit import BIT
from tests.network.published import as_published, parameters

# Of ResNet-18's classifier, which the authors' encoder carries along unused.
_CLASSIFIER = 512 * 1000 + 1000


def test_parameters_and_work_are_the_published_ones() -> None:
    """Table I of the paper, BIT_S4: 3.55 million, and half of the work on both dates is 4.35 billion."""
    with torch.device("meta"):
        network = BIT(3, classes=2, directional=True)
    assert round((parameters(network) + _CLASSIFIER) / 1e6, 2) == 3.55
    assert as_published(network) / 2 == pytest.approx(4.35, rel=0.01)


def test_shared_positions_are_all_that_symmetry_costs() -> None:
    with torch.device("meta"):
        assert parameters(BIT(3, directional=True)) - parameters(BIT(3)) == 4 * 32


@torch.no_grad()
def test_tokens_are_means_over_pixels_and_know_the_other_date() -> None:
    network = BIT(1, encoder_depth=2, decoder_layers=1).eval()
    dates = torch.randn(1, 2, 32, 8, 8)
    tokens = network._tokens(dates)
    assert tokens.shape == (1, 2, 4, 32)
    lowest, highest = (
        edge.amin((-2, -1)) if sign < 0 else edge.amax((-2, -1)) for sign, edge in ((-1, dates), (1, dates))
    )
    assert ((tokens >= lowest[:, :, None]) & (tokens <= highest[:, :, None])).all()
    before, after, other = ([torch.randn(1, 32, 8, 8)] for _ in range(3))
    # The middle of the difference moves with a corner of the other date only through the tokens.
    changed = [after[0].clone()]
    changed[0][..., 0, 0] = other[0][..., 0, 0] * 10
    middle = (..., slice(14, 18), slice(14, 18))
    assert not torch.equal(network.compare(before, after)[middle], network.compare(before, changed)[middle])


@pytest.mark.parametrize(("depth", "stride"), [(2, 4), (3, 8), (4, 8), (5, 8)])
def test_the_later_stages_keep_their_size(depth: int, stride: int) -> None:
    network = BIT(1, encoder_depth=depth, decoder_layers=1)
    assert network.stride == stride
    assert 64 // network.encoder(torch.zeros(1, 1, 64, 64))[-1].shape[-1] == stride
