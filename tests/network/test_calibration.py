import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from changedet.network.calibration import probability_of
from changedet.network.card import Calibration

_LOGITS = torch.linspace(-20, 20, 401)[:, None, None, None]
_TABLE = Calibration(method="isotonic", stated=(0.1, 0.4, 0.8), observed=(0.0, 0.3, 0.5), data="drawn")


def test_without_calibration_it_is_the_sigmoid() -> None:
    assert torch.equal(probability_of(_LOGITS, None), _LOGITS.sigmoid())
    plain = Calibration(method="temperature", data="none")
    torch.testing.assert_close(probability_of(_LOGITS, plain), _LOGITS.sigmoid())


def test_slope_and_offset_are_those_of_the_logit() -> None:
    platt = Calibration(method="platt", slope=0.5, offset=-2, data="drawn")
    torch.testing.assert_close(probability_of(_LOGITS, platt), (0.5 * _LOGITS - 2).sigmoid())


def test_a_table_is_read_with_straight_lines_and_flat_ends() -> None:
    stated = torch.tensor([[0.0, 0.1, 0.25], [0.4, 0.6, 1.0]])
    expected = torch.tensor([[0.0, 0.0, 0.15], [0.3, 0.4, 0.5]])
    torch.testing.assert_close(
        probability_of(stated.logit(eps=1e-6)[:, None], _TABLE)[:, 0], expected, atol=1e-5, rtol=0
    )


@given(
    st.lists(st.floats(0, 1, width=16), min_size=2, max_size=20, unique=True),
    st.lists(st.floats(0, 1, width=16), min_size=20, max_size=20),
)
def test_any_table_is_monotone_and_stays_a_probability(stated: list[float], observed: list[float]) -> None:
    table = Calibration(
        method="isotonic", stated=sorted(stated), observed=sorted(observed[: len(stated)]), data="drawn"
    )
    probability = probability_of(_LOGITS, table)
    assert (probability.diff(dim=0) >= -1e-6).all()
    assert ((probability >= 0) & (probability <= 1 + 1e-6)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "temperature", "slope": 0.0},
        {"method": "temperature", "stated": (0.1, 0.2), "observed": (0.1, 0.2)},
        {"method": "isotonic", "stated": (0.1,), "observed": (0.1,)},
        {"method": "isotonic", "stated": (0.1, 0.2), "observed": (0.1,)},
        {"method": "isotonic", "stated": (0.2, 0.1), "observed": (0.1, 0.2)},
        {"method": "isotonic", "stated": (0.1, 0.2), "observed": (0.2, 0.1)},
        {"method": "isotonic", "stated": (0.1, 0.2), "observed": (0.2, 1.1)},
    ],
)
def test_what_cannot_be_a_calibration_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Calibration.model_validate({**wrong, "data": "drawn"})
