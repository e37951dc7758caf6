import pytest
import torch

from changedet.network.mit import MixTransformer, _Block
from tests.network.published import parameters

# SegFormer, table 6: the two smallest encoders, in millions.
B0 = {"widths": (32, 64, 160, 256), "depths": (2, 2, 2, 2)}
B1 = {"widths": (64, 128, 320, 512), "depths": (2, 2, 2, 2)}


@pytest.mark.parametrize(("plan", "millions"), [(B0, 3.3), (B1, 13.2)], ids=["b0", "b1"])
def test_parameters_are_those_of_segformer(plan: dict[str, tuple[int, ...]], millions: float) -> None:
    """Published are 3.4 and 13.1 million, rounded, of which the difference is the classifiers' share."""
    with torch.device("meta"):
        encoder = MixTransformer(3, **plan, heads=(1, 2, 5, 8), reductions=(8, 4, 2, 1))
    assert parameters(encoder) / 1e6 == pytest.approx(millions, abs=0.15)


@torch.no_grad()
def test_levels_halve_from_a_quarter_on() -> None:
    encoder = MixTransformer(2, (8, 16, 24, 32), (1, 1, 1, 1), (1, 2, 4, 8), (8, 4, 2, 1)).eval()
    levels = encoder(torch.randn(2, 2, 64, 96))
    assert [tuple(level.shape) for level in levels] == [(2, 8, 16, 24), (2, 16, 8, 12), (2, 24, 4, 6), (2, 32, 2, 3)]


@torch.no_grad()
def test_every_token_attends_to_all_others() -> None:
    block = _Block(8, heads=2, reduction=2).eval()
    tokens = torch.randn(1, 64, 8)
    changed = tokens.clone()
    changed[:, -1] += 5
    assert not torch.equal(block(tokens, (8, 8))[:, 0], block(changed, (8, 8))[:, 0])
