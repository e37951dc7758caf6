import math
from typing import Any

import pytest
import torch
from segmentation_models_pytorch import losses as smp
from torch import Tensor

from changedet.config import LossConfig
from changedet.errors import ConfigError
from changedet.network import metric_losses
from changedet.network.losses import ChangeLoss, LossValue, chip_losses, cross_entropy, dice, treat_border

_SCALE, _THRESHOLD = 8.0, 0.5
# Every loss alone and some sums, with settings that differ from the defaults.
_PIXEL_LOSSES: list[dict[str, Any]] = [
    {"bce": 1, "positive_weight": 3},
    {"bce": 1, "hard_negatives": 0.3},
    {"dice": 1},
    {"focal": 1, "focal_gamma": 1.5, "focal_alpha": 0.7},
    {"lovasz": 1},
    {"tversky": 1, "false_alarm_weight": 0.2, "miss_weight": 0.9},
    {"bce": 1, "dice": 0.5, "focal": 2, "border": "ignore"},
    {"bce": 1, "tversky": 1, "border": "soft"},
]
_METRIC_LOSSES: list[dict[str, Any]] = [
    {"contrastive": 1, "margin": 2},
    {"contrastive": 1, "bce": 0.1, "border": "soft"},
    *({"triplet": 1, "mining": mining} for mining in ("hard", "semi_hard", "batch_hard")),
]


def _names(value: object) -> str:
    return "+".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _distance_of(logits: Tensor) -> Tensor:
    return logits / _SCALE + _THRESHOLD


def _loss(settings: dict[str, Any]) -> ChangeLoss:
    return ChangeLoss(LossConfig(**settings), _distance_of)


def _value(settings: dict[str, Any], logits: Tensor, target: Tensor, valid: Tensor) -> LossValue:
    torch.manual_seed(3)  # what triplets draw
    return _loss(settings)(logits, target, valid)


