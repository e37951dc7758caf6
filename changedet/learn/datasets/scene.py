"""A labelled scene: where its files are, opened window by window, or whole in memory."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from changedet.errors import ConfigError, SceneError
from changedet.grid import Window
from changedet.learn.datasets.cache import BlockCache, Pixels
from changedet.learn.datasets.labels import (
    ClassColumn,
    Decoder,
    Labels,
    PolygonLabels,
    RasterLabels,
    Truth,
    nonzero,
    read_polygons,
)
from changedet.learn.kinds import Kinds
from changedet.network.card import Place
from changedet.read.align import ground_resolution, overlap, window_of
from changedet.read.coregister import estimate_shift
from changedet.read.displacement import NONE, Displacement
from changedet.read.opening import open_scene
from changedet.read.pair import Correction, PairOptions, RasterPair
from changedet.read.radiometry import plan_radiometry
from changedet.read.scene import Scene
from changedet.read.survey import sample_pixels

_HASHED_AT_ONCE = 2**20
# Side (px) of the blocks in which scenes on disk are read and kept: a chip meets two or three.
_BLOCK_PX = 256
# Most changed pixels of a scene to draw from.
_MOST_CHANGED = 100_000


@dataclass(frozen=True, slots=True)
class OpenScene:
    """A labelled scene whose files are open: the pair, and its truth on the same grid."""

    pair: RasterPair
    labels: Labels


class SceneSource(Protocol):
    """A labelled scene that is not read yet."""

    @property
    def name(self) -> str:
        """Its name in the set."""
        ...

    def scenes(self) -> tuple[Scene, Scene]:
        """Return both dates; headers only are read."""
        ...

    def open(self, bands: tuple[str, ...], correction: Correction | None = None) -> AbstractContextManager[OpenScene]:
        """Open the pair with the wanted bands, in that order, and its labels.

        Args:
            bands: their names.
            correction: that of the pair when it was opened with these bands before, which then need not be found anew.
        """
        ...

    def place(self) -> Place:
        """Return where its pixels come from."""
        ...

    def resolution_m(self) -> float:
        """Return the ground size of a pixel (m)."""
        ...


class LabelledDataset(Protocol):
    """A set of labelled scenes, or one of its splits."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    @property
    def scenes(self) -> Sequence[SceneSource]:
        """Its scenes, none of which is open."""
        ...

    @property
    def kinds(self) -> Kinds:
        """The kinds of change that its labels tell apart."""
        ...


@dataclass(frozen=True, slots=True)
class SceneSet:
    """A `LabelledDataset` of known scenes."""

    name: str
    scenes: tuple[SceneSource, ...]
    kinds: Kinds


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """A `SceneSource` of files.

    Attributes:
        name: in its set.
        before: file, or folder of single-band files.
        after: likewise.
        labels: raster on the before grid, or a file of polygons.
        decode: from the raster's values to the truth, or where polygons say their kind; None where they are of one.
        coregister: remove the residual shift, as `run` does with `coregister: shift`.
        local_px: ground size (m) of pixels of images without georeference.
    """

    name: str
    before: Path
    after: Path
    labels: Path
    decode: Decoder | ClassColumn | None = nonzero
    coregister: bool = False
    local_px: float = 1.0

    def scenes(self) -> tuple[Scene, Scene]:
        """See `SceneSource`."""
        before, after = (open_scene(path, local_px=self.local_px) for path in (self.before, self.after))
        if (before.geobox.crs is None) != (after.geobox.crs is None):
            raise SceneError(f"one of {self.before} and {self.after} has no georeference", expected="both, or none")
        return before, after

    @contextmanager
    def open(self, bands: tuple[str, ...], correction: Correction | None = None) -> Iterator[OpenScene]:
        """See `SceneSource`; values without a scale, as of 8-bit pictures, are stretched as `run` stretches them."""
        before, after = (scene.select(bands) for scene in self.scenes())
        with ExitStack() as stack:
            pair = stack.enter_context(_pair(before, after))
            pair = stack.enter_context(pair.corrected(correction or self._correction_of(pair)))
            yield OpenScene(pair, self._labels(pair, stack))

    def _correction_of(self, pair: RasterPair) -> Correction:
        displacement = NONE
        if self.coregister:
            shift = estimate_shift(pair)
            displacement = Displacement.constant(shift.row, shift.col)
        if pair.is_physical:
            return Correction(displacement)
        with pair.corrected(Correction(displacement)) as aligned:
            plan = plan_radiometry(*sample_pixels(aligned), bands=pair.bands, physical=pair.are_physical, method="none")
        return Correction(displacement, plan.before, plan.after)

    def _labels(self, pair: RasterPair, stack: ExitStack) -> Labels:
        if self.decode is None or isinstance(self.decode, ClassColumn):
            return PolygonLabels(*read_polygons(self.labels, pair.geobox, self.decode), pair.geobox)
        height, width = pair.before.geobox.shape
        origin = window_of(pair.before.geobox, pair.geobox)
        return stack.enter_context(RasterLabels(self.labels, self.decode, before=(height, width), origin=origin))

    def place(self) -> Place:
        """See `SceneSource`."""
        before, after = self.scenes()
        if before.geobox.crs is None:
            return Place(name=self.name, digests=(_digest(self.before), _digest(self.after)))
        box = overlap(before.geobox, after.geobox).geographic_extent.boundingbox
        return Place(name=self.name, bounds=(box.left, box.bottom, box.right, box.top))

    def resolution_m(self) -> float:
        """See `SceneSource`."""
        geobox = self.scenes()[0].geobox
        if geobox.crs is None:
            return self.local_px
        height, width = ground_resolution(geobox)
        return float((height * width) ** 0.5)


def _pair(before: Scene, after: Scene) -> RasterPair:
    if before.geobox.crs is not None:
        return RasterPair(before, after, PairOptions())
    if before.geobox.shape != after.geobox.shape:
        shapes = tuple(before.geobox.shape), tuple(after.geobox.shape)
        raise SceneError(f"{before.path} has {shapes[0]} px and {after.path} {shapes[1]}", expected="one size")
    # Black is a colour in pictures, and every pixel counts in what is published about them: nothing is nodata.
    return RasterPair(before, after, PairOptions(nodata=(math.nan, math.nan)), geobox=before.geobox)


def _digest(path: Path) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_HASHED_AT_ONCE):
            hashed.update(part)
    return hashed.hexdigest()


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
        return _evenly(np.argwhere(self.changed & self.valid))

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
            self._changed = _evenly(_changed_of(opened))

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


def _evenly(pixels: NDArray[np.intp]) -> NDArray[np.intp]:
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
