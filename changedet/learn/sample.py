"""Drawing chips for training: every batch is a pure function of the seed and the step.

So a resumed training sees just what an uninterrupted one would, with no state of a random generator to store.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.errors import ConfigError
from changedet.grid import Window
from changedet.learn.datasets.training import TrainingScene
from changedet.learn.hard import Centre, HardPlaces


@dataclass(frozen=True, slots=True)
class Batch:
    """Chips for one step.

    Attributes:
        before: reflectance, float32 (N, C, H, W).
        after: reflectance, float32 (N, C, H, W).
        target: float32 (N, 1, H, W), 0 unchanged, 1..K the kind of change, 255 where that is not known.
        valid: bool (N, 1, H, W), True = valid.
    """

    before: Tensor
    after: Tensor
    target: Tensor
    valid: Tensor


class ChipSampler:
    """Draws chips from labelled scenes; a fixed share of them around a changed pixel.

    Args:
        scenes: in memory or on disk.
        size: side of a chip, px.
        batch: chips a batch.
        changed_share: share of the chips that are centred near a changed pixel; the others lie anywhere.
        seed: of all draws.
        hard_share: share of the chips that are drawn by `hard`.

    Attributes:
        hard: what the loss was at each place; training keeps it up to date.

    Raises:
        ConfigError: no scene has a valid changed pixel, and a share of the chips is to lie around one.
    """

    def __init__(
        self,
        scenes: Sequence[TrainingScene],
        *,
        size: int,
        batch: int,
        changed_share: float,
        seed: int,
        hard_share: float = 0.0,
    ) -> None:
        self._scenes = scenes
        self._size = size
        self._batch = batch
        self._changed_share = changed_share
        self._seed = seed
        self._changed = [scene.changed_pixels() for scene in scenes]
        if changed_share and not any(len(pixels) for pixels in self._changed):
            raise ConfigError("no changed pixel in any scene to learn from", expected="labels with change")
        # Small cities have few changed pixels, all much alike; large ones should not drown them. The root is between.
        self._weights_changed = _root_weights([len(pixels) for pixels in self._changed])
        self._weights_all = _root_weights([math.prod(scene.shape) for scene in scenes])
        self._hard_share = hard_share
        self.hard = HardPlaces([scene.shape for scene in scenes], cell=size // 2)

    def draw(self, step: int) -> Batch:
        """Return the batch of one step."""
        return self.cut(self.centres(step))

    def centres(self, step: int) -> list[Centre]:
        """Return where the chips of one step are centred; with a `hard_share`, it depends on `hard` too."""
        rng = np.random.default_rng([self._seed, step])
        changed, hard = (round(self._batch * share) for share in (self._changed_share, self._hard_share))
        anywhere = [self._place(rng, changed=chip < changed) for chip in range(self._batch - hard)]
        return anywhere + [self.hard.draw(rng) for _ in range(hard)]

    def cut(self, centres: Sequence[Centre]) -> Batch:
        """Return the chips at `centres`."""
        batch = _blank(len(centres), self._scenes[0].channels, self._size)
        for chip, (scene, row, col) in enumerate(centres):
            corner = row - self._size // 2, col - self._size // 2
            _fill(batch, chip, self._scenes[scene], Window(*corner, self._size, self._size))
        return batch

    def _place(self, rng: np.random.Generator, *, changed: bool) -> Centre:
        which = int(rng.choice(len(self._scenes), p=self._weights_changed if changed else self._weights_all))
        height, width = self._scenes[which].shape
        if changed:
            row, col = rng.choice(self._changed[which])
            row, col = (int(x) - int(rng.integers(self._size // 4, 3 * self._size // 4)) for x in (row, col))
        else:
            row, col = (self._anywhere(rng, side) for side in (height, width))
        return Centre(which, row + self._size // 2, col + self._size // 2)

    def _anywhere(self, rng: np.random.Generator, side: int) -> int:
        """Return where a chip begins along a side of a scene: at most a quarter of it lies beyond either end.

        A side below half a chip lies in the chip whole instead.
        """
        first, last = -self._size // 4, side - 3 * self._size // 4
        return int(rng.integers(min(first, last), max(first, last) + 1))


def _root_weights(sizes: Sequence[int]) -> NDArray[np.float64]:
    root = np.sqrt(np.array(sizes, dtype=float))
    weights: NDArray[np.float64] = root / max(root.sum(), 1)
    return weights


def _blank(count: int, bands: int, size: int) -> Batch:
    """Return a batch of nothing but invalid pixels."""
    before, after = (torch.full((count, bands, size, size), NEUTRAL_REFLECTANCE) for _ in range(2))
    return Batch(before, after, torch.zeros(count, 1, size, size), torch.zeros(count, 1, size, size, dtype=torch.bool))


def _fill(batch: Batch, chip: int, scene: TrainingScene, window: Window) -> None:
    """Write what a window holds of the scene into one chip of a blank batch.

    In place and by torch, which widens float16 ten times faster than numpy: drawing must not hold up the network.
    """
    inside = window.intersect(Window(0, 0, *scene.shape))
    if inside is None:
        return
    before, after, truth, valid = scene.read(inside)
    at = (chip, slice(None), *inside.relative_to(window).slices)
    batch.before[at] = torch.from_numpy(before)
    batch.after[at] = torch.from_numpy(after)
    batch.target[at] = torch.from_numpy(truth[None]).float()
    batch.valid[at] = torch.from_numpy(valid[None])
