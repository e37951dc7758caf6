"""A bi-temporal pair: two scenes on one grid, read window by window."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.errors import PairError
from changedet.grid import Window
from changedet.read.align import overlap
from changedet.read.interpret import nodata_of, scaling_of
from changedet.read.reader import Nodata, Scaling, SceneReader
from changedet.read.scene import Scene, open_scene


@dataclass(frozen=True, slots=True)
class Chip:
    """The pixels of one window at both dates, with their place and their validity.

    Attributes:
        before: reflectance, float32 (bands, height, width).
        after: reflectance, float32 (bands, height, width).
        valid: bool (height, width), True = valid at both dates. Where it is False, both dates hold
            `NEUTRAL_REFLECTANCE`, so that nothing under nodata can reach a valid output pixel.
        window: the pixels' place on the pair's grid; it may reach outside, where nothing is valid.
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    valid: NDArray[np.bool_]
    window: Window


class BiTemporalPair(Protocol):
    """Two dates on one grid. Reading any window twice, or as part of a larger one, gives the same pixels."""

    @property
    def geobox(self) -> GeoBox:
        """CRS, transform and shape of the grid."""
        ...

    @property
    def bands(self) -> tuple[str, ...]:
        """Sentinel-2 names of the channels, in order."""
        ...

    def read(self, window: Window) -> Chip:
        """Read one window; outside the grid nothing is valid."""
        ...


@dataclass(frozen=True, slots=True)
class PairOptions:
    """What a user may say about how a pair is read; see `open_pair`."""

    nodata: float | None = None
    scale: float | None = None
    bounds: tuple[float, float, float, float] | None = None
    resampling: str = "bilinear"


class RasterPair:
    """A pair of scenes on disk or behind URLs. A context manager; not thread-safe."""

    def __init__(
        self,
        before: Scene,
        after: Scene,
        options: PairOptions,
        shift: tuple[float, float] = (0.0, 0.0),
        *,
        geobox: GeoBox | None = None,
    ) -> None:
        self.options = options
        self.shift = shift
        self.before = before
        self.after = after
        self._geobox = geobox or _target(before, after, options)
        self.scaling: tuple[tuple[Scaling, ...], tuple[Scaling, ...]] = (
            scaling_of(before, options.scale),
            scaling_of(after, options.scale),
        )
        self.nodata: tuple[Nodata, Nodata] = (
            nodata_of(before, after, options.nodata),
            nodata_of(after, before, options.nodata),
        )
        self.readers = (self._reader(0, (0.0, 0.0)), self._reader(1, shift))

    def _reader(self, which: int, shift: tuple[float, float]) -> SceneReader:
        return SceneReader(
            (self.before, self.after)[which],
            self._geobox,
            scaling=self.scaling[which],
            nodata=self.nodata[which],
            shift=shift,
            resampling=self.options.resampling,
        )

    @property
    def geobox(self) -> GeoBox:
        """The before grid over the overlap."""
        return self._geobox

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self.before.names

    def shifted(self, shift: tuple[float, float]) -> RasterPair:
        """Return the pair with the residual shift (row, col; px) of the after date removed while it is read."""
        return RasterPair(self.before, self.after, self.options, shift, geobox=self._geobox)

    def with_bands(self, bands: tuple[str, ...]) -> RasterPair:
        """Return the pair with fewer bands, on the same grid."""
        before, after = self.before.select(bands), self.after.select(bands)
        return RasterPair(before, after, self.options, self.shift, geobox=self._geobox)

    def read(self, window: Window) -> Chip:
        """Read one window of both dates; see `Chip`.

        Raises:
            SceneError: a file is damaged or truncated there.
        """
        (before, valid_before), (after, valid_after) = (reader.read(window) for reader in self.readers)
        valid = valid_before & valid_after
        before[:, ~valid] = NEUTRAL_REFLECTANCE
        after[:, ~valid] = NEUTRAL_REFLECTANCE
        return Chip(before, after, valid, window)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in self.readers:
            reader.__exit__(kind, error, trace)


def open_pair(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    *,
    bands: tuple[str, ...] | None = None,
    mapping: Mapping[str, int] | None = None,
    nodata: float | None = None,
    scale: float | None = None,
    bounds: tuple[float, float, float, float] | None = None,
    resampling: str = "bilinear",
) -> RasterPair:
    """Open two scenes as a pair on the before grid over their overlap.

    Args:
        before: file, folder of single-band files, URL or GDAL path of the earlier date.
        after: likewise, the later date.
        bands: names of the bands wanted, in order; all that both have when None.
        mapping: band name → 1-based number, for files whose bands have no names.
        nodata: value that marks invalid pixels, instead of what the files declare.
        scale: what stored values are multiplied by to become reflectance, instead of what is recognised.
        bounds: left, bottom, right, top in the before scene's CRS, to compare only there.
        resampling: kernel where a file has to be warped.

    Raises:
        NotFoundError, SceneError: a scene is missing or cannot be read.
        PairError: no overlap, or the bands are not in both.

    Example:
        >>> from changedet.grid import Window
        >>> with open_pair("sample_data/before.tif", "sample_data/after.tif") as pair:
        ...     chip = pair.read(Window(row=0, col=0, height=64, width=64))
        >>> chip.before.shape
        (4, 64, 64)
    """
    scenes = open_scene(before, mapping=mapping), open_scene(after, mapping=mapping)
    wanted = bands or common_bands(*scenes)
    options = PairOptions(nodata, scale, bounds, resampling)
    return RasterPair(scenes[0].select(wanted), scenes[1].select(wanted), options)


def _target(before: Scene, after: Scene, options: PairOptions) -> GeoBox:
    both = overlap(before.geobox, after.geobox)
    return both if options.bounds is None else crop(both, options.bounds)


def common_bands(before: Scene, after: Scene) -> tuple[str, ...]:
    """Return the bands both scenes have, in the order of the before scene.

    Raises:
        PairError: none, or files without band names that differ in their number of bands.
    """
    shared = tuple(name for name in before.names if name in after.names)
    named = any(not name.isdigit() for name in shared)
    if not shared or (not named and len(before.bands) != len(after.bands)):
        raise PairError(
            f"before has bands {', '.join(before.names)} and after has bands {', '.join(after.names)}",
            expected="the same bands at both dates",
            remedy="name the bands to compare, e.g. --bands red=3,green=2,blue=1,nir=4",
        )
    return shared


def crop(geobox: GeoBox, bounds: tuple[float, float, float, float]) -> GeoBox:
    """Return the whole pixels of `geobox` that `bounds` (left, bottom, right, top in its CRS) touch.

    Raises:
        PairError: the bounds lie outside.
    """
    left, bottom, right, top = bounds
    area = GeoBox.from_bbox((left, bottom, right, top), geobox.crs, shape=(1, 1), tight=True)
    try:
        return overlap(geobox, area)
    except PairError as error:
        raise PairError(f"bounds {bounds} lie outside the pair, {geobox.boundingbox.bbox}") from error
