"""Open masks and probabilities, ours or anybody's, and refuse what cannot be understood."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

# What GDAL reports while rasterio iterates over shapes comes as this class, which has no public name.
from rasterio._err import CPLE_BaseError
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from changedet.errors import NotFoundError, PairError, SceneError
from changedet.grid.lattice import crs_name
from changedet.grid.window import Window
from changedet.remote import is_named_to_gdal, settings_for
from changedet.vectorize.polygons import moved

PathLike: TypeAlias = str | os.PathLike[str]

# How far two grids' corners may lie apart and still be one grid (px): more than rounding, less than matters.
_SAME_GRID_PX = 1e-3
_PIECE_PX = 2**22


@contextmanager
def opened(path: PathLike) -> Iterator[Any]:
    """Open a raster; what goes wrong while it is open is told as ours.

    Raises:
        NotFoundError: no such file.
        SceneError: not a raster, or damaged.
    """
    name = os.fspath(path)
    if not is_named_to_gdal(name) and not Path(name).exists():
        raise NotFoundError(f"no file {name}", remedy="check the path")
    try:
        with settings_for(name), rasterio.open(name) as dataset:
            yield dataset
    except (RasterioError, CPLE_BaseError) as error:
        raise SceneError(
            f"{name} cannot be read ({error})",
            expected="a raster that GDAL opens, complete to its last block",
            remedy="gdalinfo -checksum on it; copy or make it again if that fails too",
        ) from error


def rasterio_window(window: Window) -> RasterioWindow:
    """Return the window as rasterio takes it."""
    return RasterioWindow(col_off=window.col, row_off=window.row, width=window.width, height=window.height)


def mask_grid(dataset: Any) -> GeoBox:
    """Return the grid of an open dataset that can be read as a mask.

    Raises:
        SceneError: not one band of uint8, or with a scale, nodata given by another band than the values, or no CRS.
    """
    if dataset.count != 1 or dataset.dtypes[0] != "uint8":
        raise SceneError(
            f"{dataset.name} has {dataset.count} band(s) of {', '.join(sorted(set(dataset.dtypes)))}",
            expected="a mask: one band of uint8, 0 unchanged and 1..K the class of change",
            remedy="gdal_translate -b 1 -ot Byte, after a threshold if these are probabilities",
        )
    if dataset.scales[0] != 1:
        raise SceneError(
            f"{dataset.name} has a scale, {dataset.scales[0]:.6g}, so it holds quantities, as probability.tif does",
            expected="a mask: 0 unchanged and 1..K the class of change",
            remedy="the mask.tif beside it; another threshold is run --reuse --threshold",
        )
    _refuse_mask_band(dataset)
    if dataset.crs is None:
        raise SceneError(
            f"{dataset.name} has no coordinate system",
            expected="one, as areas in m² depend on it",
            remedy="gdal_edit.py -a_srs EPSG:nnnn",
        )
    return GeoBox.from_rio(dataset)


def _refuse_mask_band(dataset: Any) -> None:
    if MaskFlags.per_dataset in dataset.mask_flag_enums[0]:
        raise SceneError(
            f"{dataset.name} says which pixels are valid in an internal mask",
            expected="a nodata value",
            remedy="gdalwarp -dstnodata 255, which writes the mask into the values",
        )


def nodata_value(dataset: Any) -> int | None:
    """Return the nodata value of a uint8 dataset, or None where it has none that a pixel could take."""
    nodata = dataset.nodata
    return int(nodata) if nodata is not None and nodata in range(256) else None


def values_of(array: NDArray[np.uint8]) -> list[int]:
    """Return the values that occur in an array, in order."""
    # numpy's bincount would make eight bytes of each first.
    return [value for value, count in enumerate(Image.fromarray(array).histogram()) if count]


def values_in(dataset: Any, window: Window) -> set[int]:
    """Return the values that occur in a window of a uint8 dataset."""
    seen: set[int] = set()
    rows = max(1, _PIECE_PX // window.width)
    for row in range(window.row, window.stop_row, rows):
        piece = RasterioWindow(window.col, row, window.width, min(rows, window.stop_row - row))
        seen.update(values_of(dataset.read(1, window=piece)))
    return seen


def check_probability(dataset: Any, grid: GeoBox, *, classes: int) -> None:
    """Check that an open dataset holds probabilities for a mask on `grid` whose largest class is `classes`.

    Raises:
        PairError: another grid, or bands for some of the classes only.
        SceneError: integers without a scale, or invalid pixels told by another band.
    """
    _refuse_mask_band(dataset)
    own = GeoBox.from_rio(dataset)
    if own.crs != grid.crs or own.shape != grid.shape or _corner_distance(own, grid) > _SAME_GRID_PX:
        raise PairError(
            f"the probabilities {dataset.name} lie on another grid than the mask: {_told(own)}",
            expected=_told(grid),
            remedy="the probability.tif of the run that wrote the mask, or gdalwarp it to the mask's grid",
        )
    if dataset.count not in (1, *range(classes, dataset.count + 1)):
        raise PairError(f"{dataset.count} bands of probability", expected=f"one, or one for each of {classes} classes")
    if np.issubdtype(dataset.dtypes[0], np.integer) and dataset.scales[0] == 1:
        raise SceneError(
            f"{dataset.name} holds whole numbers ({dataset.dtypes[0]}) without a scale",
            expected="probabilities from 0 to 1, or a scale that makes them so",
            remedy="gdal_edit.py -scale 0.00392156862745098 for values up to 255",
        )


def _corner_distance(one: GeoBox, other: GeoBox) -> float:
    """Return how far the corners of `other`, of the same shape, are from those of `one`, at most (px of `one`)."""
    height, width = other.shape
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], dtype=np.float64)
    in_one = moved(moved(corners, other.affine), ~one.affine)
    return float(np.abs(in_one - corners).max())


def _told(grid: GeoBox) -> str:
    height, width = grid.shape
    resolution = f"{abs(grid.affine.a):.6g} x {abs(grid.affine.e):.6g}"
    return (
        f"{width} x {height} px of {resolution} from {grid.affine.c:.6f}, {grid.affine.f:.6f} in {crs_name(grid.crs)}"
    )
