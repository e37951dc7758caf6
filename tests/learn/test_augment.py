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
    names = ("warp_share", "misregister_px", "swap", "gain", "band_gain", "offset", "haze", "noise", "paste")
    none = dict.fromkeys(names, 0.0)
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
    turned = [_augmented(batch, whole, step) for step in range(8)]
    assert {float(t.target.sum()) for t in turned} == {float(batch.target.sum())}
    assert len({tuple(image[:, 0, :2].flatten().tolist()) for t in turned for image in t.before}) == 8


def test_each_chip_is_turned_for_itself() -> None:
    turned = _augmented(_coordinates(), _still(crop_px=_SIZE))
    assert len({tuple(image[:, 0, :2].flatten().tolist()) for image in turned.before}) > 1
    assert torch.equal(turned.before, turned.after)
    assert torch.equal(turned.target > 0, turned.before[:, :1] > 20)


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


def test_a_zoom_scales_both_axes_alike_and_within_the_limit() -> None:
    batch = _augmented(_coordinates(), _still(warp_share=1, zoom=1.4))
    spans = (batch.before.amax(dim=(2, 3)) - batch.before.amin(dim=(2, 3))) / (_CROP - 1)
    torch.testing.assert_close(spans[:, 0], spans[:, 1], atol=1e-4, rtol=0)
    assert ((spans > 1 / 1.401) & (spans < 1.401)).all()
    assert spans.std() > 0.05


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


def test_an_offset_is_one_number_a_chip_date_and_band() -> None:
    batch = _coordinates()
    lit = _augmented(batch, _still(offset=0.05))
    added = (lit.before - lit.after).flatten(2)
    assert added.std(dim=2).max() < 1e-5
    assert added.mean(dim=2).unique().numel() == 2 * _CHIPS


def test_each_band_has_its_own_noise_below_the_limit() -> None:
    batch = _coordinates()
    flat = Batch(torch.zeros_like(batch.before), torch.zeros_like(batch.after), batch.target, batch.valid)
    spread = _augmented(flat, _still(noise=0.01)).before.std(dim=(2, 3))
    assert spread.max() < 0.0105
    assert spread.min() < 0.005
    assert spread.unique().numel() == 2 * _CHIPS


def test_only_optional_bands_are_dropped_at_both_dates_over_the_whole_chip() -> None:
    batch = _coordinates()
    dropping = _still(crop_px=_SIZE, band_dropout=1, optional_bands=("B08", "B10"))
    lost = [_augmented(batch, dropping, step) for step in range(10)]
    gone = torch.cat([(chips.before == NEUTRAL_REFLECTANCE).flatten(2).all(2) for chips in lost])
    assert not gone[:, 0].any()
    assert 0.2 < gone[:, 1].float().mean() < 0.8
    for chips in lost:
        neutral = chips.before == NEUTRAL_REFLECTANCE
        assert torch.equal(neutral, chips.after == NEUTRAL_REFLECTANCE)
        assert chips.valid.all()
        assert torch.equal(chips.target > 0, chips.before[:, :1] > 20)


def test_every_number_of_missing_bands_is_as_likely() -> None:
    bands = tuple(f"B{n:02}" for n in range(1, 13))
    config = _still(band_dropout=1, optional_bands=bands[:-1])
    batch = Batch(torch.ones(500, 12, 16, 16), torch.ones(500, 12, 16, 16), *([torch.ones(500, 1, 16, 16) > 0] * 2))
    chips = augment(batch, bands, config.model_copy(update={"crop_px": 16}), seed=0, step=0)
    missing = (chips.before[:, :, 0, 0] == NEUTRAL_REFLECTANCE).sum(1)
    histogram = missing.bincount(minlength=12) / 500
    assert ((histogram - 1 / 12).abs() < 0.045).all()
    assert missing.max() == 11


def test_dropout_without_bands_to_drop_is_refused() -> None:
    with pytest.raises(ValueError, match="band_dropout and optional_bands go together"):
        AugmentConfig(band_dropout=0.3)


def test_pasting_is_part_of_it() -> None:
    batch = _coordinates()
    target = torch.zeros_like(batch.target)
    target[0, 0, 20:24, 20:24] = 1
    pasted = _augmented(Batch(batch.before, batch.after, target, batch.valid), _still(crop_px=_SIZE, paste=1))
    assert pasted.target.sum() >= 16
    assert set(pasted.target.sum(dim=(1, 2, 3)).tolist()) <= {0.0, 16.0}


def test_deterministic() -> None:
    batch, config = _coordinates(), AugmentConfig(crop_px=_CROP)
    one, same, other = (_augmented(batch, config, step) for step in (5, 5, 6))
    assert torch.equal(one.before, same.before)
    assert torch.equal(one.after, same.after)
    assert not torch.equal(one.before, other.before)


def test_exchanging_the_dates_turns_transitions_round_and_spares_named_kinds() -> None:
    batch = _coordinates()
    batch.after.mul_(2)
    batch.target.mul_(2)  # the second kind
    swap, whole = _still(swap=1, crop_px=_SIZE), {"seed": 3, "step": 0}
    exchanged = augment(batch, _BANDS, swap, **whole, exchanged=(0, 2, 1))
    assert torch.equal(exchanged.target, (exchanged.after[:, :1] > 20).float())
    kept = augment(batch, _BANDS, swap, **whole, exchanged=None)
    assert torch.equal(kept.target, 2 * (kept.before[:, :1] > 20).float())
