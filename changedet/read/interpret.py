"""What stored values mean: their scale to reflectance and what marks a pixel without data.

Every decision says why it was taken, so that `changedet inspect` can show it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from changedet.config import LARGEST_VALUE
from changedet.errors import SceneError
from changedet.grid.window import sample_windows
from changedet.read.file import rasterio_window
from changedet.read.header import alpha_bands, quietly_without_georeference
from changedet.read.reader import Nodata, Scaling
from changedet.read.scene import Band, Scene
from changedet.remote import settings_for

# Reflectance over snow, cloud and glint can pass 1, but not by this much.
_LARGEST_REFLECTANCE = 2.0
_SAMPLE_PX = 64
_SAMPLES_PER_AXIS = 4
_WHOLE_PX = 256


def scaling_of(
    scene: Scene,
    nodata: Sequence[Nodata],
    scale: float | None = None,
    offset: float | None = None,
    *,
    lenient: bool = False,
) -> tuple[Scaling, ...]:
    """Return how each band's stored values become reflectance.

    Args:
        scene: the bands asked for.
        nodata: what marks invalid pixels in each, which say nothing of the scale.
        scale: what to multiply stored values by, where the user knows better.
        offset: what to add then, likewise; 0 with a scale alone.
        lenient: go by what can be read, where a part of a file is damaged.
    """
    if scale is not None:
        return tuple(Scaling(scale, offset or 0.0, "as asked") for _ in scene.bands)
    recognised = (
        _scaling_of_band(band, rule.value, lenient=lenient) for band, rule in zip(scene.bands, nodata, strict=True)
    )
    if offset is None:
        return tuple(recognised)
    return tuple(replace(scaling, offset=offset, why=f"{scaling.why}; offset as asked") for scaling in recognised)


def _scaling_of_band(band: Band, nodata: float | None, *, lenient: bool) -> Scaling:
    if band.scale == 0 or not math.isfinite(band.scale + band.offset):
        raise SceneError(
            f"{band.path}: band {band.index} is scaled by {band.scale:g} and {band.offset:g}",
            expected="a scale other than 0, and finite numbers",
            remedy="--scale and --offset, if you know them",
        )
    if (band.scale, band.offset) != (1.0, 0.0):
        return Scaling(band.scale, band.offset, band.scaled_by)
    if band.dtype == "uint8":
        return Scaling(1 / 255, 0.0, "assumed: 8-bit, 255 is white", physical=False)
    if band.dtype.startswith("float") and _largest(band, nodata, lenient=lenient) <= _LARGEST_REFLECTANCE:
        return Scaling(1.0, 0.0, "floating point and below 2: reflectance already")
    return Scaling(1e-4, 0.0, "assumed: reflectance times 10,000")


def _largest(band: Band, nodata: float | None, *, lenient: bool) -> float:
    """Return the 99th percentile of a band, from windows spread over it, or of all of it where those hold nothing."""
    with _readable(band, lenient=False) as dataset:
        shape = dataset.shape
    windows = sample_windows(*shape, size=_SAMPLE_PX, per_axis=_SAMPLES_PER_AXIS)
    parts: list[dict[str, Any]] = [{"window": rasterio_window(window)} for window in windows]
    seen = _seen(band, nodata, parts, lenient=lenient)
    if not seen.size:
        height, width = (min(_WHOLE_PX, size) for size in shape)
        seen = _seen(band, nodata, [{"out_shape": (height, width)}], lenient=lenient)
    return float(np.percentile(seen, 99)) if seen.size else 0.0


def _seen(band: Band, nodata: float | None, parts: list[dict[str, Any]], *, lenient: bool) -> NDArray[Any]:
    """Return the values of valid pixels in parts of a band, (N,); `lenient`, of those that can be read."""
    if not lenient:
        with _readable(band, lenient=False) as dataset:
            return np.concatenate([_values(dataset, band.index, nodata, **part) for part in parts])
    found = [np.empty(0)]
    for part in parts:
        # Opened for each, as GDAL reports a part of a virtual raster that cannot be opened only once.
        with _readable(band, lenient=True) as dataset:
            found.append(_values(dataset, band.index, nodata, **part))
    return np.concatenate(found)


@contextmanager
def _readable(band: Band, *, lenient: bool) -> Iterator[Any]:
    """Open the file of a band; what goes wrong is a SceneError, or, `lenient`, nothing."""
    try:
        with settings_for(band.path), quietly_without_georeference(), rasterio.open(band.path) as dataset:
            yield dataset
    except RasterioError as error:
        if not lenient:
            raise SceneError(f"{band.path} is damaged or truncated ({error.__cause__ or error})") from error


def _values(dataset: Any, index: int, nodata: float | None, **part: Any) -> NDArray[Any]:
    """Return the values of valid pixels in a part of a band, (N,)."""
    sample = dataset.read(index, masked=True, **part)
    for alpha in alpha_bands(dataset):
        sample = np.ma.masked_where(dataset.read(alpha, **part) == 0, sample)
    seen = sample.compressed()
    known: NDArray[Any] = seen[(np.abs(seen) < LARGEST_VALUE) & (seen != nodata)]
    return known


def nodata_of(scene: Scene, other: Scene, override: float | None = None) -> tuple[Nodata, ...]:
    """Return what marks invalid pixels in each band of `scene`, beside masks and values that are not finite.

    Args:
        scene: the bands asked for.
        other: the same bands of the other date: where only those declare a value, both are read with it.
        override: the value to use, where the user knows better.
    """
    if override is not None:
        return tuple(_tagged(override, band.dtype, "as asked") for band in scene.bands)
    return tuple(_nodata_of_band(own, theirs) for own, theirs in zip(scene.bands, other.bands, strict=True))


def _nodata_of_band(own: Band, theirs: Band) -> Nodata:
    if own.nodata is not None:
        return _tagged(own.nodata, own.dtype, "nodata tag")
    if own.masked:
        return Nodata(None, False, "alpha band or internal mask")
    if theirs.nodata is not None and theirs.dtype == own.dtype:
        return _tagged(theirs.nodata, own.dtype, "nodata tag of the other date")
    if own.dtype.startswith("uint"):
        return Nodata(0.0, True, "none declared: 0 in all bands means it")
    return Nodata(None, False, "none declared" + (": NaN means it" if own.dtype.startswith("float") else ""))


def told(reasons: Iterable[Nodata] | Iterable[Scaling]) -> str:
    """Return why pixels are read as they are, each reason once."""
    return "; ".join(dict.fromkeys(reason.why for reason in reasons))


def _tagged(value: float, dtype: str, why: str) -> Nodata:
    if math.isnan(value):
        return Nodata(None, False, f"{why}: NaN")
    if dtype == "float32":
        # As single precision holds it, a tag beyond its range too.
        value = float(np.clip(value, np.finfo(np.float32).min, np.finfo(np.float32).max))
    # In floating point an honest 0 is rare, and a NaN beside numbers must stay a missing pixel.
    if value == 0 and not dtype.startswith("float"):
        return Nodata(0.0, True, f"{why}: 0, where all bands hold it")
    return Nodata(value, False, f"{why}: {value:g}")
