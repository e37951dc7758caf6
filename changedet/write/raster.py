"""Rasters: probabilities and masks as bytes, written window by window, then copied to COGs.

The COG driver holds the whole raster when it is written to, so windows go to a plain tiled GeoTIFF first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

# GDAL's errors while copying come as this class, which has no public name.
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from changedet.errors import ConfigError, OutputError
from changedet.grid.quantise import NODATA, STEPS, as_bytes, stored_change, stored_threshold
from changedet.grid.window import Window
from changedet.write.palette import UNCHANGED, class_colours

BLOCK = 512

_MEANING = "TIFFTAG_IMAGEDESCRIPTION"
# TIFF palettes have no transparency of their own; GDAL makes the nodata entry transparent on reading.
_TRANSPARENT = (0, 0, 0, 0)


@dataclass(frozen=True)
class RasterLayout:
    """What a raster file is, but for its pixels.

    Attributes:
        geobox: grid of the raster.
        count: bands.
        dtype: of the stored values.
        nodata: stored value of invalid pixels.
        scale: of every band; physical = stored * scale.
        descriptions: names of the bands, or none.
        colours: palette of the first band, stored value to red, green, blue, alpha (0..255); empty for none.
        tags: of the dataset.
    """

    geobox: GeoBox
    count: int = 1
    dtype: str = "uint8"
    nodata: float = NODATA
    scale: float = 1.0
    descriptions: tuple[str, ...] = ()
    colours: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def probability_layout(
    geobox: GeoBox,
    *,
    classes: Sequence[str] = ("change",),
    tags: Mapping[str, str] | None = None,
    dtype: str = "uint8",
) -> RasterLayout:
    """Return the layout of probability.tif, one band a class, described by its name.

    As `uint8` it is 0..254 with the scale 1/254, as `float32` the probability itself, with NaN for nodata.
    """
    names = ("probability",) if len(classes) == 1 else tuple(f"probability of {name}" for name in classes)
    if dtype == "float32":
        told = _told("Probability of change, 0 to 1. NaN: could not be compared", tags)
        return RasterLayout(geobox, len(classes), dtype, float("nan"), descriptions=names, tags=told)
    told = _told(f"Probability of change, 0 to 1, times {STEPS}. {NODATA}: could not be compared", tags)
    return RasterLayout(geobox, len(classes), scale=1 / STEPS, descriptions=names, tags=told)


def _told(meaning: str, tags: Mapping[str, str] | None) -> dict[str, str]:
    """Return the tags of a raster with what its values mean, as TIFF has a field for it and gdalinfo prints it."""
    return {_MEANING: meaning, **(tags or {})}


def uncertainty_layout(
    geobox: GeoBox, *, classes: Sequence[str] = ("change",), tags: Mapping[str, str] | None = None
) -> RasterLayout:
    """Return the layout of uncertainty.tif: standard deviation of the probability, stored as the probability is."""
    names = ("uncertainty",) if len(classes) == 1 else tuple(f"uncertainty of {name}" for name in classes)
    meaning = f"Standard deviation of the probability of change, times {STEPS}. {NODATA}: could not be compared"
    return RasterLayout(geobox, len(classes), scale=1 / STEPS, descriptions=names, tags=_told(meaning, tags))


def mask_layout(geobox: GeoBox, *, classes: int = 1, tags: Mapping[str, str] | None = None) -> RasterLayout:
    """Return the layout of mask.tif: 0 unchanged, 1..K the class of change, with a palette."""
    colours = {0: UNCHANGED, **dict(enumerate(class_colours(classes), start=1)), NODATA: _TRANSPARENT}
    changed = "1: changed" if classes == 1 else f"1 to {classes}: kind of change, see CLASS_1 and so on"
    meaning = f"0: unchanged. {changed}. {NODATA}: could not be compared"
    return RasterLayout(geobox, descriptions=("change",), colours=colours, tags=_told(meaning, tags))


def statistic_layout(geobox: GeoBox, names: tuple[str, ...], *, tags: Mapping[str, str] | None = None) -> RasterLayout:
    """Return the layout of statistic.tif: float32, NaN for nodata, one band for each of `names`."""
    told = _told("Statistic of change: larger is more. NaN: could not be compared", tags)
    return RasterLayout(geobox, len(names), "float32", float("nan"), descriptions=names, tags=told)


class RasterSink:
    """A tiled, uncompressed GeoTIFF that takes windows in any order, as a context manager.

    Uncompressed, because a window that ends inside a block would otherwise compress that block again and leave the
    first one as waste. Pixels never written are nodata.

    Args:
        path: file to make.
        layout: all but the pixels.

    Raises:
        OutputError: the file cannot be written, on leaving too: GDAL may write as late as that.
    """

    def __init__(self, path: str | os.PathLike[str], layout: RasterLayout) -> None:
        self.path = Path(path)
        self.layout = layout

    def __enter__(self) -> RasterSink:
        layout = self.layout
        height, width = layout.geobox.shape
        self._check_room(height * width * layout.count * np.dtype(layout.dtype).itemsize)
        with told_as_output_error(self.path):
            self._dataset: Any = rasterio.open(
                self.path,
                "w",
                driver="GTiff",
                height=height,
                width=width,
                count=layout.count,
                dtype=layout.dtype,
                crs=layout.geobox.crs.to_wkt() if layout.geobox.crs else None,
                transform=layout.geobox.affine,
                nodata=layout.nodata,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                # One band's block is then one run of bytes, whatever the number of bands.
                interleave="band",
                # 64-bit offsets from 2 GB on: an uncompressed file cannot change its mind at 4 GB.
                BIGTIFF="IF_SAFER",
            )
            _describe(self._dataset, layout)
        return self

    def _check_room(self, needed: int) -> None:
        # Better known before hours of work than after; GDAL would only notice as it fills up.
        if shutil.disk_usage(self.path.parent).free < needed:
            raise _not_written(self.path, f"it takes {needed / 2**20:,.0f} MB")

    def write(self, window: Window, array: NDArray[Any]) -> None:
        """Write the pixels of a window inside the raster.

        Args:
            window: where.
            array: (K, H, W), or (H, W) for one band, of the layout's dtype and the window's size.

        Raises:
            ConfigError: the array's shape or dtype is not the window's and the layout's.
            OutputError: the file cannot be written.
        """
        bands = array[np.newaxis] if array.ndim == 2 else array
        expected = (self.layout.count, window.height, window.width)
        if bands.shape != expected or bands.dtype != self.layout.dtype:
            # rasterio would resample or cast it without a word.
            raise ConfigError(
                f"an array {bands.shape} of {bands.dtype} for {window}", expected=f"{expected} of {self.layout.dtype}"
            )
        with told_as_output_error(self.path):
            self._dataset.write(bands, window=RasterioWindow(window.col, window.row, window.width, window.height))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            # What GDAL says on closing a file that is given up would only hide why.
            with suppress(RasterioError, CPLE_BaseError):
                self._dataset.close()
            return
        with told_as_output_error(self.path):
            self._dataset.close()
        check_complete(self.path)


def _describe(dataset: Any, layout: RasterLayout) -> None:
    dataset.update_tags(**layout.tags)
    if layout.scale != 1:
        dataset.scales = (layout.scale,) * layout.count
        dataset.offsets = (0.0,) * layout.count
    for index, name in enumerate(layout.descriptions, start=1):
        dataset.set_band_description(index, name)
    if layout.colours:
        dataset.write_colormap(1, layout.colours)


def to_cog(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    overview_resampling: str,
    creation_options: Mapping[str, str] | None = None,
    threads: int | None = None,
) -> None:
    """Copy a raster to a Cloud Optimized GeoTIFF with scale, nodata, descriptions, palette and tags.

    Args:
        src: any raster that is complete.
        dst: file to make. The driver puts its own temporary files beside it.
        overview_resampling: "average" for quantities, "nearest" or "mode" for classes.
        creation_options: options of GDAL's COG driver, over ours.
        threads: that compress; all cores when None.

    Raises:
        OutputError: `dst` cannot be written whole.
    """
    with told_as_output_error(dst), rasterio.open(src) as dataset:
        has_palette = dataset.colorinterp[0] == ColorInterp.palette
        ours = {
            "COMPRESS": "DEFLATE",
            # Differences of neighbours compress quantities better, and classes worse.
            "PREDICTOR": "NO" if has_palette else "YES",
            "BLOCKSIZE": str(BLOCK),
            "OVERVIEW_RESAMPLING": overview_resampling.upper(),
            # Those of a COG that is compressed anew would stay as they are otherwise.
            "OVERVIEWS": "IGNORE_EXISTING",
            # Of all pixels, so that a GIS need not guess how to stretch quantities; of classes they would say nothing.
            "STATISTICS": "NO" if has_palette else "YES",
            "BIGTIFF": "IF_SAFER",
            "NUM_THREADS": "ALL_CPUS" if threads is None else str(threads),
        }
        given = {name.upper(): value for name, value in (creation_options or {}).items()}
        if "COMPRESS" not in given and not has_palette:
            # Of a probability the default, 6, takes nearly twice the time for 3 % fewer bytes. Masks are soon done.
            ours["LEVEL"] = "3"
        rasterio.shutil.copy(dataset, os.fspath(dst), driver="COG", **(ours | given))
    # The driver tells of blocks that it could not write, and puts the full size last in the file.
    check_complete(dst, may_be_sparse=True)


def write_mask(
    probability_path: str | os.PathLike[str],
    mask_path: str | os.PathLike[str],
    threshold: float,
    *,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write the mask that follows from a stored probability raster, row of blocks by row of blocks.

    With one band a class, a pixel is changed where their sum, the probability of any change, reaches the threshold, and
    its class is that of the highest probability.

    Args:
        probability_path: a raster as `probability_layout` has it.
        mask_path: plain GeoTIFF to make, for `to_cog`.
        threshold: probability from which on a pixel is changed, 0..1.
        tags: of the mask.

    Raises:
        OutputError: the mask cannot be written.
    """
    lowest = stored_threshold(threshold)
    with rasterio.open(probability_path) as probability:
        layout = mask_layout(GeoBox.from_rio(probability), classes=probability.count, tags=tags)
        with RasterSink(mask_path, layout) as sink:
            for window in _block_rows(probability.height, probability.width):
                stored = probability.read(window=RasterioWindow(0, window.row, window.width, window.height))
                sink.write(window, mask_of(stored, lowest))


