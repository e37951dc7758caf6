from typing import Any

import pytest
import torch

from changedet.errors import ModelError
from changedet.network.field import receptive_field
from changedet.network.metric import SiameseMetric
from changedet.network.siamese import SiameseSMP

_DISTANCES = ["euclidean", "manhattan", "cosine", "learned"]
_SMALL: dict[str, Any] = {"in_channels": 2, "encoder_depth": 2, "decoder_channels": [8, 8], "embedding": 4}


def _network(distance: str) -> SiameseMetric:
    torch.manual_seed(1)
    return SiameseMetric(distance=distance, **_SMALL)  # type: ignore[arg-type]


@pytest.mark.parametrize("distance", _DISTANCES)
def test_exchanging_the_dates_changes_nothing_and_equal_dates_are_at_distance_0(distance: str) -> None:
    network = _network(distance).eval()
    before, after = torch.randn(2, 2, 40, 33), torch.randn(2, 2, 40, 33)
    with torch.inference_mode():
        logits = network(before, after)
        torch.testing.assert_close(network(after, before), logits, rtol=1e-5, atol=1e-5)
        assert network.distance_of(network(before, before)).abs().max() < 1e-6
        assert network.distance_of(logits).min() >= -1e-6
    assert logits.shape == (2, 1, 40, 33)


@pytest.mark.parametrize("distance", _DISTANCES)
def test_every_parameter_gets_a_gradient_also_from_equal_pixels(distance: str) -> None:
    network = _network(distance)
    before = torch.randn(2, 2, 32, 32)
    after = before.clone()
    after[..., :16] += torch.randn(2, 2, 32, 16)
    network.distance_of(network(before, after)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.ne(0).any() or name.endswith("bias"), name  # a bias may cancel in a difference


@pytest.mark.parametrize("distance", _DISTANCES)
def test_the_field_is_that_of_the_embedding(distance: str) -> None:
    embedding = SiameseSMP(in_channels=2, encoder_depth=2, decoder_channels=[8, 8])
    assert receptive_field(_network(distance), 2) == receptive_field(embedding, 2)


def test_probability_is_a_half_at_the_calibrated_threshold_and_rises_with_the_distance() -> None:
    network = _network("euclidean").eval()
    network.calibrate(scale=3.0, threshold=0.25)
    with torch.inference_mode():
        logits = network(torch.randn(1, 2, 16, 16), torch.randn(1, 2, 16, 16)).flatten()
    distance = network.distance_of(logits)
    torch.testing.assert_close(logits.sigmoid(), 1 / (1 + torch.exp(-3 * (distance - 0.25))))
    assert network.state_dict()["threshold"] == 0.25


def test_refuses_an_unknown_distance() -> None:
    with pytest.raises(ModelError, match=r"(?s)distance 'hamming'.*euclidean, manhattan, cosine, learned"):
        SiameseMetric(distance="hamming", **_SMALL)  # type: ignore[arg-type]
