"""Statistics of a raster's pixels under polygons, in bounded memory.

exactextract works here on a plane of unit pixels, rows counted upwards from the last. There the corners of pixels are
whole numbers, so a polygon of pixels covers each of them exactly once or not at all; in a CRS, rounding would let
slivers of the neighbours into the maximum. Rotated rasters work too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import exactextract
import numpy as np
import shapely
from exactextract.feature import Feature, FeatureSource
from exactextract.raster import RasterSource
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from changedet.vectorize.polygons import Geometries

# Pixels of the largest piece of a polygon's bounding box that is read at once: with coverages some 50 MB.
_MAX_CELLS = 2048 * 2048


def mean_and_max(pixels: Geometries, dataset: Any, band: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and maximum, both (N,), of a band's valid pixels under each polygon, NaN where there are none.

    Stored values are taken as they are; the band's own scale and offset are applied to the result.

    Args:
        pixels: polygons (N,) in pixel coordinates, made of whole pixels.
        dataset: an open rasterio dataset whose invalid pixels are nodata or NaN.
        band: 1-based band.
    """
    table = exactextract.exact_extract(
        _Pixels(dataset, band),
        _Polygons(shapely.transform(pixels, lambda points: points * [1, -1] + [0, dataset.height])),
        ["mean", "max"],
        output="pandas",
        max_cells_in_memory=_MAX_CELLS,
    )
    scale, offset = dataset.scales[band - 1], dataset.offsets[band - 1]
    mean, largest = (table[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in ("mean", "max"))
    return mean * scale + offset, largest * scale + offset


class _Pixels(RasterSource):  # type: ignore[misc]  # exactextract has no types
    """One band of a rasterio dataset on the plane of unit pixels."""

    def __init__(self, dataset: Any, band: int) -> None:
        super().__init__()
        self.dataset = dataset
        self.band = band

    def res(self) -> tuple[float, float]:
        return 1.0, 1.0

    def extent(self) -> tuple[float, float, float, float]:
        return 0.0, 0.0, float(self.dataset.width), float(self.dataset.height)

    def srs_wkt(self) -> None:
        return None

    def nodata_value(self) -> float | None:
        nodata, dtype = self.dataset.nodatavals[self.band - 1], np.dtype(self.dataset.dtypes[self.band - 1])
        if nodata is None or dtype.kind == "f":
            return None if nodata is None else float(nodata)
        # A value that the type cannot hold marks no pixel.
        limits = np.iinfo(dtype)
        return int(nodata) if limits.min <= nodata <= limits.max else None

    def read_window(self, x0: int, y0: int, nx: int, ny: int) -> Any:
        return self.dataset.read(self.band, window=RasterioWindow(x0, y0, nx, ny))


class _Polygons(FeatureSource):  # type: ignore[misc]  # exactextract has no types
    """Polygons (N,) of the plane of unit pixels."""

    def __init__(self, polygons: Geometries) -> None:
        super().__init__()
        self.polygons = polygons

    def count(self) -> int:
        return len(self.polygons)

    def __iter__(self) -> Iterator[_Polygon]:
        return map(_Polygon, self.polygons)

    def srs_wkt(self) -> None:
        return None


class _Polygon(Feature):  # type: ignore[misc]  # exactextract has no types
    """One polygon without attributes."""

    def __init__(self, polygon: shapely.MultiPolygon) -> None:
        super().__init__()
        self.polygon = polygon

    def geometry(self) -> bytes:
        return bytes(shapely.to_wkb(self.polygon))

    def fields(self) -> list[str]:
        return []
