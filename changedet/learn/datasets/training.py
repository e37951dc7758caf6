"""Labelled scenes that chips are drawn from: in memory, or on disk, where a set is larger."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from changedet.errors import ConfigError
from changedet.grid import Window
from changedet.learn.datasets.cache import BlockCache, Pixels
from changedet.learn.datasets.labels import Truth
from changedet.learn.datasets.scene import LabelledDataset, OpenScene, SceneSource

# Side (px) of the blocks in which scenes on disk are read and kept: a chip meets two or three.
_BLOCK_PX = 256
# Most changed pixels of a scene to draw from.
_MOST_CHANGED = 100_000


class TrainingScene(Protocol):
    """What chips are drawn from."""

    @property
    def name(self) -> str:
        """Its name in the set."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        ...

    @property
    def channels(self) -> int:
        """How many bands it has."""
        ...

    def changed_pixels(self) -> NDArray[np.intp]:
        """Return row and column of the valid changed pixels, (N, 2), or of an even selection of them."""
        ...

    def read(self, window: Window) -> Pixels:
        """Return before, after (float16 (bands, H, W)), truth (uint8), valid (bool) of a window inside the scene."""
        ...

    def select(self, channels: Sequence[int]) -> TrainingScene:
        """Return the same scene with some of its bands, in that order."""
        ...


