"""Pixels of a scene on the pair's grid, as reflectance, NaN where invalid.

One rule serves every kind of validity. Each band is read as float32 and NaN stands for 'no pixel': outside the file, at
its nodata value, where its alpha or internal mask says so, and where the stored value is not finite. Warped reading
keeps to the same rule because the warp writes float32 with NaN as its own nodata: without that, a WarpedVRT calls what
lies outside the source valid, and the zeros under an internal mask too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from changedet.errors import SceneError
from changedet.grid import Window
from changedet.read.align import Placement, place
from changedet.read.scene import Band, Scene, alpha_bands, quietly_without_georeference

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Stored value times `scale` plus `offset` is reflectance; `why` says where that comes from."""

    scale: float
    offset: float
    why: str


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
        nodata: what marks invalid pixels.
        shift: residual shift (row, col) in target px to remove, see `place`.
        resampling: kernel for files that have to be warped.
    """

    def __init__(
        self,
        scene: Scene,
        target: GeoBox,
        *,
        scaling: tuple[Scaling, ...],
        nodata: Nodata,
        shift: tuple[float, float] = (0.0, 0.0),
        resampling: str = "bilinear",
    ) -> None:
        self.scene = scene
        self.target = target
        self._nodata = nodata
        self._scale = np.array([s.scale for s in scaling], dtype=np.float32)[:, None, None]
        self._offset = np.array([s.offset for s in scaling], dtype=np.float32)[:, None, None]
        self._stack = ExitStack()
        try:
            self._files = [
                _OpenFile(self._stack, list(bands), target, nodata, shift, Resampling[resampling])
                for bands in _by_file(scene.bands)
            ]
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
        stored = np.full((len(self.scene.bands), window.height, window.width), np.nan, dtype=np.float32)
        height, width = self.target.shape
        inside = window.intersect(Window(0, 0, height, width))
        if inside is not None:
            rows, cols = inside.relative_to(window).slices
            for file in self._files:
                stored[file.channels, rows, cols] = file.read(inside)
        valid = self._validity(stored)
        return stored * self._scale + self._offset, valid

    def _validity(self, stored: Floats) -> Bools:
        """Return valid (height, width); with zero-in-all-bands nodata, put the honest zeros back into `stored`."""
        missing = ~np.isfinite(stored)
        if not self._nodata.all_bands:
            complete: Bools = ~np.any(missing, axis=0)
            return complete
        absent = np.zeros(stored.shape[1:], dtype=np.bool_)
        for grid in self._grids():
            absent |= missing[grid].all(axis=0)
        stored[missing] = 0.0
        return ~absent

    def _grids(self) -> Iterable[list[int]]:
        """Channels by pixel size: a 60 m band is not missing where only its 10 m neighbours are."""
        for size in {band.pixel_area for band in self.scene.bands}:
            yield [i for i, band in enumerate(self.scene.bands) if band.pixel_area == size]


class _OpenFile:
    """One file of a scene and the channels it serves."""

    def __init__(
        self,
        stack: ExitStack,
        bands: list[tuple[int, Band]],
        target: GeoBox,
        nodata: Nodata,
        shift: tuple[float, float],
        resampling: Resampling,
    ) -> None:
        self.channels = [channel for channel, _ in bands]
        self._indexes = [band.index for _, band in bands]
        band = bands[0][1]
        self.path = band.path
        self._nodata = nodata.value
        self.placement = place(band.geobox, target, shift=shift)
        with quietly_without_georeference():
            self._dataset = stack.enter_context(rasterio.open(band.path))
        if self.placement.how == "warped":
            self._warped = stack.enter_context(_warp(self._dataset, band, self.placement, nodata.value, resampling))

    def read(self, window: Window) -> Floats:
        """Return stored values (channels of this file, height, width), NaN where there is no pixel."""
        try:
            return self._read_warped(window) if self.placement.how == "warped" else self._read_direct(window)
        except RasterioError as error:
            # GDAL's own message is the cause of rasterio's 'Read failed. See previous exception'.
            raise SceneError(
                f"{self.path} is damaged or truncated: rows {window.row} to {window.stop_row} cannot be read"
                f" ({error.__cause__ or error})",
                remedy="fetch the file again",
            ) from error

    def _read_warped(self, window: Window) -> Floats:
        values: Floats = self._warped.read(self._indexes, window=_rasterio_window(window))
        return values

    def _read_direct(self, window: Window) -> Floats:
        height, width = self._dataset.shape
        values = np.full((len(self.channels), window.height, window.width), np.nan, dtype=np.float32)
        source = window.shifted(self.placement.row, self.placement.col)
        inside = source.intersect(Window(0, 0, height, width))
        if inside is None:
            return values
        raw = self._dataset.read(self._indexes, window=_rasterio_window(inside))
        part = raw.astype(np.float32)
        if self._nodata is not None:
            part[raw == self._nodata] = np.nan
        part[:, self._hidden(inside)] = np.nan
        rows, cols = inside.relative_to(source).slices
        values[:, rows, cols] = part
        return values

    def _hidden(self, window: Window) -> Bools:
        """Return where a mask or an alpha band of the file hides its pixels, bool (height, width), True = hidden."""
        hidden = np.zeros((window.height, window.width), dtype=np.bool_)
        if any(MaskFlags.per_dataset in flags for flags in self._dataset.mask_flag_enums):
            hidden |= self._dataset.dataset_mask(window=_rasterio_window(window)) == 0
        for index in alpha_bands(self._dataset):
            hidden |= self._dataset.read(index, window=_rasterio_window(window)) == 0
        return hidden


def _warp(
    dataset: rasterio.DatasetReader, band: Band, placement: Placement, nodata: float | None, resampling: Resampling
) -> WarpedVRT:
    height, width = placement.geobox.shape
    # A floating-point file without a nodata value may still hold NaN, which the warp takes for data unless told.
    source_nodata = math.nan if nodata is None and band.dtype.startswith("float") and not band.masked else nodata
    return WarpedVRT(
        dataset,
        crs=str(placement.geobox.crs),
        transform=placement.geobox.affine,
        height=height,
        width=width,
        resampling=resampling,
        dtype="float32",
        src_nodata=source_nodata,
        nodata=math.nan,
        # 0 would turn the approximation of coordinates off in a way GDAL reads as 'default' (0.125 px).
        tolerance=1e-6,
        warp_mem_limit=64,  # MB
        INIT_DEST="NaN",
        SRC_ALPHA_MAX=1,  # every alpha but 0 is fully valid; GDAL drops 255 in a 16-bit band as all but transparent
        UNIFIED_SRC_NODATA="NO",  # each band's own nodata; which pixels that makes invalid is decided in one place
        XSCALE=placement.x_scale,
        YSCALE=placement.y_scale,
    )


def _by_file(bands: tuple[Band, ...]) -> Iterable[Iterable[tuple[int, Band]]]:
    """Group (channel, band) by file, so that a multi-band file is opened and warped once."""
    channels = sorted(enumerate(bands), key=lambda item: item[1].path)
    return (list(group) for _, group in groupby(channels, key=lambda item: item[1].path))


def _rasterio_window(window: Window) -> RasterioWindow:
    return RasterioWindow(col_off=window.col, row_off=window.row, width=window.width, height=window.height)
