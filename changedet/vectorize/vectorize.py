"""From a change mask to tables of polygons: what changed, what was comparable, what is unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from changedet.errors import ConfigError
from changedet.vectorize.measure import compactness, first_pixels, geodesic_measures, polygon_ids, touches_edge
from changedet.vectorize.polygons import Connectivity, Geometries, as_multipolygons, polygon_batches, to_crs
from changedet.vectorize.source import PathLike, check_probability, mask_grid, nodata_value, opened
from changedet.vectorize.zonal import mean_and_max


@dataclass(frozen=True)
class Vectors:
    """Three tables of MultiPolygons in the CRS of the mask's grid; each may be empty, with the same columns.

    Attributes:
        changes: one row a connected region of one class, in scan order of the first pixels.
        footprint: one row, everything that was comparable, or none where nothing was; `area_m2`.
        unknown: one row a connected region of nodata; `area_m2`.
    """

    changes: gpd.GeoDataFrame
    footprint: gpd.GeoDataFrame
    unknown: gpd.GeoDataFrame


@dataclass(frozen=True)
class _Regions:
    """Connected regions: values (N,) uint8, polygons (N,) in pixels, areas (N,) m² and perimeters (N,) m."""

    values: NDArray[np.uint8]
    pixels: Geometries
    area: NDArray[np.float64]
    perimeter: NDArray[np.float64]

    @classmethod
    def measured(cls, values: NDArray[np.uint8], pixels: Geometries, grid: GeoBox) -> _Regions:
        area, perimeter = geodesic_measures(to_crs(pixels, grid.affine), _proj(grid))
        return cls(values, pixels, area, perimeter)

    @classmethod
    def joined(cls, batches: list[_Regions]) -> _Regions:
        names = ("values", "pixels", "area", "perimeter")
        return cls(*(np.concatenate([getattr(batch, name) for batch in batches]) for name in names))

    def where(self, keep: NDArray[Any]) -> _Regions:
        """Return the regions that a mask or an index along N picks."""
        return _Regions(self.values[keep], self.pixels[keep], self.area[keep], self.perimeter[keep])


@dataclass(frozen=True)
class _Traced:
    """What a mask holds: its regions of change and of nodata, and which classes occur, however small."""

    changed: _Regions
    unknown: _Regions
    classes: frozenset[int]


def vectorize(
    mask_path: PathLike,
    probability_path: PathLike | None = None,
    *,
    min_area: float = 0.0,
    connectivity: Connectivity = 8,
    date_before: str | None = None,
    date_after: str | None = None,
    model: str | None = None,
    threshold: float | None = None,
) -> Vectors:
    """Turn a change mask into polygons with their attributes, streaming from the files.

    Args:
        mask_path: one uint8 band: 0 unchanged, 1..K the class of change, the nodata value unknown.
        probability_path: probabilities on the mask's grid, scaled to 0..1 by the band's own scale; one band, or one
            a class. Without it the columns of probability are null.
        min_area: smaller polygons are left out (m², geodesic, whatever the CRS).
        connectivity: 8 joins pixels that share an edge or a corner, 4 only those that share an edge.
        date_before: date of the first scene, ISO 8601.
        date_after: date of the second scene, ISO 8601.
        model: name of the model, for every row.
        threshold: threshold of the mask, 0..1, for every row.

    Raises:
        ConfigError: `min_area` is negative, or `connectivity` neither 4 nor 8.
        NotFoundError: a file does not exist.
        SceneError: a file is not a raster, is damaged, has no CRS, or holds no mask or probability.
        PairError: mask and probability are not on one grid.
    """
    if connectivity not in (4, 8) or not min_area >= 0:
        got = f"connectivity {connectivity} and min_area {min_area} m²"
        raise ConfigError(got, expected="connectivity 4 or 8, min_area 0 or more")
    with opened(mask_path) as mask:
        grid = mask_grid(mask)
        traced = _trace(mask, grid, connectivity=connectivity, min_area=min_area)
    mean, largest = _probabilities(traced.changed, probability_path, grid)
    changes = _changes(traced, grid, dates=(date_before, date_after))
    changes["probability_mean"], changes["probability_max"] = mean, largest
    changes["model"] = _text(model, len(changes))
    changes["threshold"] = np.nan if threshold is None else float(threshold)
    return Vectors(
        changes=changes[_column_names(with_class=len(traced.classes) > 1)],
        footprint=_areas(_comparable(traced.unknown, grid), grid),
        unknown=_areas(traced.unknown, grid),
    )


def _trace(mask: Any, grid: GeoBox, *, connectivity: Connectivity, min_area: float) -> _Traced:
    nodata = nodata_value(mask)
    none = _Regions.measured(np.empty(0, np.uint8), np.empty(0, object), grid)
    changed, unknown = [none], [none]
    classes: set[int] = set()
    for values, pixels in polygon_batches(mask, connectivity=connectivity, keep_zero=nodata == 0):
        batch = _Regions.measured(values, pixels, grid)
        is_unknown = values == nodata if nodata is not None else np.zeros(len(values), dtype=bool)
        classes.update(values[~is_unknown].tolist())
        unknown.append(batch.where(is_unknown))
        changed.append(batch.where(~is_unknown & (batch.area >= min_area)))
    return _Traced(_in_scan_order(changed), _in_scan_order(unknown), frozenset(classes))


def _in_scan_order(batches: list[_Regions]) -> _Regions:
    regions = _Regions.joined(batches)
    row, col = first_pixels(regions.pixels).T
    return regions.where(np.lexsort((col, row)))


def _probabilities(
    regions: _Regions, path: PathLike | None, grid: GeoBox
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, largest = np.full((2, len(regions.values)), np.nan)
    if path is None:
        return mean, largest
    with opened(path) as probability:
        check_probability(probability, grid, classes=int(regions.values.max(initial=1)))
        for value in np.unique(regions.values):
            own = regions.values == value
            band = int(value) if probability.count > 1 else 1
            mean[own], largest[own] = mean_and_max(regions.pixels[own], probability, band)
    return mean, largest


def _changes(traced: _Traced, grid: GeoBox, *, dates: tuple[str | None, str | None]) -> gpd.GeoDataFrame:
    """Return the table of changes as far as it follows from the mask and the dates."""
    regions = traced.changed
    count = len(regions.values)
    ids = polygon_ids(first_pixels(regions.pixels), crs_name=str(grid.crs), transform=grid.affine, dates=dates)
    columns = {
        "id": pd.array(ids, dtype="string"),
        "area_m2": regions.area,
        "perimeter_m": regions.perimeter,
        "class": regions.values.astype(np.int32),
        # Null until a detector tells which way a change went.
        "direction": _text(None, count),
        "compactness": compactness(regions.area, regions.perimeter),
        "touches_edge": touches_edge(regions.pixels, traced.unknown.pixels, height=grid.height, width=grid.width),
        "date_before": _text(dates[0], count),
        "date_after": _text(dates[1], count),
    }
    return gpd.GeoDataFrame(columns, geometry=to_crs(regions.pixels, grid.affine), crs=_proj(grid))


def _text(value: str | None, count: int) -> Any:
    """Return a column of one text, typed as text even where every row is null or there is none."""
    return pd.array([value] * count, dtype="string")


def _column_names(*, with_class: bool) -> list[str]:
    return [
        *("id", "area_m2", "perimeter_m", "probability_mean", "probability_max"),
        *(("class",) if with_class else ()),
        *("direction", "compactness", "touches_edge", "date_before", "date_after", "model", "threshold", "geometry"),
    ]


def _comparable(unknown: _Regions, grid: GeoBox) -> _Regions:
    """Return the raster's extent without its nodata, as one region or none."""
    # Regions of one value share corners at most, so their parts side by side are a valid MultiPolygon already.
    nodata = shapely.multipolygons(shapely.get_parts(unknown.pixels))
    rest = shapely.difference(np.array([shapely.box(0, 0, grid.width, grid.height)]), nodata)
    pixels = as_multipolygons(rest[~shapely.is_empty(rest)])
    return _Regions.measured(np.zeros(len(pixels), np.uint8), pixels, grid)


def _areas(regions: _Regions, grid: GeoBox) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"area_m2": regions.area}, geometry=to_crs(regions.pixels, grid.affine), crs=_proj(grid))


def _proj(grid: GeoBox) -> pyproj.CRS:
    # source.mask_grid has refused a mask without a CRS.
    return cast("CRS", grid.crs).proj
