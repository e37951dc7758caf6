from collections.abc import Callable
from typing import Any

import pytest
import torch

from changedet.network.base import ChangeNetwork
from changedet.network.card import Card
from changedet.network.fc_siam import FCSiamDiff


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1810)


@pytest.fixture
def network() -> FCSiamDiff:
    return FCSiamDiff(2, width=2)


@pytest.fixture
def make_card() -> Callable[..., Card]:
    return _make_card


def _make_card(network: ChangeNetwork, **changes: Any) -> Card:
    """Describe `network`, by default the one of the fixture, as its maker would."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "summary": "A model for tests.",
        "architecture": "fc_siam_diff",
        "arguments": {"in_channels": 2, "width": 2},
        "bands": ("B04", "B08"),
        "resolution_m": 10,
        "threshold": 0.5,
        "stride": network.stride,
        "receptive_field_px": 106,
        "halo_px": 64,
        "tiling": "exact",
        "directional": network.directional,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "licence": "CC0-1.0",
        "licence_note": "random weights",
        "commercial_use": True,
        "data": "none",
        "trained": "2026-01-31",
        "seed": 1,
        "command": "changedet train nothing.yaml",
        "figures": {"f1": 0.25, "folds": [{"f1": 0.2}, {"f1": None}]},
        "memory_bytes_per_px": 800.0,
        "versions": {"torch": torch.__version__},
    }
    return Card(**{**fields, **changes})
