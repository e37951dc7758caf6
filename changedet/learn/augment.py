"""Augmentation of a batch: what may differ between places and dates without being a change.

All draws come from one torch generator that is seeded by the step, see `changedet.learn.sample`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from changedet.config import NEUTRAL_REFLECTANCE, AugmentConfig
from changedet.learn.paste import paste_changes
from changedet.learn.sample import Batch

# How strongly haze scatters in each band, relative to the coastal band: about wavelength to the power of -2.
_HAZE = {
    "B01": 1.0,
    "B02": 0.82,
    "B03": 0.63,
    "B04": 0.44,
    "B05": 0.4,
    "B06": 0.36,
    "B07": 0.32,
    "B08": 0.28,
    "B8A": 0.26,
}


def augment(
    batch: Batch,
    bands: tuple[str, ...],
    config: AugmentConfig,
    seed: int,
    step: int,
    exchanged: tuple[int, ...] | None = (0, 1),
) -> Batch:
    """Return a batch of chips, cropped to `config.crop_px`: pasted into, turned, scaled, moved and lit.

    A pure function of its arguments. Labels and validity move with the pixels; what is invalid afterwards, and a band
    that was dropped, is neutral at both dates.

    Args:
        batch: chips as they were cut.
        bands: names of their channels.
        config: how strongly they are varied.
        seed: of the training.
        step: number of the batch.
        exchanged: what 0 and the kinds 1..K become where the dates are exchanged; None exchanges none.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    if config.paste > 0:
        batch = paste_changes(batch, share=config.paste, feather=config.paste_feather_px, generator=generator)
    batch = _warp(batch, config, generator)
    batch = _turn(batch, generator)
    before, after = (_relight(image, bands, config, generator) for image in (batch.before, batch.after))
    swap = torch.rand(len(before), generator=generator) < (config.swap if exchanged else 0.0)
    before[swap], after[swap] = after[swap], before[swap]
    if exchanged and exchanged != (0, 1):
        batch.target[swap] = torch.tensor(exchanged, dtype=torch.float32)[batch.target[swap].long()]
    lost = ~batch.valid | _dropped(len(before), bands, config, generator)
    for image in (before, after):
        image.masked_fill_(lost, NEUTRAL_REFLECTANCE)
    return Batch(before, after, batch.target, batch.valid)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _dropped(count: int, bands: tuple[str, ...], config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Return which bands of which chips are dropped, bool (N, C, 1, 1).

    A chip that loses bands loses each optional one with a chance that is itself drawn, so that any number of missing
    bands is as likely as any other: with a fixed chance, all of them would never be missing together.
    """
    optional = torch.tensor([band in config.optional_bands for band in bands])
    chance = torch.rand(count, 1, generator=generator) * (
        torch.rand(count, 1, generator=generator) < config.band_dropout
    )
    return ((torch.rand(count, len(bands), generator=generator) < chance) & optional)[:, :, None, None]


def _turn(batch: Batch, generator: torch.Generator) -> Batch:
    """Turn each chip by one of the eight symmetries of the square."""
    drawn = torch.randint(8, (len(batch.before),), generator=generator)

    def turn(x: Tensor) -> Tensor:
        turned = torch.empty_like(x)
        for symmetry in range(8):
            own = drawn == symmetry
            part = torch.rot90(x[own], symmetry % 4, (2, 3))
            turned[own] = part.flip(3) if symmetry >= 4 else part
        return turned

    return Batch(turn(batch.before), turn(batch.after), turn(batch.target), turn(batch.valid))


def _warp(batch: Batch, config: AugmentConfig, generator: torch.Generator) -> Batch:
    """Scale unequally and misregister a share of the batch, in one resampling; crop the middle of the rest."""
    count, _, size, _ = batch.before.shape
    crop = config.crop_px
    cut = (size - crop) // 2
    chosen = torch.rand(count, generator=generator) < config.warp_share
    # Along x and y apart: pixels of a geographic grid are oblong on the ground, those of users are square. Then along
    # both together: the same place at another resolution.
    stretch = _uniform((count, 2), -1, 1, generator) * math.log(config.largest_scale)
    zoom = _uniform((count, 1), -1, 1, generator) * math.log(config.zoom)
    scale = torch.exp(stretch + zoom)
    shift = _uniform((count, 2), -config.misregister_px, config.misregister_px, generator) * 2 / size
    before, after = (_affine(scale, s, crop / size, crop) for s in (torch.zeros_like(shift), shift))
    out = Batch(*(x[..., cut : cut + crop, cut : cut + crop].clone() for x in _parts(batch)))
    if not chosen.any():
        return out
    # Only what is kept is resampled: augmenting must not hold up the network.
    before, after = before[chosen], after[chosen]
    valid = batch.valid[chosen].float()
    out.before[chosen] = _sample(batch.before[chosen], before, "bilinear")
    out.after[chosen] = _sample(batch.after[chosen], after, "bilinear")
    out.target[chosen] = _sample(batch.target[chosen], before, "nearest")
    out.valid[chosen] = _sample(valid, before, "bilinear") * _sample(valid, after, "bilinear") > 0.999
    return out


def _parts(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return batch.before, batch.after, batch.target, batch.valid


def _affine(scale: Tensor, shift: Tensor, share: float, crop: int) -> Tensor:
    """Return the sampling grid (N, crop, crop, 2): the middle `share` of a chip, scaled and shifted."""
    theta = torch.zeros(len(scale), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = share * scale[:, 0], share * scale[:, 1]
    theta[:, :, 2] = shift
    return functional.affine_grid(theta, [len(scale), 1, crop, crop], align_corners=False)


def _sample(image: Tensor, grid: Tensor, mode: str) -> Tensor:
    return functional.grid_sample(image, grid, mode=mode, padding_mode="zeros", align_corners=False)


def _relight(image: Tensor, bands: tuple[str, ...], config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Change the light of one date: gain for all bands and for each, offset and haze by band, noise a pixel."""
    count, channels, *_ = image.shape
    gain = torch.randn(count, 1, 1, 1, generator=generator) * config.gain
    gain = gain + torch.randn(count, channels, 1, 1, generator=generator) * config.band_gain
    haze = torch.tensor([_HAZE.get(band, 0.1) for band in bands]).view(1, -1, 1, 1)
    veil = _uniform((count, 1, 1, 1), -config.haze, config.haze, generator)
    offset = torch.randn(count, channels, 1, 1, generator=generator) * config.offset
    # Bands differ in noise as sensors' bands do.
    spread = _uniform((count, channels, 1, 1), 0, config.noise, generator)
    # Uniform, of the same standard deviation: half the price of a normal, and in place.
    noise = torch.rand(image.shape, generator=generator).sub_(0.5).mul_(spread * math.sqrt(12))
    return noise.add_(offset + haze * veil).addcmul_(image, gain.exp())
