import numpy as np
import pytest
import torch
from torch.nn import functional

from changedet.config import LossConfig
from changedet.errors import ConfigError
from changedet.network.calibration import probability_of
from changedet.network.card import Calibration
from changedet.network.class_losses import (
    ClassLoss,
    SemanticLogits,
    change_logits,
    class_cross_entropy,
    class_dice,
    semantic_loss,
)
from changedet.network.losses import ChangeLoss


def test_one_kind_of_change_is_the_binary_cross_entropy() -> None:
    logits, target = torch.randn(2, 1, 5, 6), torch.randint(0, 2, (2, 1, 5, 6))
    valid = torch.rand(2, 1, 5, 6) > 0.3
    expected = functional.binary_cross_entropy_with_logits(logits[valid], target[valid].float())
    torch.testing.assert_close(class_cross_entropy(logits, target, valid), expected)


def test_classes_by_hand_and_what_is_invalid_counts_for_nothing() -> None:
    logits = torch.tensor([[1.0, 2.0], [0.0, -1.0], [9.0, float("nan")]]).T.reshape(1, 2, 1, 3)
    target, valid = torch.tensor([[[[2, 0, 7]]]]), torch.tensor([[[[True, True, False]]]])
    first = -np.log(np.exp(2) / (1 + np.exp(1) + np.exp(2)))
    second = -np.log(1 / (1 + 1 + np.exp(-1)))
    logits.requires_grad_()
    loss = class_cross_entropy(logits, target, valid)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-5)
    weighted = class_cross_entropy(logits, target, valid, weights=(3.0, 1.0, 1.0))
    assert weighted.item() == pytest.approx((first + 3 * second) / 4, rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[..., 2].eq(0).all()
    assert class_cross_entropy(logits, target, torch.zeros_like(valid)).item() == 0


def test_a_step_against_the_gradient_is_what_finite_differences_say() -> None:
    logits = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    target, valid = torch.randint(0, 4, (1, 1, 2, 2)), torch.tensor([[[[True, True], [False, True]]]])
    assert torch.autograd.gradcheck(lambda x: class_cross_entropy(x, target, valid), logits)


def test_the_semantic_loss_sums_its_parts_and_skips_unknown_land_cover() -> None:
    parts = SemanticLogits(torch.randn(1, 1, 4, 4), torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4))
    changed, valid = torch.randint(0, 2, (1, 1, 4, 4)), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    before, after = torch.randint(0, 3, (1, 1, 4, 4)), torch.full((1, 1, 4, 4), -1)
    change = functional.binary_cross_entropy_with_logits(parts.change, changed.float())
    cover = functional.cross_entropy(parts.before, before[:, 0])
    torch.testing.assert_close(semantic_loss(parts, changed, before, after, valid, 0.4), 0.6 * change + 0.4 * cover / 2)


def test_probabilities_of_kinds_of_change_sum_to_that_of_change() -> None:
    logits = torch.randn(1, 3, 4, 5)
    probability = probability_of(logits, None)
    full = torch.cat([torch.zeros(1, 1, 4, 5), logits], dim=1).softmax(dim=1)
    torch.testing.assert_close(probability, full[:, 1:])
    calibration = Calibration(method="platt", slope=0.5, offset=-1, data="none")
    calibrated = probability_of(logits, calibration)
    torch.testing.assert_close(calibrated.sum(dim=1), (0.5 * logits.logsumexp(dim=1) - 1).sigmoid())
    torch.testing.assert_close(calibrated / calibrated.sum(dim=1, keepdim=True), logits.softmax(dim=1))


_BOTH = LossConfig(bce=1, dice=0.5, positive_weight=3)


def test_the_loss_of_kinds_is_that_of_change_where_there_is_one_kind() -> None:
    logits, target = torch.randn(2, 1, 5, 6), torch.randint(0, 2, (2, 1, 5, 6)).float()
    valid = torch.rand(2, 1, 5, 6) > 0.3
    config = LossConfig(bce=1, dice=0.5)
    one, other = (loss(logits, target, valid) for loss in (ClassLoss(config), ChangeLoss(config)))
    torch.testing.assert_close(one.total, other.total)
    assert one.parts.keys() == other.parts.keys()
    torch.testing.assert_close(change_logits(logits), logits)


def test_dice_of_kinds_by_hand() -> None:
    """Two pixels: of 0 logits a third each; wholly right where the logits are large."""
    target, valid = torch.tensor([[[[1, 2]]]]), torch.ones(1, 1, 1, 2, dtype=torch.bool)
    third = 1 - (2 / 3 + 1) / (2 / 3 + 1 + 1)
    assert class_dice(torch.zeros(1, 2, 1, 2), target, valid).item() == pytest.approx(third)
    right = torch.tensor([[[[99.0, -99.0]], [[-99.0, 99.0]]]])
    assert class_dice(right, target, valid).item() == pytest.approx(0)


@pytest.mark.parametrize("border", ["exact", "ignore"])
def test_gradients_of_the_loss_of_kinds_are_finite_differences(border: str) -> None:
    config = LossConfig.model_validate({**_BOTH.model_dump(), "border": border})
    logits = torch.randn(1, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    target, valid = torch.randint(0, 4, (1, 1, 3, 3)), torch.rand(1, 1, 3, 3) > 0.2
    loss = ClassLoss(config)
    assert torch.autograd.gradcheck(lambda x: loss(x, target.double(), valid).total, logits)


def test_of_a_semantic_network_kinds_are_transitions_and_unchanged_pixels_say_nothing_of_covers() -> None:
    parts = SemanticLogits(torch.randn(1, 1, 4, 4), torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4))
    target, valid = torch.randint(0, 3, (1, 1, 4, 4)), torch.rand(1, 1, 4, 4) > 0.2
    value = ClassLoss(LossConfig(bce=1, cover_share=0.4), pairs=((0, 1), (1, 0)))(parts, target.float(), valid)
    before, after = (torch.tensor(table)[target] for table in ([-1, 0, 1], [-1, 1, 0]))
    torch.testing.assert_close(value.total, semantic_loss(parts, target > 0, before, after, valid, 0.4))
    assert change_logits(parts) is parts.change


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"focal": 1}, "focal"),
        ({"bce": 1, "hard_negatives": 0.5}, "hard_negatives"),
        ({"bce": 1, "border": "soft"}, "soft"),
    ],
)
def test_refuses_losses_that_are_known_for_one_kind_only(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"{said} for several kinds of change[\s\S]*bce and dice"):
        ClassLoss(LossConfig.model_validate(settings))
