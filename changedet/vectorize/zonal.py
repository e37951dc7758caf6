"""Means of a raster's own pixels under polygons, in bounded memory, whatever its grid.

exactextract works here on a plane of unit pixels, rows counted upwards from the last, so rotated rasters work too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import exactextract
import numpy as np
import shapely
from exactextract.feature import Feature, FeatureSource
from exactextract.raster import RasterSource
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from changedet.config import LARGEST_VALUE
from changedet.vectorize.polygons import Geometries

# Pixels that are read at once: with coverages some 50 MB.
_MAX_CELLS = 2048 * 2048


def means(
    polygons: Geometries, dataset: Any, bands: Sequence[int], nodata: Sequence[float | None]
) -> NDArray[np.float64]:
    """Return the means (N, B) of some bands' stored values under each polygon, NaN where there are none.

    A pixel that is partly covered counts with its part.

    Args:
        polygons: (N,), in pixel coordinates of the dataset.
        dataset: an open rasterio dataset.
        bands: 1-based, (B,).
        nodata: of each, value of invalid pixels, beside those that the file hides itself and those not finite.
    """
    mean = np.full((len(polygons), len(bands)), np.nan)
    inside = _clipped(polygons, dataset)
    some = np.flatnonzero(shapely.area(inside) > 0)
    if len(some) == 0:
        return mean
    part = _around(inside[some])
    table = exactextract.exact_extract(
        # In one go, as what a polygon covers of each pixel is the same for all of them.
        [_Pixels(dataset, band, value, part) for band, value in zip(bands, nodata, strict=True)],
        _Polygons(
            shapely.transform(
                inside[some], lambda points: [-part.col_off, part.height + part.row_off] + points * [1, -1]
            )
        ),
        ["mean"],
        include_cols=["number"],
        output="pandas",
        # Piece by piece of the raster, not polygon by polygon: one read serves all polygons there.
        strategy="raster-sequential",
        max_cells_in_memory=_MAX_CELLS,
    )
    # A single raster's column has no prefix.
    names = [f"{band}_mean" for band in bands] if len(bands) > 1 else ["mean"]
    mean[some] = table.sort_values("number")[names].to_numpy(dtype=np.float64, na_value=np.nan)
    return mean


def _clipped(polygons: Geometries, dataset: Any) -> Geometries:
    """Return the part (N,) of each polygon that lies on a raster, which may be empty.

    exactextract 0.3 crashes on some polygons that only touch the raster with one part and lie beside it with others.
    """
    frame = shapely.box(0, 0, dataset.width, dataset.height)
    inside = polygons.copy()
    crossing = ~shapely.covers(frame, polygons)
    cut, owner = shapely.get_parts(shapely.intersection(polygons[crossing], frame), return_index=True)
    has_area = shapely.area(cut) > 0  # not a shared edge or corner
    inside[crossing] = shapely.MultiPolygon()
    shapely.multipolygons(cut[has_area], indices=np.flatnonzero(crossing)[owner[has_area]], out=inside)
    return inside


def _around(polygons: Geometries) -> RasterioWindow:
    """Return the whole pixels that hold all polygons.

    exactextract reads all of what it is given, though a run in a corner of a large file needs that corner only.
    """
    left, top, right, bottom = shapely.total_bounds(polygons)
    col, row = math.floor(left), math.floor(top)
    return RasterioWindow(col, row, math.ceil(right) - col, math.ceil(bottom) - row)


class _Pixels(RasterSource):  # type: ignore[misc]  # exactextract has no types
    """A part of a band of a rasterio dataset on the plane of unit pixels, NaN where invalid."""

    def __init__(self, dataset: Any, band: int, nodata: float | None, part: RasterioWindow) -> None:
        super().__init__()
        self.set_name(str(band))
        self.dataset = dataset
        self.band = band
        self.nodata = nodata
        self.part = part

    def res(self) -> tuple[float, float]:
        return 1.0, 1.0

    def extent(self) -> tuple[float, float, float, float]:
        return 0.0, 0.0, float(self.part.width), float(self.part.height)

    def srs_wkt(self) -> None:
        return None

    def nodata_value(self) -> None:
        return None

    def read_window(self, x0: int, y0: int, nx: int, ny: int) -> Any:
        window = RasterioWindow(self.part.col_off + x0, self.part.row_off + y0, nx, ny)
        stored = self.dataset.read(self.band, window=window, masked=True)
        values = stored.astype(np.float64).filled(np.nan)
        if self.nodata is not None:
            values[values == self.nodata] = np.nan
        values[np.abs(values) >= LARGEST_VALUE] = np.nan
        return values


class _Polygons(FeatureSource):  # type: ignore[misc]  # exactextract has no types
    """Polygons (N,) of the plane of unit pixels."""

    def __init__(self, polygons: Geometries) -> None:
        super().__init__()
        self.polygons = polygons

    def count(self) -> int:
        return len(self.polygons)

    def __iter__(self) -> Iterator[_Polygon]:
        return map(_Polygon, self.polygons, range(len(self.polygons)))

    def srs_wkt(self) -> None:
        return None


class _Polygon(Feature):  # type: ignore[misc]  # exactextract has no types
    """One polygon and its number, by which the results are put in order again."""

    def __init__(self, polygon: shapely.MultiPolygon, number: int) -> None:
        super().__init__()
        self.polygon = polygon
        self.number = number

    def geometry(self) -> bytes:
        return bytes(shapely.to_wkb(self.polygon))

    def fields(self) -> list[str]:
        return ["number"]

    def get(self, name: str) -> int:  # noqa: ARG002  # the interface has it
        return self.number
