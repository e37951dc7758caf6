"""Rasters for the tests, made in code: small, exact and of a known answer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.enums import ColorInterp
from scipy.ndimage import gaussian_filter

UTM = "EPSG:32633"
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_600_000)


def write_raster(
    path: Path,
    array: NDArray[Any],
    *,
    crs: str | None = UTM,
    transform: Affine = NORTH_UP,
    nodata: float | None = None,
    mask: NDArray[np.bool_] | None = None,
    alpha: NDArray[Any] | None = None,
    names: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    **profile: Any,
) -> Path:
    """Write (H, W) or (C, H, W) as a GeoTIFF; `mask` (True = valid) and `alpha` (0 hides) are (H, W)."""
    bands = array[None] if array.ndim == 2 else array
    colours = None
    if alpha is not None:
        bands = np.concatenate([bands, alpha[None].astype(bands.dtype)])
        colours = [ColorInterp.undefined] * (len(bands) - 1) + [ColorInterp.alpha]
    count, height, width = bands.shape
    size = {"height": height, "width": width, "count": count, "dtype": bands.dtype, "nodata": nodata}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **size, **profile) as dataset,
    ):
        if colours is not None:
            dataset.colorinterp = colours
        dataset.write(bands)
        if mask is not None:
            dataset.write_mask(mask.astype(bool))
        if (scale, offset) != (1.0, 0.0):
            dataset.scales, dataset.offsets = (scale,) * count, (offset,) * count
        for index, name in enumerate(names or (), start=1):
            dataset.set_band_description(index, name)
        dataset.update_tags(**(tags or {}))
    return path


def geobox(
    height: int, width: int, *, crs: str = UTM, transform: Affine = NORTH_UP, row: float = 0, col: float = 0
) -> GeoBox:
    """Return a grid whose first pixel lies at (row, col) of the grid that `transform` spans."""
    return GeoBox((height, width), transform, crs).translate_pix(col, row)


def coordinates(source: GeoBox, target: GeoBox) -> NDArray[np.float32]:
    """Return row and column in `target` (px, 0.5 = middle of the first) of every pixel of `source`, (2, H, W)."""
    rows, cols = np.indices(source.shape) + 0.5
    x, y = _apply(source.affine, cols, rows)
    if source.crs != target.crs:
        x, y = Transformer.from_crs(source.crs, target.crs, always_xy=True).transform(x, y)
    cols, rows = _apply(~target.affine, x, y)
    return np.stack([rows, cols]).astype(np.float32)


def _apply(transform: Affine, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f


def texture(height: int, width: int, *, seed: int = 0, smooth: float = 1.5) -> NDArray[np.float32]:
    """Return smooth noise of reflectance 0.05 to 0.5, (H, W): what a shift can be measured on."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), smooth, mode="wrap")
    low, high = noise.min(), noise.max()
    return (0.05 + 0.45 * (noise - low) / (high - low)).astype(np.float32)