def _batch(classes: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of distances from 0.1 to 1.1, so that all losses can be had of them; no two are close."""
    shape = (2, classes, 4, 6)
    count = math.prod(shape)
    distances = (0.1 + torch.randperm(count).double() / count).reshape(shape)
    logits = ((distances - _THRESHOLD) * _SCALE).requires_grad_()
    target = torch.zeros(shape, dtype=torch.float64)
    target[..., :2] = 1
    return logits, target, torch.rand(2, 1, 4, 6) > 0.2


def _agrees_with_differences(settings: dict[str, Any], classes: int = 1) -> bool:
    logits, target, valid = _batch(classes)
    # smp's Lovász computes in float32, whatever it is given; it is linear between its kinks.
    steps = {"eps": 1e-3, "atol": 1e-3} if "lovasz" in settings else {}
    return bool(torch.autograd.gradcheck(lambda x: _value(settings, x, target, valid).total, logits, **steps))


@pytest.mark.parametrize("settings", _PIXEL_LOSSES + _METRIC_LOSSES, ids=_names)
def test_gradient_is_that_of_finite_differences(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # Fewer groups of triplets, as each of the differences mines them all.
    monkeypatch.setattr(metric_losses, "PIXELS", 32)
    assert _agrees_with_differences(settings)


@pytest.mark.parametrize("settings", _PIXEL_LOSSES[:6], ids=_names)
def test_gradient_for_classes_is_that_of_finite_differences(settings: dict[str, Any]) -> None:
    assert _agrees_with_differences(settings, classes=3)


@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("settings", _PIXEL_LOSSES + _METRIC_LOSSES, ids=_names)
def test_what_invalid_pixels_hold_does_not_matter(settings: dict[str, Any], rubbish: float) -> None:
    logits, target, valid = _batch()
    clean = _value(settings, logits, target, valid)
    (gradient,) = torch.autograd.grad(clean.total, logits)
    dirty = logits.detach().masked_fill(~valid, rubbish).requires_grad_()
    value = _value(settings, dirty, target.masked_fill(~valid, rubbish), valid)
    (dirty_gradient,) = torch.autograd.grad(value.total, dirty)
    assert torch.equal(value.total, clean.total)
    assert all(torch.equal(part, clean.parts[name]) for name, part in value.parts.items())
    assert torch.equal(dirty_gradient, gradient)
    assert gradient[~valid].eq(0).all()
    assert gradient[valid].ne(0).any()


@pytest.mark.parametrize("settings", _PIXEL_LOSSES + _METRIC_LOSSES, ids=_names)
def test_no_valid_pixel_is_no_loss(settings: dict[str, Any]) -> None:
    logits, target, valid = _batch()
    dirty = torch.full_like(logits, float("nan")).requires_grad_()
    value = _value(settings, dirty, target, torch.zeros_like(valid))
    value.total.backward()
    assert value.total.item() == 0
    assert dirty.grad is not None
    assert dirty.grad.eq(0).all()


@pytest.mark.parametrize("settings", _PIXEL_LOSSES + _METRIC_LOSSES, ids=_names)
def test_parts_are_what_the_log_is_told_of(settings: dict[str, Any]) -> None:
    logits, target, valid = _batch()
    value = _value(settings, logits, target, valid)
    assert tuple(value.parts) == _loss(settings).names
    weights = LossConfig(**settings).weights
    expected = sum(float(value.parts[name]) * weight for name, weight in weights.items())
    assert value.total.item() == pytest.approx(expected)


def test_value_by_hand() -> None:
    """Four pixels, the last invalid; probabilities 1/2, 3/4 and 1/4, of which the second and third changed."""
    logits = torch.tensor([0, math.log(3), -math.log(3), 9]).reshape(1, 1, 2, 2)
    target = torch.tensor([0, 1, 1, 0]).reshape(1, 1, 2, 2)
    valid = torch.tensor([True, True, True, False]).reshape(1, 1, 2, 2)
    parts = _value({"bce": 1, "dice": 2, "positive_weight": 5}, logits, target, valid).parts
    bce = -(math.log(1 / 2) + 5 * math.log(3 / 4) + 5 * math.log(1 / 4)) / 3
    assert parts["bce"].item() == pytest.approx(bce, rel=1e-6)
    ratio = (2 * (3 / 4 + 1 / 4) + 1) / ((1 / 2 + 3 / 4 + 1 / 4) + 2 + 1)
    assert parts["dice"].item() == pytest.approx(1 - ratio, rel=1e-6)


def test_dice_agrees_with_smp_where_there_is_change() -> None:
    logits, target, _ = _batch()
    flat, truth = logits.flatten()[None], target.flatten()[None]
    # smp halves both sides of the ratio.
    torch.testing.assert_close(dice(flat, truth), smp.DiceLoss("binary", smooth=0.5)(flat[None], truth[None]))


def test_dice_of_a_batch_without_change_falls_with_its_false_alarms() -> None:
    nothing = torch.zeros(1, 50)
    many, few = (dice(torch.full((1, 50), logit), nothing).item() for logit in (2.0, -2.0))
    assert 0 < few < many


def test_hard_negatives_are_the_worst_unchanged_pixels_beside_all_changed_ones() -> None:
    logits = torch.tensor([[-3.0, -1.0, 2.0, 0.0, 1.0, -2.0]])
    target = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0, 1.0]])
    value, kept_from = cross_entropy(logits, target, hard_negatives=0.5)
    losses = [math.log(1 + math.exp(x)) for x in (2.0, 0.0)] + [math.log(1 + math.exp(-x)) for x in (1.0, -2.0)]
    assert value.item() == pytest.approx(sum(losses) / 4, rel=1e-6)
    assert kept_from.item() == pytest.approx(math.log(2), rel=1e-6)


def test_half_precision_is_summed_in_single() -> None:
    """300,000 pixels overflow a float16 sum and stall a bfloat16 one."""
    logits = torch.zeros(1, 1, 500, 600)
    target, valid = torch.ones_like(logits), torch.ones_like(logits, dtype=torch.bool)
    settings = {"bce": 1, "dice": 1}
    expected = _value(settings, logits, target, valid).total
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(_value(settings, logits.to(dtype), target, valid).total, expected)


def test_a_border_is_what_lies_next_to_another_label() -> None:
    """A change of 4 x 4 px, two rows of which are hidden: invalid pixels make no border."""
    target, valid = torch.zeros(1, 1, 10, 10), torch.ones(1, 1, 10, 10, dtype=torch.bool)
    target[..., 3:7, 3:7] = 1
    valid[..., 5:, :] = False
    _, kept = treat_border(target.masked_fill(~valid, float("nan")), valid, LossConfig(bce=1, border="ignore"))
    ignored = (valid & ~kept)[0, 0].nonzero().tolist()
    ring = {(row, col) for row in range(2, 5) for col in range(2, 8)} - {(4, 4), (4, 5)}
    assert {tuple(at) for at in ignored} == ring
    wide = LossConfig(bce=1, border="ignore", border_px=2)
    assert (valid & ~treat_border(target, valid, wide)[1]).sum() == 4 * 8


def test_a_soft_border_is_the_mean_label_of_the_valid_pixels_around() -> None:
    target, valid = torch.zeros(1, 1, 5, 5), torch.ones(1, 1, 5, 5, dtype=torch.bool)
    target[..., 2:] = 1
    valid[..., 0, :] = False
    soft, kept = treat_border(target, valid, LossConfig(bce=1, border="soft"))
    assert torch.equal(kept, valid)
    expected = torch.tensor([0, 1 / 3, 2 / 3, 1, 1]).expand(4, 5)
    torch.testing.assert_close(soft[0, 0, 1:], expected)


def test_chip_losses_are_those_of_each_chip_alone() -> None:
    logits, target, valid = _batch(classes=2)
    alone = [_value({"bce": 1}, *(x[i : i + 1] for x in (logits, target, valid))).total for i in range(2)]
    valid[1] = False
    losses = chip_losses(logits.masked_fill(~valid, float("nan")), target, valid)
    assert not losses.requires_grad
    assert losses.tolist() == pytest.approx([alone[0].item(), 0], rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no loss has a weight; expected one or more of bce, dice"),
        ({"bce": 0}, "no loss has a weight"),
        ({"bcee": 1}, "bcee"),
        ({"dice": 1, "positive_weight": 2}, "positive_weight is a setting of bce"),
        ({"bce": 1, "margin": 2}, "margin is a setting of contrastive and triplet"),
        ({"bce": 1, "border_px": 2}, "border_px needs border"),
        ({"lovasz": 1, "border": "soft"}, "lovasz takes no soft labels"),
        ({"triplet": 1, "mining": "easy"}, "hard"),
    ],
)
def test_refuses_what_makes_no_loss(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossConfig(**settings)


def test_a_configuration_survives_being_dumped() -> None:
    config = LossConfig(focal=1, dice=1, focal_gamma=1)
    assert LossConfig.model_validate(config.model_dump()) == config


def test_refuses_distances_of_a_network_without() -> None:
    with pytest.raises(ConfigError, match=r"(?s)the loss triplet for an architecture that gives no distance.*metric"):
        ChangeLoss(LossConfig(triplet=1, bce=1))
