"""A labelled scene that is not read yet: where its files are, and how they are opened."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from changedet.errors import SceneError
from changedet.learn.datasets.labels import (
    ClassColumn,
    Decoder,
    Labels,
    NoLabels,
    PolygonLabels,
    RasterLabels,
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
        labels: raster on the before grid, or a file of polygons; None where there are none.
        decode: from the raster's values to the truth, or where polygons say their kind; None where they are of one.
        coregister: remove the residual shift, as `run` does with `coregister: shift`.
        local_px: ground size (m) of pixels of images without georeference.
    """

    name: str
    before: Path
    after: Path
    labels: Path | None
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
        if self.labels is None:
            return NoLabels(pair.geobox)
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
