"""One raster file, open, with its placement on the pair's grid."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from changedet.config import LARGEST_VALUE
from changedet.errors import SceneError
from changedet.grid import Window
from changedet.read.align import Placement, place, turned_to
from changedet.read.displacement import Displacement
from changedet.read.header import alpha_bands, quietly_without_georeference
from changedet.read.resample import Locator, resample
from changedet.read.scene import Band
from changedet.remote import settings_for

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Channel:
    """One band of a file, the channel it serves, and the value that marks its pixels invalid."""

    channel: int
    band: Band
    nodata: float | None


class OpenFile:
    """One file of a scene and the channels it serves, which share a nodata value.

    Args:
        stack: closes the file.
        channels: at least one.
        target: grid of the pair.
        displacement: of the file's date, to be removed.
        resampling: kernel where the file has to be resampled.

    Raises:
        rasterio.errors.RasterioError: it cannot be opened.
    """

    def __init__(
        self,
        stack: ExitStack,
        channels: list[Channel],
        target: GeoBox,
        displacement: Displacement,
        resampling: str,
    ) -> None:
        self.channels = [channel.channel for channel in channels]
        self._indexes = [channel.band.index for channel in channels]
        self._nodata, band = channels[0].nodata, channels[0].band
        self.path = band.path
        self._resampling = resampling
        source = turned_to(band.geobox, target)
        self.placement = place(source, target, displacement=displacement, straight=not band.by_gcps)
        if self.placement.how == "warped" and band.alpha_is_data:
            # rasterio's warp cannot be told to leave alone what GDAL takes for alpha.
            self.placement = place(source, target, displacement=displacement, straight=False)
        level = {} if band.overview is None else {"overview_level": band.overview}
        with settings_for(band.path), quietly_without_georeference():
            self._dataset = stack.enter_context(rasterio.open(band.path, **level))
        flags = () if band.alpha_is_data else self._dataset.mask_flag_enums
        self._has_mask = any(MaskFlags.per_dataset in of_band for of_band in flags)
        self._alpha = [] if band.alpha_is_data else alpha_bands(self._dataset)
        self._hides = self._has_mask or bool(self._alpha)
        if self.placement.how == "warped":
            self._warped = stack.enter_context(
                _warp(self._dataset, band, source, self.placement, self._nodata, Resampling[resampling])
            )
        elif self.placement.how == "displaced":
            points = self._dataset.gcps[0] if band.by_gcps else ()
            self._locator = Locator(source, target, displacement, points)

    def read(self, window: Window) -> Floats:
        """Return stored values (channels of this file, height, width), NaN where there is no pixel."""
        how = {"direct": self._read_direct, "warped": self._read_warped, "displaced": self._read_displaced}
        try:
            with settings_for(self.path):
                return how[self.placement.how](window)
        except RasterioError as error:
            # GDAL's own message is the cause of rasterio's 'Read failed. See previous exception'.
            raise SceneError(
                f"{self.path} is damaged or truncated: rows {window.row} to {window.stop_row} cannot be read"
                f" ({error.__cause__ or error})",
                remedy="fetch the file again",
            ) from error

    def _read_warped(self, window: Window) -> Floats:
        values: Floats = self._warped.read(self._indexes, window=rasterio_window(window))
        return values

    def _read_displaced(self, window: Window) -> Floats:
        return resample(
            self._stored,
            self._dataset.shape,
            *self._locator.locate(window),
            count=len(self.channels),
            kernel=self._resampling,
            scale=(self.placement.y_scale, self.placement.x_scale),
        )

    def _read_direct(self, window: Window) -> Floats:
        height, width = self._dataset.shape
        values = np.full((len(self.channels), window.height, window.width), np.nan, dtype=np.float32)
        source = window.shifted(self.placement.row, self.placement.col)
        inside = source.intersect(Window(0, 0, height, width))
        if inside is None:
            return values
        rows, cols = inside.relative_to(source).slices
        values[:, rows, cols] = self._stored(inside)
        return values

    def _stored(self, window: Window) -> Floats:
        """Return the file's own pixels in a window inside it, NaN where it has none."""
        raw = self._dataset.read(self._indexes, window=rasterio_window(window))
        with np.errstate(over="ignore"):  # beyond single precision is infinite, and so invalid
            values: Floats = raw.astype(np.float32)
        if self._nodata is not None:
            np.copyto(values, np.float32(np.nan), where=raw == self._nodata)
        if not np.issubdtype(raw.dtype, np.integer):
            np.copyto(values, np.float32(np.nan), where=~(np.abs(values) < LARGEST_VALUE))
        if self._hides:
            np.copyto(values, np.float32(np.nan), where=self._hidden(window))
        return values

    def _hidden(self, window: Window) -> Bools:
        """Return where a mask or an alpha band of the file hides its pixels, bool (height, width), True = hidden."""
        hidden = np.zeros((window.height, window.width), dtype=np.bool_)
        if self._has_mask:
            hidden |= self._dataset.dataset_mask(window=rasterio_window(window)) == 0
        for index in self._alpha:
            hidden |= self._dataset.read(index, window=rasterio_window(window)) == 0
        return hidden


def _warp(
    dataset: Any,
    band: Band,
    source: GeoBox,
    placement: Placement,
    nodata: float | None,
    resampling: Resampling,
) -> WarpedVRT:
    height, width = placement.geobox.shape
    # A floating-point file without a nodata value may still hold NaN, which the warp takes for data unless told.
    source_nodata = math.nan if nodata is None and band.dtype.startswith("float") and not band.masked else nodata
    return WarpedVRT(
        dataset,
        # Said here: a grid near 180° may be turned by 360°, and straight control points are no transform to GDAL.
        src_crs=str(source.crs),
        src_transform=source.affine,
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


def rasterio_window(window: Window) -> RasterioWindow:
    """Return the window as rasterio takes it."""
    return RasterioWindow(col_off=window.col, row_off=window.row, width=window.width, height=window.height)
