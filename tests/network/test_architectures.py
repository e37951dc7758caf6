"""The table of docs/models.md is what the networks are, and a small one of each learns a chip by heart."""

import re
from typing import Any

import pytest
import torch

from changedet.network.base import ChangeNetwork
from changedet.network.package import ARCHITECTURES, build_network
from changedet.network.work import count_multiply_adds
from tests.network.published import parameters
from tests.pairs import ROOT

_ROW = re.compile(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \| ([\d.]+) \| ([\d.]+) \| (\w+) \| (yes|no) \|$", re.MULTILINE)
SMALL: dict[str, dict[str, Any]] = {
    "fc_ef": {"width": 8, "dropout": 0},
    "fc_siam_conc": {"width": 8, "dropout": 0},
    "fc_siam_diff": {"width": 8, "dropout": 0},
    "siamese_smp": {"encoder_depth": 2, "fusion": "learned", "decoder_channels": (16, 16)},
    "semantic_smp": {"encoder_depth": 2, "decoder_channels": (16, 16)},
    "siamese_metric": {"encoder_depth": 2, "decoder_channels": (16, 16)},
    "stanet": {"encoder_depth": 2, "level_width": 16, "pyramid_width": 32, "embedding": 16, "regions": (1, 2)},
    "bit": {"encoder_depth": 2, "decoder_layers": 1},
    "changeformer": {"widths": (16, 16, 16, 16), "depths": (1, 1, 1, 1), "patch": 3, "decoder_width": 16},
    "tinycd": {},
}


def _rows() -> list[tuple[str, ...]]:
    return _ROW.findall((ROOT / "docs" / "models.md").read_text())


def test_every_architecture_is_in_the_table() -> None:
    assert {row[0] for row in _rows()} == set(ARCHITECTURES) == set(SMALL)


@pytest.mark.parametrize("row", _rows(), ids=lambda row: f"{row[0]}-{row[2]}")
def test_the_table_says_what_the_networks_are(row: tuple[str, ...]) -> None:
    name, _, arguments, millions, billions, tiling, directional = row
    given = dict(part.split("=") for part in arguments.strip("`").split(", ") if "=" in part)
    with torch.device("cpu" if "smp" in name or name == "siamese_metric" else "meta"):
        network = build_network(name, {"in_channels": 3, **{key: _value(text) for key, text in given.items()}})
    assert f"{parameters(network) / 1e6:.2f}" == millions
    assert f"{count_multiply_adds(network, 3) / 1e9:.2f}" == billions
    assert (network.tiling, "yes" if network.directional else "no") == (tiling, directional)


def _value(text: str) -> Any:
    return int(text) if text.isdigit() else {"true": True, "false": False}.get(text, text)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_one_learns_a_chip_by_heart(name: str) -> None:
    torch.manual_seed(3)
    network: ChangeNetwork = build_network(name, {"in_channels": 2, **SMALL[name]})
    before = torch.rand(2, 2, 32, 32)
    changed = torch.zeros(2, 1, 32, 32)
    changed[0, :, 4:20, 8:24] = changed[1, :, 12:28, 4:16] = 1
    after = before + changed * torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        # Of any kind of change, which with one kind is the logit itself.
        logits = network(before, after).logsumexp(dim=1, keepdim=True)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, changed)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = logits > 0
    overlap = float((found & changed.bool()).sum() / (found | changed.bool()).sum())
    # STANet's distance is at a quarter of the resolution, and half of its pyramid is dropped at every step.
    assert overlap > (0.7 if name == "stanet" else 0.9)