@dataclass(frozen=True, slots=True)
class LabelledScene:
    """A pair in memory with its truth; a `TrainingScene`.

    Attributes:
        name: of the scene in its set.
        before: reflectance, float16 (bands, H, W).
        after: reflectance, float16 (bands, H, W).
        truth: uint8 (H, W), 0 unchanged, 1..K the kind of change.
        valid: bool (H, W), True = valid at both dates, and the truth is known.
    """

    name: str
    before: NDArray[np.float16]
    after: NDArray[np.float16]
    truth: Truth
    valid: NDArray[np.bool_]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Bool (H, W), True = changed."""
        changed: NDArray[np.bool_] = self.truth > 0
        return changed

    @property
    def shape(self) -> tuple[int, int]:
        """See `TrainingScene`."""
        height, width = self.truth.shape
        return height, width

    def changed_pixels(self) -> NDArray[np.intp]:
        """See `TrainingScene`."""
        return evenly(np.argwhere(self.changed & self.valid))

    @property
    def channels(self) -> int:
        """See `TrainingScene`."""
        return len(self.before)

    def read(self, window: Window) -> Pixels:
        """See `TrainingScene`."""
        rows, cols = window.slices
        return self.before[:, rows, cols], self.after[:, rows, cols], self.truth[rows, cols], self.valid[rows, cols]

    def select(self, channels: Sequence[int]) -> LabelledScene:
        """See `TrainingScene`."""
        chosen = list(channels)
        return replace(self, before=self.before[chosen], after=self.after[chosen])


class DiskScene:
    """A `TrainingScene` that is read block by block, for sets larger than memory. Files are open only while read.

    Args:
        source: what to read.
        bands: in that order.
        cache: for its blocks, shared by the scenes of a set.
    """

    def __init__(self, source: SceneSource, bands: tuple[str, ...], cache: BlockCache) -> None:
        self.name = source.name
        self._source, self._bands, self._cache = source, bands, cache
        self.channels = len(bands)
        with source.open(bands) as opened:
            height, width = opened.pair.geobox.shape
            self.shape = (int(height), int(width))
            self._correction = opened.pair.correction
            self._changed = evenly(_changed_of(opened))

    def changed_pixels(self) -> NDArray[np.intp]:
        """See `TrainingScene`."""
        return self._changed

    def select(self, channels: Sequence[int]) -> DiskScene:
        """See `TrainingScene`."""
        chosen = copy.copy(self)
        chosen._bands, chosen.channels = tuple(self._bands[channel] for channel in channels), len(channels)
        chosen._correction = self._correction.of_channels(list(channels))
        return chosen

    def read(self, window: Window) -> Pixels:
        """See `TrainingScene`."""
        read = _blank(window, self.channels)
        for block, pixels in self._blocks(window):
            shared = block.intersect(window)
            assert shared is not None  # noqa: S101 - the blocks are those that the window meets
            into, out_of = shared.relative_to(window).slices, shared.relative_to(block).slices
            for target, source in zip(read, pixels, strict=True):
                target[(..., *into)] = source[(..., *out_of)]
        return read

    def _blocks(self, window: Window) -> Iterator[tuple[Window, Pixels]]:
        """Yield the blocks that a window meets; the files are opened once for all that are not kept."""
        height, width = self.shape
        met = [
            Window(row, col, min(_BLOCK_PX, height - row), min(_BLOCK_PX, width - col))
            for row in range(window.row // _BLOCK_PX * _BLOCK_PX, window.row + window.height, _BLOCK_PX)
            for col in range(window.col // _BLOCK_PX * _BLOCK_PX, window.col + window.width, _BLOCK_PX)
        ]
        with ExitStack() as stack:
            opened: OpenScene | None = None
            for block in met:
                key = (self.name, self._bands, block)
                pixels = self._cache.get(key)
                if pixels is None:
                    opened = opened or stack.enter_context(self._source.open(self._bands, self._correction))
                    pixels = read_labelled(opened, block)
                    self._cache.put(key, pixels)
                yield block, pixels


def _blank(window: Window, channels: int) -> Pixels:
    size = (window.height, window.width)
    before, after = (np.empty((channels, *size), np.float16) for _ in range(2))
    return before, after, np.empty(size, np.uint8), np.empty(size, np.bool_)


def _changed_of(opened: OpenScene) -> NDArray[np.intp]:
    """Return row and column of the valid changed pixels, (N, 2); imagery is read only where there is change."""
    height, width = opened.pair.geobox.shape
    found = [np.empty((0, 2), np.intp)]
    for row in range(0, height, 2 * _BLOCK_PX):
        window = Window(row, 0, min(2 * _BLOCK_PX, height - row), width)
        truth, known = opened.labels.read(window)
        if ((truth > 0) & known).any():
            valid = opened.pair.read(window).valid & known
            found.append(np.argwhere((truth > 0) & valid) + np.array([row, 0]))
    return np.concatenate(found)


def evenly(pixels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the pixels (N, 2), or an even selection of them where there are more than anyone draws from."""
    return pixels[:: max(1, -(-len(pixels) // _MOST_CHANGED))]


def read_labelled(opened: OpenScene, window: Window) -> Pixels:
    """Read a window inside an open scene: before, after, truth and valid; see `TrainingScene`."""
    chip = opened.pair.read(window)
    truth, known = opened.labels.read(window)
    return chip.before.astype(np.float16), chip.after.astype(np.float16), truth, chip.valid & known


def load_scene(source: SceneSource, bands: tuple[str, ...]) -> LabelledScene:
    """Read a whole scene into memory."""
    with source.open(bands) as opened:
        height, width = opened.pair.geobox.shape
        return LabelledScene(source.name, *read_labelled(opened, Window(0, 0, height, width)))


def training_scenes(dataset: LabelledDataset, bands: tuple[str, ...], *, max_bytes: int) -> list[TrainingScene]:
    """Return the scenes to draw chips from: in memory where all together take at most `max_bytes`, else from disk.

    From disk blocks are read as they are needed and kept within as much memory. The chips are the same.

    Raises:
        ConfigError: the set is empty.
    """
    if not dataset.scenes:
        raise ConfigError(f"{dataset.name} has no scenes", expected="labelled scenes to learn from")
    pixels = sum(int(np.prod(source.scenes()[0].geobox.shape)) for source in dataset.scenes)
    # Two dates in float16 and two bytes of truth a pixel.
    if pixels * (4 * len(bands) + 2) <= max_bytes:
        return [load_scene(source, bands) for source in dataset.scenes]
    cache = BlockCache(max_bytes)
    return [DiskScene(source, bands, cache) for source in dataset.scenes]
