"""A bi-temporal pair: two scenes on one grid, read window by window."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.errors import PairError, SceneError
from changedet.grid import Window
from changedet.read.bands import Mapping
from changedet.read.displacement import NONE, Displacement
from changedet.read.interpret import nodata_of, scaling_of
from changedet.read.opening import Source, open_scene
from changedet.read.quality import AUTO, quality_of
from changedet.read.radiometry import Curves
from changedet.read.reader import Nodata, Scaling, SceneReader
from changedet.read.scene import Band, Scene
from changedet.read.target import GridOptions, target_grid

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


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

    nodata: tuple[float | None, float | None] = (None, None)
    scale: tuple[float | None, float | None] = (None, None)
    offset: tuple[float | None, float | None] = (None, None)
    grid: GridOptions = field(default_factory=GridOptions)
    valid_mask: tuple[str, str] = (AUTO, AUTO)
    resampling: str = "bilinear"


@dataclass(frozen=True, slots=True)
class Correction:
    """What is put right while a pair is read.

    Attributes:
        displacement: of the after date, removed.
        before: curves that the before date's reflectance goes through, None for none.
        after: likewise the after date's.
        displacement_before: of the before date, removed; that of a series may lie off its first date too.
    """

    displacement: Displacement = NONE
    before: Curves | None = None
    after: Curves | None = None
    displacement_before: Displacement = NONE

    def of_channels(self, channels: list[int]) -> Correction:
        """Return the correction of some of the channels."""
        before, after = (curves and curves.of_channels(channels) for curves in (self.before, self.after))
        return replace(self, before=before, after=after)


# One scaling a band, of the earlier and of the later date.
DatesScaling = tuple[tuple[Scaling, ...], tuple[Scaling, ...]]


class RasterPair:
    """A pair of scenes on disk or behind URLs. A context manager; not thread-safe.

    Args:
        before: the bands to read, at the earlier date.
        after: the same bands, at the later date.
        options: how.
        correction: what to put right on the way.
        geobox: the grid, where it was decided before; what `options.grid` says when None.
        scaling: of the bands of both dates, where it was decided before; what the files say when None.
        lenient: take what cannot be read for invalid, so that one damaged file of many does not hide all others.
    """

    def __init__(
        self,
        before: Scene,
        after: Scene,
        options: PairOptions,
        correction: Correction = Correction(),
        *,
        geobox: GeoBox | None = None,
        scaling: DatesScaling | None = None,
        lenient: bool = False,
    ) -> None:
        self.options = options
        self.lenient = lenient
        self.correction = correction
        self.before = before
        self.after = after
        self._geobox = geobox or target_grid(before.geobox, after.geobox, options.grid)
        self.nodata: tuple[tuple[Nodata, ...], tuple[Nodata, ...]] = (
            nodata_of(before, after, options.nodata[0]),
            nodata_of(after, before, options.nodata[1]),
        )
        self.scaling: DatesScaling = scaling or (
            scaling_of(before, self.nodata[0], options.scale[0], options.offset[0], lenient=lenient),
            scaling_of(after, self.nodata[1], options.scale[1], options.offset[1], lenient=lenient),
        )
        self.readers = self._opened()
        self._beside = ThreadPoolExecutor(1, "changedet-after")

    def _reader(self, which: int, displacement: Displacement) -> SceneReader:
        scene = (self.before, self.after)[which]
        return SceneReader(
            scene,
            self._geobox,
            scaling=self.scaling[which],
            nodata=self.nodata[which],
            quality=quality_of(scene, self.options.valid_mask[which]),
            displacement=displacement,
            resampling=self.options.resampling,
        )

    @property
    def geobox(self) -> GeoBox:
        """The grid both dates are on."""
        return self._geobox

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self.before.names

    @property
    def is_physical(self) -> bool:
        """Whether the values of both dates have a known scale."""
        return all(self.are_physical)

    @property
    def are_physical(self) -> tuple[bool, bool]:
        """Whether the values have a known scale, before and after."""
        before, after = (all(scaling.physical for scaling in date) for date in self.scaling)
        return before, after

    def corrected(self, correction: Correction) -> RasterPair:
        """Return the pair with something else put right while it is read."""
        return RasterPair(
            self.before,
            self.after,
            self.options,
            correction,
            geobox=self._geobox,
            scaling=self.scaling,
            lenient=self.lenient,
        )

    def after_another(self, earlier: RasterPair) -> RasterPair:
        """Return the pair of another pair's after date and this one's, as they lie."""
        first, second = earlier.options, self.options
        options = replace(
            second,
            nodata=(first.nodata[1], second.nodata[1]),
            scale=(first.scale[1], second.scale[1]),
            offset=(first.offset[1], second.offset[1]),
            valid_mask=(first.valid_mask[1], second.valid_mask[1]),
        )
        return RasterPair(earlier.after, self.after, options, geobox=self._geobox)

    def shifted(self, shift: tuple[float, float]) -> RasterPair:
        """Return the pair with the residual shift (row, col; px) of the after date removed while it is read."""
        return self.corrected(replace(self.correction, displacement=Displacement.constant(*shift)))

    def with_bands(self, bands: tuple[str, ...]) -> RasterPair:
        """Return the pair with fewer bands, on the same grid."""
        before, after = self.before.select(bands), self.after.select(bands)
        correction = self.correction.of_channels([self.bands.index(band) for band in bands])
        return RasterPair(before, after, self.options, correction, geobox=self._geobox)

    def covers(self, window: Window) -> NDArray[np.bool_]:
        """Return which pixels of a window were asked for, bool (height, width): all, without an area."""
        area = self.options.grid.area
        return np.ones((window.height, window.width), np.bool_) if area is None else area.covers(self._geobox, window)

    def read(self, window: Window) -> Chip:
        """Read one window of both dates; see `Chip`.

        Raises:
            SceneError: a file is damaged or truncated there, and the pair is not lenient.
        """
        try:
            dates = self._read_dates(window)
        except SceneError:
            if not self.lenient:
                raise
            self._open_again()
            dates = self._nothing(window), self._nothing(window)
        return self.chip_of(window, *dates)

    def chip_of(self, window: Window, earlier: tuple[Floats, Bools], later: tuple[Floats, Bools]) -> Chip:
        """Return the chip of what was read, (bands, height, width), and what of it is valid, at each date."""
        (before, valid_before), (after, valid_after) = earlier, later
        valid = valid_before & valid_after
        if self.options.grid.area is not None:
            valid &= self.covers(window)
        before, after = along(self.correction.before, before), along(self.correction.after, after)
        if not valid.all():
            for image in (before, after):
                np.copyto(image, np.float32(NEUTRAL_REFLECTANCE), where=~valid)
        return Chip(before, after, valid, window)

    def _read_dates(self, window: Window) -> tuple[tuple[Floats, Bools], tuple[Floats, Bools]]:
        """Read both dates side by side, as each has its own files, decoding and arithmetic."""
        later = self._beside.submit(self.readers[1].read, window)
        try:
            earlier = self.readers[0].read(window)
        finally:
            wait([later])  # a file serves one thread at a time
        return earlier, later.result()

    def _open_again(self) -> None:
        """Open the files anew after one failed.

        A virtual raster reports a file of its own that cannot be opened once; read again, GDAL 3.10 gives what happened
        to lie in memory, and no error.
        """
        for reader in self.readers:
            reader.__exit__(None, None, None)
        self.readers = self._opened()

    def _opened(self) -> tuple[SceneReader, SceneReader]:
        return self._reader(0, self.correction.displacement_before), self._reader(1, self.correction.displacement)

    def _nothing(self, window: Window) -> tuple[Floats, Bools]:
        shape = window.height, window.width
        return np.zeros((len(self.bands), *shape), np.float32), np.zeros(shape, np.bool_)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beside.shutdown()
        for reader in self.readers:
            reader.__exit__(kind, error, trace)


class OneScene:
    """A pair of the same scene twice, as a `BiTemporalPair` that reads it once.

    Args:
        pair: whose dates are the same files, read the same way, with nothing to be moved.
    """

    def __init__(self, pair: RasterPair) -> None:
        self._pair = pair
        self.geobox, self.bands = pair.geobox, pair.bands

    @staticmethod
    def fits(pair: RasterPair) -> bool:
        """Return whether the dates of a pair are read the same way."""
        correction = pair.correction
        is_still = correction.displacement.is_none and correction.displacement_before.is_none
        return is_still and correction.before == correction.after and _alike(pair)

    def read(self, window: Window) -> Chip:
        """Read one window, see `Chip`."""
        once = self._pair.readers[0].read(window)
        return self._pair.chip_of(window, once, once)


def _alike(pair: RasterPair) -> bool:
    rules = [[(rule.value, rule.all_bands) for rule in date] for date in pair.nodata]
    lines = [[(scaling.scale, scaling.offset) for scaling in date] for date in pair.scaling]
    masks = [reader.quality for reader in pair.readers]
    return rules[0] == rules[1] and lines[0] == lines[1] and masks[0] == masks[1]


def along(curves: Curves | None, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image through its curves, None for none."""
    return image if curves is None else curves.apply(image)


