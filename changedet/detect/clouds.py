"""Clouds and their shadows, found by OmniCloudMask: a step of its own before a run, which yields a mask file.

Wright et al., "Training sensor-agnostic deep learning models for remote sensing: achieving state-of-the-art cloud and
cloud shadow identification with OmniCloudMask", Remote Sensing of Environment 322 (2025).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from changedet.detect.budget import CACHE_BYTES
from changedet.errors import ConfigError, ModelError
from changedet.grid import plan_chips
from changedet.read.bands import parse_mapping
from changedet.read.interpret import nodata_of, scaling_of
from changedet.read.opening import Source, open_scene
from changedet.read.reader import SceneReader
from changedet.write.raster import RasterLayout, RasterSink, to_cog
from changedet.write.staging import atomic_path

# Red, green and near infrared, in the order the network takes them.
_BANDS = ("B04", "B03", "B08")
_CHIP_PX, _HALO_PX = 2048, 256
_CLEAR = 0

Predict = Callable[[NDArray[np.float32]], NDArray[Any]]


def mask_clouds(
    source: Source, out: str | os.PathLike[str], *, bands: str | None = None, overwrite: bool = False
) -> float:
    """Write a mask of a scene's clear pixels, for `--valid-mask`: 1 clear, 0 cloud, shadow or no data.

    Args:
        source: see `changedet.read.opening.open_scene`.
        out: GeoTIFF to write, on the scene's own grid.
        bands: which band is which, as `run --bands` takes it.
        overwrite: replace `out`.

    Returns:
        The share of the pixels that are clear, 0..1.

    Raises:
        ConfigError: OmniCloudMask is not installed.
        ModelError: its weights are not there and cannot be fetched.
        NotFoundError, SceneError, PairError: the scene cannot be read, or lacks red, green or near infrared.
        OutputExistsError, OutputError: `out` is there, or cannot be written.
    """
    predict = _predictor()
    # Around all that opens a file: GDAL's environment must outlive what is open in it.
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        scene = open_scene(source, mapping=parse_mapping(bands) if bands else None).select(_BANDS)
        nodata = nodata_of(scene, scene)
        scaling = scaling_of(scene, nodata)
        with (
            SceneReader(scene, scene.geobox, scaling=scaling, nodata=nodata) as reader,
            atomic_path(out, overwrite=overwrite) as path,
        ):
            plain = path.with_suffix(".plain.tif")
            clear = _write(reader, predict, RasterSink(plain, RasterLayout(scene.geobox, descriptions=("clear",))))
            to_cog(plain, path, overview_resampling="nearest")
    height, width = scene.geobox.shape
    return clear / (height * width)


def _write(reader: SceneReader, predict: Predict, sink: RasterSink) -> int:
    """Write the mask chip by chip, and return how many pixels are clear."""
    height, width = reader.target.shape
    clear = 0
    with sink:
        for planned in plan_chips(height, width, chip=_CHIP_PX, halo=_HALO_PX, stride=1).chips:
            image, valid = reader.read(planned.read)
            image[:, ~valid] = 0
            rows, cols = planned.core.relative_to(planned.read).slices
            mask = (np.asarray(predict(image)).reshape(valid.shape) == _CLEAR) & valid
            sink.write(planned.core, mask[None, rows, cols].astype(np.uint8))
            clear += int(mask[rows, cols].sum())
    return clear


def _predictor() -> Predict:
    try:
        from omnicloudmask import predict_from_array
    except ImportError as error:
        raise ConfigError(
            f"OmniCloudMask is not installed ({error})",
            remedy="pip install 'changedet[clouds]', or a mask by other means",
        ) from error

    def predict(image: NDArray[np.float32]) -> NDArray[Any]:
        try:
            answer: NDArray[Any] = predict_from_array(image)
        except Exception as error:  # without a network whatever the libraries that fetch weights raise
            raise ModelError(
                f"OmniCloudMask failed, or its weights cannot be loaded ({error})",
                remedy="run it once where it can fetch them",
            ) from error
        return answer

    return predict
