"""Drawing chips for training: every batch is a pure function of the seed and the step.

So a resumed training sees just what an uninterrupted one would, with no state of a random generator to store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.errors import ConfigError
from changedet.grid import Window
from changedet.learn.oscd import LabelledScene


@dataclass(frozen=True, slots=True)
class Batch:
    """Chips for one step.

    Attributes:
        before: reflectance, float32 (N, C, H, W).
        after: reflectance, float32 (N, C, H, W).
        target: float32 (N, 1, H, W), 1 changed.
        valid: bool (N, 1, H, W), True = valid.
    """

    before: Tensor
    after: Tensor
    target: Tensor
    valid: Tensor


class ChipSampler:
    """Draws chips from labelled scenes; a fixed share of them around a changed pixel.

    Args:
        scenes: in memory.
        size: side of a chip, px.
        batch: chips a batch.
        changed_share: share of the chips that are centred near a changed pixel; the others lie anywhere.
        seed: of all draws.

    Raises:
        ConfigError: no scene has a valid changed pixel.
    """

    def __init__(
        self, scenes: Sequence[LabelledScene], *, size: int, batch: int, changed_share: float, seed: int
    ) -> None:
        self._scenes = scenes
        self._size = size
        self._batch = batch
        self._changed_share = changed_share
        self._seed = seed
        self._changed = [np.argwhere(scene.changed & scene.valid) for scene in scenes]
        if not any(len(pixels) for pixels in self._changed):
            raise ConfigError("no changed pixel in any scene to learn from", expected="labels with change")
        # Small cities have few changed pixels, all much alike; large ones should not drown them. The root is between.
        self._weights_changed = _root_weights([len(pixels) for pixels in self._changed])
        self._weights_all = _root_weights([scene.changed.size for scene in scenes])

    def draw(self, step: int) -> Batch:
        """Return the batch of one step."""
        rng = np.random.default_rng([self._seed, step])
        chips = [self._chip(rng, changed=i < round(self._batch * self._changed_share)) for i in range(self._batch)]
        before, after, target, valid = (torch.from_numpy(np.stack(part)) for part in zip(*chips, strict=True))
        return Batch(before, after, target[:, None].float(), valid[:, None])

    def _chip(self, rng: np.random.Generator, *, changed: bool) -> tuple[NDArray[np.generic], ...]:
        which = int(rng.choice(len(self._scenes), p=self._weights_changed if changed else self._weights_all))
        scene = self._scenes[which]
        height, width = scene.changed.shape
        if changed:
            row, col = rng.choice(self._changed[which])
            row, col = (int(x) - int(rng.integers(self._size // 4, 3 * self._size // 4)) for x in (row, col))
        else:
            row, col = (int(rng.integers(-self._size // 4, n - 3 * self._size // 4 + 1)) for n in (height, width))
        return _cut(scene, Window(row, col, self._size, self._size))


def _root_weights(sizes: Sequence[int]) -> NDArray[np.float64]:
    root = np.sqrt(np.array(sizes, dtype=float))
    weights: NDArray[np.float64] = root / root.sum()
    return weights


def _cut(scene: LabelledScene, window: Window) -> tuple[NDArray[np.generic], ...]:
    """Return before, after (float32), changed, valid (bool) of a window; what lies outside the scene is invalid."""
    bands, height, width = scene.before.shape
    before, after = (np.full((bands, window.height, window.width), NEUTRAL_REFLECTANCE, np.float32) for _ in range(2))
    changed, valid = (np.zeros((window.height, window.width), np.bool_) for _ in range(2))
    inside = window.intersect(Window(0, 0, height, width))
    if inside is not None:
        rows, cols = inside.slices
        to_rows, to_cols = inside.relative_to(window).slices
        before[:, to_rows, to_cols] = scene.before[:, rows, cols]
        after[:, to_rows, to_cols] = scene.after[:, rows, cols]
        changed[to_rows, to_cols] = scene.changed[rows, cols]
        valid[to_rows, to_cols] = scene.valid[rows, cols]
    return before, after, changed, valid
