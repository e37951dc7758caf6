from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

UTM = "EPSG:32633"
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_600_000)

MakeRaster = Callable[..., Path]


@pytest.fixture
def make_raster(tmp_path: Path) -> MakeRaster:
    """Return a function that writes an array (H, W) or (K, H, W) as a GeoTIFF of 10 m pixels in UTM 33N."""
    numbers = count()

    def make(
        array: NDArray[Any],
        *,
        crs: str | None = UTM,
        transform: Affine = NORTH_UP,
        nodata: float | None = 255,
        scale: float = 1.0,
        **profile: Any,
    ) -> Path:
        bands = np.atleast_3d(array) if array.ndim < 3 else np.moveaxis(array, 0, -1)
        height, width, bands_count = bands.shape
        path = tmp_path / f"raster{next(numbers)}.tif"
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=bands_count,
            dtype=array.dtype,
            crs=crs,
            transform=transform,
            nodata=nodata,
            **profile,
        ) as dataset:
            dataset.write(np.moveaxis(bands, -1, 0))
            dataset.scales = (scale,) * bands_count
        return path

    return make
