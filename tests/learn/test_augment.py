from typing import Any

import pytest
import torch
from torch import Tensor

from changedet.config import NEUTRAL_REFLECTANCE, AugmentConfig
from changedet.learn.augment import augment
from changedet.learn.sample import Batch

_SIZE, _CROP, _CHIPS = 48, 32, 8
_BANDS = ("B04", "B08")


def _still(**changes: Any) -> AugmentConfig:
    """Nothing but turns and the crop, unless asked for."""
    none = dict.fromkeys(("warp_share", "misregister_px", "swap", "gain", "band_gain", "haze", "noise"), 0.0)
    return AugmentConfig(**{"crop_px": _CROP, "largest_scale": 1.0, **none, **changes})


def _coordinates() -> Batch:
    """Channels are row and column (px), at both dates; what lies below row 20 is changed."""
    rows, cols = torch.meshgrid(torch.arange(_SIZE), torch.arange(_SIZE), indexing="ij")
    image = torch.stack([rows, cols]).float().expand(_CHIPS, 2, _SIZE, _SIZE)
    valid = torch.ones(_CHIPS, 1, _SIZE, _SIZE, dtype=torch.bool)
    return Batch(image, image.clone(), (image[:, :1] > 20).float(), valid)


def _augmented(batch: Batch, config: AugmentConfig, step: int = 0) -> Batch:
    return augment(batch, _BANDS, config, seed=3, step=step)


@pytest.mark.parametrize("step", range(8))
def test_a_valid_chip_stays_valid_everywhere(step: int) -> None:
    """The crop leaves room for the largest scale and shift, so nothing from outside comes in."""
    batch = _augmented(_coordinates(), _still(warp_share=1, largest_scale=1.35, misregister_px=1), step)
    assert batch.before.shape == (_CHIPS, 2, _CROP, _CROP)
    assert batch.valid.all()


def test_turns_keep_the_counts_and_reach_all_eight_symmetries() -> None:
    whole = _still(crop_px=_SIZE)
    batch = _coordinates()
    turned = [_augmented(batch, whole, step) for step in range(60)]
    assert {float(t.target.sum()) for t in turned} == {float(batch.target.sum())}
    assert len({tuple(t.before[0, :, 0, :2].flatten().tolist()) for t in turned}) == 8


@pytest.mark.parametrize("step", range(8))
@pytest.mark.parametrize("share", [0, 1])
def test_label_and_images_move_together(share: float, step: int) -> None:
    batch = _augmented(_coordinates(), _still(warp_share=share, largest_scale=1.35), step)
    rows = batch.before[:, :1]
    clear = (rows - 20.5).abs() > (0.5 if share else 0)
    assert torch.equal(batch.target[clear] == 1, rows[clear] > 20.5)
    torch.testing.assert_close(batch.after, batch.before)


def test_axes_are_scaled_apart_and_within_the_limit() -> None:
    batch = _augmented(_coordinates(), _still(warp_share=1, largest_scale=1.35))
    # Over 31 steps from the first to the last pixel, in px of the original; turned or not.
    spans = (batch.before.amax(dim=(2, 3)) - batch.before.amin(dim=(2, 3))) / (_CROP - 1)
    assert ((spans > 1 / 1.351) & (spans < 1.351)).all()
    assert (spans[:, 0] - spans[:, 1]).abs().max() > 0.05


def _sorted(image: Tensor) -> Tensor:
    return image.flatten(2).sort().values


def test_misregistration_moves_only_the_after_date() -> None:
    batch = _coordinates()
    moved = _augmented(batch, _still(warp_share=1, misregister_px=2))
    cut = slice((_SIZE - _CROP) // 2, (_SIZE + _CROP) // 2)
    torch.testing.assert_close(_sorted(moved.before), _sorted(batch.before[..., cut, cut]), atol=1e-4, rtol=0)
    shift = moved.after - moved.before
    assert shift.std(dim=(2, 3)).max() < 1e-4
    assert 0.5 < shift.abs().max() <= 2


def test_invalid_pixels_are_neutral_at_both_dates() -> None:
    batch = _coordinates()
    batch.valid[:, :, :20, :20] = False
    batch.after[:, :, :20, :20] = 1e4
    lit = _augmented(batch, _still(warp_share=0.5, largest_scale=1.35, misregister_px=1, gain=0.1, noise=0.1))
    assert (~lit.valid).sum() > 100
    for image in (lit.before, lit.after):
        hidden = image[~lit.valid.expand_as(image)]
        assert torch.equal(hidden, torch.full_like(hidden, NEUTRAL_REFLECTANCE))


def test_dates_are_swapped_whole() -> None:
    batch = _coordinates()
    batch.after.add_(100)
    swapped = _augmented(batch, _still(swap=1))
    torch.testing.assert_close(swapped.before, swapped.after + 100)
    mixed = _augmented(batch, _still(swap=0.5))
    assert (mixed.after - mixed.before).abs().eq(100).all()


def test_light_changes_at_each_date_for_itself_and_leaves_the_label() -> None:
    batch = _coordinates()
    lit = _augmented(batch, _still(gain=0.1, haze=0.03))
    assert torch.equal(lit.target, _augmented(batch, _still()).target)
    assert (lit.before - lit.after).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_deterministic() -> None:
    batch, config = _coordinates(), AugmentConfig(crop_px=_CROP)
    one, same, other = (_augmented(batch, config, step) for step in (5, 5, 6))
    assert torch.equal(one.before, same.before)
    assert torch.equal(one.after, same.after)
    assert not torch.equal(one.before, other.before)
