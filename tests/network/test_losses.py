import math

import pytest
import torch
from torch import Tensor

from changedet.network.losses import masked_bce_dice


def _batch(classes: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    shape = (2, classes, 3, 4)
    logits = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    return logits, (torch.rand(shape) > 0.6).double(), torch.rand(2, 1, 3, 4) > 0.3


@pytest.mark.parametrize("classes", [1, 3])
def test_gradient_is_that_of_finite_differences(classes: int) -> None:
    logits, target, valid = _batch(classes)
    assert torch.autograd.gradcheck(lambda x: masked_bce_dice(x, target, valid, 3.0), logits)


def test_value_by_hand() -> None:
    """Four pixels, the last invalid; probabilities 1/2, 3/4 and 1/4, of which the second and third changed."""
    logits = torch.tensor([0, math.log(3), -math.log(3), 9]).reshape(1, 1, 2, 2)
    target = torch.tensor([0, 1, 1, 0]).reshape(1, 1, 2, 2)
    valid = torch.tensor([True, True, True, False]).reshape(1, 1, 2, 2)
    bce = -(math.log(1 / 2) + 5 * math.log(3 / 4) + 5 * math.log(1 / 4)) / 3
    dice = (2 * (3 / 4 + 1 / 4) + 1) / ((1 / 2 + 3 / 4 + 1 / 4) + 2 + 1)
    assert masked_bce_dice(logits, target, valid, 5.0).item() == pytest.approx(bce + 1 - dice, rel=1e-6)


@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), -1e30])
def test_what_invalid_pixels_hold_does_not_matter(rubbish: float) -> None:
    logits, target, valid = _batch()
    clean = masked_bce_dice(logits, target, valid, 2.0)
    (gradient,) = torch.autograd.grad(clean, logits)
    dirty = logits.detach().masked_fill(~valid, rubbish).requires_grad_()
    loss = masked_bce_dice(dirty, target.masked_fill(~valid, 255), valid, 2.0)
    (dirty_gradient,) = torch.autograd.grad(loss, dirty)
    assert torch.equal(loss, clean)
    assert torch.equal(dirty_gradient, gradient)
    assert gradient[~valid].eq(0).all()
    assert gradient[valid].ne(0).all()


def test_invalid_pixels_weigh_nothing() -> None:
    """The loss of a batch is that of its valid pixels alone."""
    logits, target, _ = _batch()
    valid = torch.zeros(2, 1, 3, 4, dtype=torch.bool)
    valid[..., :2] = True
    alone = masked_bce_dice(logits[..., :2], target[..., :2], valid[..., :2])
    torch.testing.assert_close(masked_bce_dice(logits, target, valid), alone)


def test_no_valid_pixel_is_no_loss() -> None:
    logits, target, valid = _batch()
    loss = masked_bce_dice(logits, target, torch.zeros_like(valid))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


def test_half_precision_is_summed_in_single() -> None:
    """300,000 pixels overflow a float16 sum and stall a bfloat16 one."""
    logits = torch.zeros(1, 1, 500, 600)
    target, valid = torch.ones_like(logits), torch.ones_like(logits, dtype=torch.bool)
    expected = masked_bce_dice(logits, target, valid)
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(masked_bce_dice(logits.to(dtype), target, valid), expected)
