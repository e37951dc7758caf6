from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from changedet.network.card import Card
from changedet.network.fc_siam import FCSiamDiff


def test_json_round_trip(network: FCSiamDiff, make_card: Callable[..., Card]) -> None:
    card = make_card(network, arguments={"in_channels": 2, "decoder_channels": (16, 8)})
    again = Card.model_validate_json(card.model_dump_json())
    assert again == card
    assert again.arguments["decoder_channels"] == [16, 8]


def test_a_chip_of_fixed_size_claims_no_field(network: FCSiamDiff, make_card: Callable[..., Card]) -> None:
    card = make_card(network, tiling="fixed_chip", chip_px=512, receptive_field_px=None)
    assert Card.model_validate_json(card.model_dump_json()) == card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": ("B04", "B13")}, "bands.1"),
        ({"bands": ("B04", "B04")}, "name one twice"),
        ({"optional_bands": ("B04", "B08")}, "some of the bands, not all"),
        ({"optional_bands": ("B12",)}, "some of the bands, not all"),
        ({"threshold": 1.5}, "threshold"),
        ({"resolution_m": float("nan")}, "resolution_m"),
        ({"halo_px": 60}, "multiples of the stride"),
        ({"tiling": "fixed_chip"}, "exact tiling needs"),
        ({"chip_px": 512}, "exact tiling needs"),
        ({"trained": "yesterday"}, "trained"),
        ({"trained": None}, "trained"),
        ({"figures": {"f1": float("nan")}}, "not JSON compliant"),
        ({"arguments": {"width": {1, 2}}}, "not JSON serializable"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_refusals(network: FCSiamDiff, make_card: Callable[..., Card], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_card(network, **changes)
