"""Pixels of a scene on the pair's grid, as reflectance, NaN where invalid.

One rule serves every kind of validity. Each band is read as float32 and NaN stands for 'no pixel': outside the file, at
its nodata value, where its alpha or internal mask says so, and where the stored value is not finite. Warped reading
keeps to the same rule because the warp writes float32 with NaN as its own nodata: without that, a WarpedVRT calls what
lies outside the source valid, and the zeros under an internal mask too. A quality band is read the same way, by its
nearest pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from changedet.errors import SceneError
from changedet.grid import Window
from changedet.read.align import Placement
from changedet.read.displacement import NONE, Displacement
from changedet.read.file import Channel, OpenFile
from changedet.read.quality import Quality
from changedet.read.scene import Band, Scene

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_STRIP_PX = 2**17


@dataclass(frozen=True, slots=True)
class Scaling:
    """Stored value times `scale` plus `offset` is reflectance; `why` says where that comes from.

    `physical` is False where nothing says what stored values mean, and 0..1 is only their order.
    """

    scale: float
    offset: float
    why: str
    physical: bool = True


@dataclass(frozen=True, slots=True)
class Nodata:
    """What marks a pixel without data, beside masks and NaN; `value` None means nothing does.

    `all_bands`: the value is 0 and marks a pixel only where every band of a file holds it. A single band at 0 is deep
    water or shadow.
    """

    value: float | None
    all_bands: bool
    why: str


class SceneReader:
    """Open handles on a scene's files, each with its placement on the target grid. Not thread-safe.

    Args:
        scene: the bands to read, in that order.
        target: grid of the pair.
        scaling: from stored values to reflectance, one a band.
        nodata: what marks invalid pixels, one a band.
        quality: a raster that says which pixels are valid, None without.
        displacement: of the scene against the before date, to be removed, see `place`.
        resampling: kernel for files that have to be resampled.
    """

    def __init__(
        self,
        scene: Scene,
        target: GeoBox,
        *,
        scaling: tuple[Scaling, ...],
        nodata: tuple[Nodata, ...],
        quality: Quality | None = None,
        displacement: Displacement = NONE,
        resampling: str = "bilinear",
    ) -> None:
        self.scene = scene
        self.target = target
        self.quality = quality
        self._lenient = [channel for channel, rule in enumerate(nodata) if rule.all_bands]
        self._strict = [channel for channel, rule in enumerate(nodata) if not rule.all_bands]
        self._scale = np.array([s.scale for s in scaling], dtype=np.float32)[:, None, None]
        self._offset = np.array([s.offset for s in scaling], dtype=np.float32)[:, None, None]
        self._stack = ExitStack()
        try:
            self._files = [
                OpenFile(self._stack, channels, target, displacement, resampling)
                for channels in _by_file(scene.bands, nodata)
            ]
            self._mask = (
                OpenFile(self._stack, [Channel(0, quality.band, None)], target, displacement, "nearest")
                if quality
                else None
            )
        except RasterioError as error:
            self._stack.close()
            raise SceneError(f"{scene.path} cannot be read ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def placements(self) -> dict[str, Placement]:
        """How each file is placed."""
        return {file.path: file.placement for file in self._files}

    def read(self, window: Window) -> tuple[Floats, Bools]:
        """Read one window of the target grid; it may reach outside.

        Returns:
            Reflectance, float32 (bands, height, width), and valid, bool (height, width), True = valid. What
            stands at invalid pixels is undefined.

        Raises:
            SceneError: a file is damaged or truncated there.
        """
        reflectance = np.empty((len(self.scene.bands), window.height, window.width), dtype=np.float32)
        valid = np.empty((window.height, window.width), dtype=np.bool_)
        # Strips that stay in the processor's cache take a third of the time, and no memory beside the result.
        for strip in window.strips(_STRIP_PX):
            rows, cols = strip.relative_to(window).slices
            self._read_strip(strip, reflectance[:, rows, cols], valid[rows, cols])
        return reflectance, valid

    def _read_strip(self, window: Window, stored: Floats, valid: Bools) -> None:
        """Read a window into arrays of its size."""
        stored.fill(np.nan)
        height, width = self.target.shape
        inside = window.intersect(Window(0, 0, height, width))
        if inside is None:
            valid.fill(False)
            return
        rows, cols = inside.relative_to(window).slices
        for file in self._files:
            stored[file.channels, rows, cols] = file.read(inside)
        self._validity(stored, valid)
        if self._mask is not None and self.quality is not None:
            valid[rows, cols] &= self.quality.valid(self._mask.read(inside)[0])
        stored *= self._scale
        stored += self._offset

    def _validity(self, stored: Floats, valid: Bools) -> None:
        """Set valid (height, width); with zero-in-all-bands nodata, put the honest zeros back into `stored`."""
        known = np.isfinite(stored)
        np.all(known[self._strict], axis=0, out=valid)
        for grid in self._grids():
            valid &= np.any(known[grid], axis=0)
        for channel in self._lenient:
            np.copyto(stored[channel], np.float32(0), where=~known[channel])

    def _grids(self) -> Iterable[list[int]]:
        """Lenient channels by pixel size: a 60 m band is not missing where only its 10 m neighbours are."""
        bands = self.scene.bands
        for size in {bands[channel].pixel_area for channel in self._lenient}:
            yield [channel for channel in self._lenient if bands[channel].pixel_area == size]


def _by_file(bands: tuple[Band, ...], nodata: tuple[Nodata, ...]) -> Iterable[list[Channel]]:
    """Group channels by file and nodata value, so that a multi-band file is opened and warped once."""
    channels = [Channel(i, band, rule.value) for i, (band, rule) in enumerate(zip(bands, nodata, strict=True))]

    def key(channel: Channel) -> tuple[str, str]:
        return channel.band.path, str(channel.nodata)

    return (list(group) for _, group in groupby(sorted(channels, key=key), key=key))
