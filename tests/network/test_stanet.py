import pytest
import torch
from torch.nn import functional

from changedet.network.stanet import STANet, _Attention
from tests.network.published import as_published, parameters

# A third block of the last stage, which the authors' code has and ResNet-18 has not, at 1/32 of 256 px.
_BLOCK = 2 * 9 * 512 * 512 + 4 * 512
_BLOCK_WORK = 2 * 2 * 9 * 512 * 512 * 8 * 8 / 1e9


def test_parameters_and_work_are_the_published_ones_but_for_a_block() -> None:
    """Table I of Chen, Qi and Shi (2021): 16.93 million, and half of the work on both dates is 6.58 billion."""
    with torch.device("meta"):
        network = STANet(3)
    assert round((parameters(network) + _BLOCK) / 1e6, 2) == 16.93
    assert (as_published(network) + _BLOCK_WORK) / 2 == pytest.approx(6.58, rel=0.01)


def test_a_small_one_has_less_than_three_and_a_half_million() -> None:
    with torch.device("meta"):
        assert parameters(STANet(12, encoder_depth=4, level_width=64, pyramid_width=192)) < 3.5e6


@torch.no_grad()
def test_attention_is_that_of_each_region_by_itself() -> None:
    attention = _Attention(8, parts=2)
    dates = torch.randn(1, 8, 2, 4, 6)
    result = attention(dates)
    region = dates[..., 2:, 3:]  # the last of four, at both dates
    query, key, value = (
        part(region).flatten(2).transpose(1, 2) for part in (attention.query, attention.key, attention.value)
    )
    weights = functional.softmax(query @ key.transpose(1, 2) / query.shape[-1] ** 0.5, dim=-1)
    torch.testing.assert_close(result[..., 2:, 3:], (weights @ value).transpose(1, 2).reshape(region.shape))


@torch.no_grad()
def test_the_logit_is_the_distance_of_the_embeddings() -> None:
    network = STANet(2, encoder_depth=2, level_width=8, pyramid_width=16, embedding=16, regions=(1, 2)).eval()
    before, after = (network.features(torch.randn(1, 2, 32, 32)) for _ in range(2))
    first, second = network.embed(before, after)
    distance = network.distance_between(before, after)
    assert distance.shape == (1, 1, 32, 32)
    expected = torch.linalg.vector_norm(first - second, dim=1, keepdim=True)
    torch.testing.assert_close(distance.mean(), expected.mean(), rtol=0.1, atol=0)
    torch.testing.assert_close(network.distance_of(network.compare(before, after)), distance, rtol=1e-4, atol=1e-5)
    assert network.distance_between(before, before).max() < 1e-5
