"""A resampler of our own: exact coordinates for every pixel, then one interpolation.

GDAL's warper knows straight grids and CRSs, but no field of displacements; resampling for the warp and again for the
field would blur twice. This one computes for each target pixel where it lies in the file, displacement and CRS
included, and interpolates there, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.transform import GCPTransformer

from changedet.grid import Window
from changedet.grid.lattice import is_geographic, near, transformed
from changedet.read.displacement import Displacement

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]

# Rows worked on at once: what the coordinates and weights of a chip of 2048 px take would else be 400 MB.
STRIP_ROWS = 64


class Locator:
    """Finds target pixels in a file: displacement, CRS and transform, exactly, for each pixel.

    Args:
        source: grid of the file.
        target: grid of the pair.
        displacement: of the file's date.
        points: ground control points that place the file where no transform does; `source` is then their CRS's.
    """

    def __init__(self, source: GeoBox, target: GeoBox, displacement: Displacement, points: Sequence[Any] = ()) -> None:
        self._source, self._target, self._displacement = source, target, displacement
        # GDAL's polynomial, of second order from ten points on: thin plates through points would follow their noise.
        self._points = GCPTransformer(points) if points else None
        self._transformer = (
            None if source.crs == target.crs else Transformer.from_crs(target.crs, source.crs, always_xy=True)
        )

    def locate(self, window: Window) -> tuple[Floats, Floats]:
        """Return the rows and columns in the file (px, 0.5 = middle of the first) of the window's pixels, (H, W)."""
        rows, cols = np.meshgrid(
            np.arange(window.row, window.stop_row) + 0.5, np.arange(window.col, window.stop_col) + 0.5, indexing="ij"
        )
        down, right = self._displacement.at(rows, cols)
        x, y = transformed(self._target.affine, cols + right, rows + down)
        if self._transformer is not None:
            x, y = self._transformer.transform(x, y)
        if is_geographic(self._source):
            x = near(x, self._source)
        if self._points is not None:
            found = self._points.rowcol(x.ravel(), y.ravel(), op=np.asarray)
            source_rows, source_cols = (np.asarray(axis, dtype=float).reshape(rows.shape) for axis in found)
        else:
            source_cols, source_rows = transformed(~self._source.affine, x, y)
        return source_rows, source_cols


def _tent(distance: Floats) -> Floats:
    return np.maximum(0.0, 1.0 - distance)


def _keys(distance: Floats) -> Floats:
    """Cubic convolution with a = -0.5: Keys, IEEE Transactions on Acoustics, Speech and Signal Processing 29 (1981)."""
    near_part = (1.5 * distance - 2.5) * distance**2 + 1.0
    far_part = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return np.where(distance <= 1, near_part, np.where(distance < 2, far_part, 0.0))


_KERNELS: dict[str, tuple[Callable[[Floats], Floats], int]] = {"bilinear": (_tent, 1), "cubic": (_keys, 2)}


def resample(
    read: Callable[[Window], Pixels],
    shape: tuple[int, int],
    rows: Floats,
    cols: Floats,
    *,
    count: int,
    kernel: str = "bilinear",
    scale: tuple[float, float] = (1.0, 1.0),
) -> Pixels:
    """Interpolate a file at points.

    A result is valid where the pixel that holds the point is; invalid neighbours are left out and the others weigh
    the more. Cubic falls back to bilinear beside invalid pixels, as its weights may cancel there.

    Args:
        read: gives the file's pixels, float32 (count, height, width) with NaN for none, of a window inside it.
        shape: rows and columns of the file.
        rows: of the points in the file (px, 0.5 = middle of the first), (H, W).
        cols: likewise.
        count: channels.
        kernel: `nearest`, `bilinear` or `cubic`.
        scale: target pixels per file pixel along rows and columns, at most 1: widens the kernel against aliasing.

    Returns:
        Float32 (count, H, W), NaN where there is no pixel.
    """
    result = np.full((count, *rows.shape), np.nan, dtype=np.float32)
    for start in range(0, len(rows), STRIP_ROWS):
        part = slice(start, start + STRIP_ROWS)
        reach = tuple(math.ceil(_KERNELS.get(kernel, (None, 0))[1] / s) + 1 for s in scale)
        block = _block(rows[part], cols[part], shape, reach)
        if block is not None:
            pixels = read(block)
            result[:, part] = _interpolated(pixels, rows[part] - block.row, cols[part] - block.col, kernel, scale)
    return result


def _block(rows: Floats, cols: Floats, shape: tuple[int, int], reach: tuple[int, ...]) -> Window | None:
    """Return the part of the file that the points need, None where they need nothing."""
    inside = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])  # False for what is not finite
    if not inside.any():
        return None
    starts = [max(0, math.floor(axis[inside].min()) - r) for axis, r in zip((rows, cols), reach, strict=True)]
    stops = [
        min(size, math.floor(axis[inside].max()) + r + 1)
        for axis, r, size in zip((rows, cols), reach, shape, strict=True)
    ]
    return Window(starts[0], starts[1], stops[0] - starts[0], stops[1] - starts[1])


def _interpolated(pixels: Pixels, rows: Floats, cols: Floats, kernel: str, scale: tuple[float, float]) -> Pixels:
    height, width = pixels.shape[1:]
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    row_of, col_of = (np.where(inside, np.floor(axis), 0).astype(np.intp) for axis in (rows, cols))
    holding = np.where(inside, pixels[:, row_of, col_of], np.float32(np.nan))
    if kernel == "nearest":
        return holding
    at_rows, at_cols = np.where(inside, rows, 0.5), np.where(inside, cols, 0.5)
    result, complete = _convolved(pixels, at_rows, at_cols, kernel, scale)
    if kernel == "cubic" and not complete.all():
        result = np.where(complete, result, _convolved(pixels, at_rows, at_cols, "bilinear", scale)[0])
    return np.where(np.isnan(holding), np.float32(np.nan), result)


def _convolved(
    pixels: Pixels, rows: Floats, cols: Floats, kernel: str, scale: tuple[float, float]
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return the weighted mean of the valid pixels around each point, and where all of them were valid."""
    height, width = pixels.shape[1:]
    total = np.zeros((len(pixels), *rows.shape))
    weight_sum = np.zeros_like(total)
    complete = np.ones(total.shape, dtype=np.bool_)
    row_taps, col_taps = _taps(rows, kernel, scale[0]), _taps(cols, kernel, scale[1])
    for row, row_weight in row_taps:
        row_inside = (row >= 0) & (row < height)
        for col, col_weight in col_taps:
            weight = row_weight * col_weight
            there = row_inside & (col >= 0) & (col < width)
            values = pixels[:, np.clip(row, 0, height - 1), np.clip(col, 0, width - 1)]
            valid = there & ~np.isnan(values)
            complete &= valid | (weight == 0)
            used = np.where(valid, weight, 0.0)
            total += used * np.where(valid, values, 0.0)
            weight_sum += used
    mean = np.divide(total, weight_sum, out=np.full_like(total, np.nan), where=np.abs(weight_sum) > 1e-6)
    return mean.astype(np.float32), complete


def _taps(positions: Floats, kernel: str, scale: float) -> list[tuple[NDArray[np.intp], Floats]]:
    """Return the pixels along one axis that a point reaches, each with its weight; both of the points' shape."""
    function, radius = _KERNELS[kernel]
    reach = radius / scale
    centre = positions - 0.5
    first = np.floor(centre - reach).astype(np.intp) + 1
    taps = (first + step for step in range(math.ceil(2 * reach)))
    return [(tap, function(np.abs(tap - centre) * scale)) for tap in taps]