def write_mask_of_statistic(
    statistic_path: str | os.PathLike[str],
    mask_path: str | os.PathLike[str],
    threshold: float,
    *,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write the mask of what reaches `threshold` in the first band of a raster as `statistic_layout` has it.

    Raises:
        OutputError: the mask cannot be written.
    """
    with rasterio.open(statistic_path) as statistic:
        layout = mask_layout(GeoBox.from_rio(statistic), tags=tags)
        with RasterSink(mask_path, layout) as sink:
            for window in _block_rows(statistic.height, statistic.width):
                values = statistic.read(1, window=RasterioWindow(0, window.row, window.width, window.height))
                sink.write(window, np.where(np.isnan(values), NODATA, values >= threshold).astype(np.uint8))


def mask_of(stored: NDArray[Any], lowest: int) -> NDArray[np.uint8]:
    """Return the mask (H, W) uint8 of stored probabilities (K, H, W): 0, the class 1..K, or 255.

    `lowest` is a byte; of probabilities that are stored as float32, the bytes count that they round to.
    """
    stored = as_bytes(stored)
    change = stored_change(stored)
    mask = (change >= lowest).view(np.uint8)
    if len(stored) > 1:
        mask *= (stored.argmax(axis=0) + 1).astype(np.uint8)
    mask[change == NODATA] = NODATA
    return mask


def _block_rows(height: int, width: int) -> list[Window]:
    return [Window(row, 0, min(BLOCK, height - row), width) for row in range(0, height, BLOCK)]


def check_complete(path: str | os.PathLike[str], *, may_be_sparse: bool = False) -> None:
    """Check that every block of a GeoTIFF is in the file: GDAL reads one that never got there as nodata, silently.

    Args:
        path: the file, closed.
        may_be_sparse: blocks that were never written are meant to be missing.

    Raises:
        OutputError: a block is missing or cut off.
    """
    with told_as_output_error(path):
        complete = is_complete(path, may_be_sparse=may_be_sparse)
    if not complete:
        raise _not_written(path, "its blocks are not all there")


def is_complete(path: str | os.PathLike[str], *, may_be_sparse: bool = False) -> bool:
    """Return whether every block of a GeoTIFF is in the file, see `check_complete`.

    Raises:
        RasterioError: it cannot be opened.
    """
    size = Path(path).stat().st_size
    with rasterio.open(path) as dataset:
        ends = [end for band in dataset.indexes for end in _block_ends(dataset, band)]
    is_missing = None in ends and not may_be_sparse
    return not is_missing and max((end for end in ends if end is not None), default=0) <= size


def _block_ends(dataset: Any, band: int) -> Iterator[int | None]:
    """Yield where each block of a band ends in the file (bytes), None where it is not there."""
    block_height, block_width = dataset.block_shapes[band - 1]
    for row in range(-(-dataset.height // block_height)):
        for col in range(-(-dataset.width // block_width)):
            offset, length = (
                dataset.get_tag_item(f"BLOCK_{name}_{col}_{row}", dm="TIFF", bidx=band) for name in ("OFFSET", "SIZE")
            )
            yield None if offset is None else int(offset) + int(length)


@contextmanager
def told_as_output_error(path: str | os.PathLike[str]) -> Iterator[None]:
    """Tell what GDAL reports in the block while writing `path` as an OutputError."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        raise _not_written(path, error) from error


def _not_written(path: str | os.PathLike[str], why: object) -> OutputError:
    # GDAL does not say in a way a program can read that a disk is full, so the room left is told.
    free = shutil.disk_usage(Path(path).parent).free
    return OutputError(
        f"{os.fspath(path)} could not be written ({why})",
        expected=f"room for it; the disk has {free / 2**20:,.0f} MB left",
        remedy="free some space, or another -o",
    )