def open_pair(
    before: Source,
    after: Source,
    *,
    bands: tuple[str, ...] | None = None,
    mapping: Mapping | None = None,
    nodata: float | tuple[float | None, float | None] | None = None,
    scale: float | None = None,
    bounds: tuple[float, float, float, float] | None = None,
    resampling: str = "bilinear",
    valid_mask: tuple[str, str] = (AUTO, AUTO),
) -> RasterPair:
    """Open two scenes as a pair on the before grid over their overlap.

    Args:
        before: the earlier date, see `changedet.read.opening.open_scene` for what it may be.
        after: likewise, the later date.
        bands: names of the bands wanted, in order; all that both have when None.
        mapping: which band is which, for files whose bands have no names: name → number or description, or a preset.
        nodata: value that marks invalid pixels, instead of what the files declare; one for both dates, or one a date.
        scale: what stored values are multiplied by to become reflectance, instead of what is recognised.
        bounds: left, bottom, right, top in the before scene's CRS, to compare only there.
        resampling: kernel where a file has to be warped.
        valid_mask: what says which pixels are valid, one a date, see `changedet.read.quality.quality_of`.

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
    options = PairOptions(
        nodata if isinstance(nodata, tuple) else (nodata, nodata),
        (scale, scale),
        grid=GridOptions(bounds=bounds),
        valid_mask=valid_mask,
        resampling=resampling,
    )
    return RasterPair(scenes[0].select(wanted), scenes[1].select(wanted), options)


def common_bands(first: Scene, *others: Scene) -> tuple[str, ...]:
    """Return the bands all scenes have, in the order of the first.

    Raises:
        PairError: none, or files without band names that differ in their number of bands.
    """
    shared = tuple(name for band in first.bands if (name := _shared_name(band, others)))
    named = any(not name.isdigit() for name in shared)
    if not shared or (not named and any(len(other.bands) != len(first.bands) for other in others)):
        roles = ("before", "after") if len(others) == 1 else tuple(map("date {}".format, range(1, len(others) + 2)))
        scenes = zip(roles, (first, *others), strict=True)
        told = (f"{role} has bands {', '.join(scene.names)}" for role, scene in scenes)
        raise PairError(
            " and ".join(told),
            expected="the same bands at both dates" if len(others) == 1 else "the same bands at all dates",
            remedy="name the bands to compare, e.g. --bands red=3,green=2,blue=1,nir=4",
        )
    return shared


def _shared_name(band: Band, others: Sequence[Scene]) -> str | None:
    """Return the name by which all dates have a band, its own before those it stands in for."""
    return next((name for name in (band.name, *band.also) if all(name in other.offers for other in others)), None)
