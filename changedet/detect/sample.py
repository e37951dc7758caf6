"""Statistics of a whole pair, streamed over a fixed lattice of blocks, whatever the chips are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from changedet.grid import Window
from changedet.grid.window import blocks
from changedet.read import BiTemporalPair
from changedet.read.pair import Chip
from changedet.stats.moments import Moments
from changedet.stats.sample import UniformSample

_BLOCK_PX = 512
# A sample takes no more than this; its shares of anything are then good to a few parts in a thousand.
_SAMPLE_BYTES = 32 * 2**20
_MOST_SAMPLES = 200_000
# Blocks that statistics of neighbourhoods are sampled from.
_MOST_BLOCKS = 64
# Blocks, six million pixels, that moments alone are taken from: what a run spends before its first chip. More only
# where these hold fewer valid pixels than that.
_BLOCKS_OF_MOMENTS, _LEAST_OF_MOMENTS = 24, 10_000
_SEED = 0

Function = Callable[[Chip], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class PairSample:
    """What one pass over a pair leaves.

    Attributes:
        pair: it came from.
        moments: exact, of the stacked bands (before, then after) of all valid pixels.
        pixels: float32 (2C, N), a uniform sample of the valid pixels; all of them where there are few.
        blocks: windows that hold a valid pixel, row by row.
    """

    pair: BiTemporalPair
    moments: Moments
    pixels: NDArray[np.float32]
    blocks: tuple[Window, ...]

    def of(self, function: Function, halo: int) -> NDArray[np.float32]:
        """Return a uniform sample, float32 (V, N), of what a function of chips gives at valid pixels.

        At most 64 blocks are looked at, drawn at random with a fixed seed.

        Args:
            function: from a chip to (V, H, W).
            halo: px it sees around a pixel.
        """
        sample: UniformSample | None = None
        for index in _drawn(len(self.blocks), _MOST_BLOCKS):
            block = self.blocks[index]
            around = Window(block.row - halo, block.col - halo, block.height + 2 * halo, block.width + 2 * halo)
            chip = self.pair.read(around)
            rows, cols = block.relative_to(around).slices
            values = function(chip)[:, rows, cols][:, chip.valid[rows, cols]]
            sample = sample or UniformSample(_size(len(values)), _SEED)
            sample.add(index, values)
        return np.empty((1, 0), np.float32) if sample is None else sample.values()

    def as_json(self) -> dict[str, Any]:
        """Return how large it is, for run.json."""
        return {"valid_px": int(self.moments.weight), "sampled_px": self.pixels.shape[1], "seed": _SEED}


def sample_pair(pair: BiTemporalPair, progress: Callable[[str, int, int], None]) -> PairSample:
    """Read every block of the pair once.

    Raises:
        SceneError: a block cannot be read.
    """
    variables = 2 * len(pair.bands)
    total, sample = Moments.none(variables), UniformSample(_size(variables), _SEED)
    height, width = pair.geobox.shape
    lattice = blocks(height, width, _BLOCK_PX)
    there = []
    for index, window in enumerate(lattice):
        chip = pair.read(window)
        pixels = _stacked(chip)
        total += Moments.of(pixels)
        sample.add(index, pixels)
        there += [window] if chip.valid.any() else []
        progress("statistics", index + 1, len(lattice))
    return PairSample(pair, total, sample.values(), tuple(there))


def moments_of(
    read: Callable[[Window], Chip], shape: tuple[int, int], bands: int, progress: Callable[[str, int, int], None]
) -> Moments:
    """Return the moments of the stacked bands (before, then after) of the valid pixels, of at most 24 blocks.

    Where a scene is empty but for a corner, these may hold nearly none: then the others are looked at too, in their
    order, until there are enough.

    Args:
        read: what reads a pair.
        shape: its height and width, px.
        bands: how many it has.
        progress: hears of every block.

    Raises:
        SceneError: a block cannot be read.
    """
    lattice = blocks(*shape, _BLOCK_PX)
    drawn, total = _drawn(len(lattice), _BLOCKS_OF_MOMENTS), Moments.none(2 * bands)
    others = sorted({*range(len(lattice))} - {*drawn})
    for done, index in enumerate((*drawn, *others), start=1):
        if done > len(drawn) and total.weight >= _LEAST_OF_MOMENTS:
            break
        chip = read(lattice[index])
        total += Moments.of(_stacked(chip))
        progress("statistics", done, len(drawn) if done <= len(drawn) else len(lattice))
    return total


def _stacked(chip: Chip) -> NDArray[np.float32]:
    """Return the bands (before, then after) of the valid pixels of a chip, (2C, N)."""
    dates = [date.reshape(len(date), -1) for date in (chip.before, chip.after)]
    if not chip.valid.all():
        # By their numbers: a mask of rows and columns is looked through anew for every band.
        known = np.flatnonzero(chip.valid)
        dates = [date.take(known, axis=1) for date in dates]
    return np.concatenate(dates)


def _drawn(count: int, most: int) -> list[int]:
    """Return which of so many blocks are looked at."""
    if count <= most:
        return list(range(count))
    return sorted(map(int, np.random.default_rng(_SEED).choice(count, most, replace=False)))


def _size(variables: int) -> int:
    return min(_MOST_SAMPLES, _SAMPLE_BYTES // (4 * variables))
