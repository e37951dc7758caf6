"""What stored values mean: their scale to reflectance and what marks a pixel without data.

Every decision says why it was taken, so that `changedet inspect` can show it.
"""

from __future__ import annotations

import math

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from changedet.errors import SceneError
from changedet.read.reader import Nodata, Scaling
from changedet.read.scene import Band, Scene, alpha_bands, quietly_without_georeference

# Reflectance over snow, cloud and glint can pass 1, but not by this much.
_LARGEST_REFLECTANCE = 2.0
_SAMPLE_PX = 256


def scaling_of(scene: Scene, override: float | None = None) -> tuple[Scaling, ...]:
    """Return how each band's stored values become reflectance.

    Args:
        scene: the bands asked for.
        override: what to multiply stored values by, where the user knows better.
    """
    if override is not None:
        return tuple(Scaling(override, 0.0, "as asked") for _ in scene.bands)
    return tuple(_scaling_of_band(band) for band in scene.bands)


def _scaling_of_band(band: Band) -> Scaling:
    if (band.scale, band.offset) != (1.0, 0.0):
        return Scaling(band.scale, band.offset, "scale and offset tags")
    if band.dtype == "uint8":
        return Scaling(1 / 255, 0.0, "assumed: 8-bit, 255 is white")
    if band.dtype.startswith("float") and _largest(band) <= _LARGEST_REFLECTANCE:
        return Scaling(1.0, 0.0, "floating point and below 2: reflectance already")
    return Scaling(1e-4, 0.0, "assumed: reflectance times 10,000")


def _largest(band: Band) -> float:
    """Return the 99th percentile of a band, from at most 256 x 256 px of it or of an overview."""
    try:
        with quietly_without_georeference(), rasterio.open(band.path) as dataset:
            height, width = (min(_SAMPLE_PX, size) for size in dataset.shape)
            sample = dataset.read(band.index, out_shape=(height, width), masked=True)
            for index in alpha_bands(dataset):
                sample = np.ma.masked_where(dataset.read(index, out_shape=(height, width)) == 0, sample)
    except RasterioError as error:
        raise SceneError(f"{band.path} is damaged or truncated ({error.__cause__ or error})") from error
    seen = sample.compressed()
    finite = seen[np.isfinite(seen)]
    return float(np.percentile(finite, 99)) if finite.size else 0.0


def nodata_of(scene: Scene, other: Scene, override: float | None = None) -> Nodata:
    """Return what marks invalid pixels in `scene`, beside masks and values that are not finite.

    Args:
        scene: the bands asked for.
        other: the scene of the other date: when only that one declares a value, both are read with it.
        override: the value to use, where the user knows better.
    """
    if override is not None:
        return _tagged(override, scene.bands[0].dtype, "as asked")
    own, theirs = scene.bands[0], other.bands[0]
    if own.nodata is not None:
        return _tagged(own.nodata, own.dtype, "nodata tag")
    if own.masked:
        return Nodata(None, False, "alpha band or internal mask")
    if theirs.nodata is not None and theirs.dtype == own.dtype:
        return _tagged(theirs.nodata, own.dtype, "nodata tag of the other date")
    if own.dtype.startswith("uint"):
        return Nodata(0.0, True, "none declared: 0 in all bands means it")
    return Nodata(None, False, "none declared" + (": NaN means it" if own.dtype.startswith("float") else ""))


def _tagged(value: float, dtype: str, why: str) -> Nodata:
    if math.isnan(value):
        return Nodata(None, False, f"{why}: NaN")
    # In floating point an honest 0 is rare, and a NaN beside numbers must stay a missing pixel.
    if value == 0 and not dtype.startswith("float"):
        return Nodata(0.0, True, f"{why}: 0, where all bands hold it")
    return Nodata(value, False, f"{why}: {value:g}")
