from typing import Any

import pytest
import torch

from changedet.errors import ModelError
from changedet.network.calibration import probability_of
from changedet.network.package import build_network
from changedet.network.semantic import SemanticSMP, transitions

_SMALL: dict[str, Any] = {"encoder_depth": 2, "decoder_channels": (8, 8)}


@torch.no_grad()
def test_transitions_are_the_change_times_the_land_covers() -> None:
    network = SemanticSMP(2, 3, **_SMALL).eval()
    dates = torch.randn(2, 1, 2, 21, 30)
    probability = probability_of(network(*dates), None)
    parts = network.semantic(*dates)
    assert probability.shape == (1, 6, 21, 30)
    torch.testing.assert_close(probability.sum(dim=1, keepdim=True), parts.change.sigmoid(), rtol=1e-4, atol=1e-5)
    before, after = parts.before.softmax(dim=1)[0], parts.after.softmax(dim=1)[0]
    pairs = torch.stack([before[i] * after[j] for i in range(3) for j in range(3) if i != j])
    expected = parts.change.sigmoid()[0] * pairs / pairs.sum(dim=0)
    torch.testing.assert_close(probability[0], expected, rtol=1e-3, atol=1e-5)
    assert transitions(("a", "b", "c")) == ("a to b", "a to c", "b to a", "b to c", "c to a", "c to b")


@torch.no_grad()
def test_exchanging_the_dates_turns_every_transition_round() -> None:
    network = SemanticSMP(2, 2, **_SMALL).eval()
    before, after = torch.randn(2, 1, 2, 16, 16)
    torch.testing.assert_close(network(after, before), network(before, after).flip(1), rtol=1e-4, atol=1e-4)


def test_every_parameter_gets_a_gradient() -> None:
    network = SemanticSMP(2, 2, **_SMALL)
    network(*torch.randn(2, 2, 2, 16, 16)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_one_land_cover_is_refused() -> None:
    with pytest.raises(ModelError, match="1 land covers, between which nothing can change"):
        build_network("semantic_smp", {"in_channels": 2, "covers": 1})
