"""A scene for looking at: from the overviews of its files, where they have any."""

from __future__ import annotations

from dataclasses import replace

import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from changedet.errors import SceneError
from changedet.read.align import ground_resolution
from changedet.read.scene import Band, Scene
from changedet.remote import settings_for

# A grid of exactly twice the pixels comes out a hair less, measured on the ground.
_ROUNDING = 0.01


def coarsened(scene: Scene, target: GeoBox) -> Scene:
    """Return the scene with each band on the coarsest overview that is still as fine as `target`.

    Overviews were made by whoever wrote the file, and nobody knows how: good for a picture, not for detection.

    Raises:
        SceneError: a file cannot be opened.
    """
    return replace(scene, bands=tuple(_coarsened(band, target) for band in scene.bands))


def _coarsened(band: Band, target: GeoBox) -> Band:
    if band.by_gcps:
        return band  # the warp follows the control points of the file itself
    try:
        with settings_for(band.path), rasterio.open(band.path) as dataset:
            factors = dataset.overviews(band.index)
        wanted = min(
            there / here for there, here in zip(ground_resolution(target), ground_resolution(band.geobox), strict=True)
        )
        levels = [level for level, factor in enumerate(factors) if factor <= wanted + _ROUNDING]
        if not levels:
            return band
        with settings_for(band.path), rasterio.open(band.path, overview_level=levels[-1]) as overview:
            geobox = GeoBox(overview.shape, overview.transform, overview.crs)
    except RasterioError as error:
        raise SceneError(f"{band.path} cannot be opened ({error})") from error
    return replace(band, geobox=geobox, overview=levels[-1])
