"""A run as a STAC Item, so that a catalogue finds it: where, when, by which model, and what each file is.

SpatioTemporal Asset Catalog 1.1, with the extensions projection 2.0 and raster 1.1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pystac
import rasterio
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import DataType, NoDataStrings, RasterBand, RasterExtension
from shapely.affinity import translate
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from changedet.grid.lattice import transformed, without_jump, wrapped

_COG = str(pystac.MediaType.COG)
_VRT = "application/x-gdal-vrt"
# Points along a side of a grid by which it is brought to longitude and latitude.
_STEPS = 64
# A wider gap between the longitudes of so many is no chance (degrees).
_GAP = 20.0
# Name of a result → (title, media type, roles), as the best practices of STAC name roles.
_ASSETS: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "probability.tif": ("Probability of change", _COG, ("data",)),
    "mask.tif": ("Change mask", _COG, ("data", "classification")),
    "statistic.tif": ("Statistic of change", _COG, ("data",)),
    "uncertainty.tif": ("Spread of the probability", _COG, ("data", "uncertainty")),
    "changes.gpkg": ("Change polygons", str(pystac.MediaType.GEOPACKAGE), ("data",)),
    "changes.parquet": ("Change polygons", str(pystac.MediaType.VND_APACHE_PARQUET), ("data",)),
    "changes.fgb": ("Change polygons", str(pystac.MediaType.FLATGEOBUF), ("data",)),
    "changes.geojson": ("Change polygons", str(pystac.MediaType.GEOJSON), ("data",)),
    "mask.vrt": ("Change mask of all tiles", _VRT, ("data", "classification")),
    "probability.vrt": ("Probability of change of all tiles", _VRT, ("data",)),
    "statistic.vrt": ("Statistic of change of all tiles", _VRT, ("data",)),
    "uncertainty.vrt": ("Spread of the probability of all tiles", _VRT, ("data", "uncertainty")),
    "overview.html": ("Overview of the batch", str(pystac.MediaType.HTML), ("overview",)),
    "failures.csv": ("Tiles that failed", "text/csv", ("metadata",)),
    "report.html": ("Report", str(pystac.MediaType.HTML), ("overview",)),
    "run.json": ("Inputs, parameters and figures", str(pystac.MediaType.JSON), ("metadata",)),
}


def write_item(path: Path, record: Mapping[str, Any], results: Iterable[str]) -> None:
    """Write the STAC Item of a run beside its files, which it names by relative paths.

    Args:
        path: file to make, in the folder that holds the results.
        record: run.json; both dates known.
        results: names of the files in that folder.
    """
    item = item_of(_identity(record), path.parent, record, results)
    item.properties["changedet:areas"] = record["areas"]
    write_object(path, item)


def item_of(name: str, folder: Path, record: Mapping[str, Any], results: Iterable[str]) -> pystac.Item:
    """Return the STAC Item of some results.

    Args:
        name: of the item.
        folder: with the files, mask.tif among them.
        record: `dates`, both known, and `model` of run.json.
        results: names of the files.
    """
    with rasterio.open(folder / "mask.tif") as mask:
        grid = GeoBox.from_rio(mask)
    geometry, bbox = extent_of(grid)
    first, last = span_of(record["dates"])
    item = pystac.Item(
        id=name,
        geometry=geometry,
        bbox=bbox,
        datetime=None,
        start_datetime=first,
        end_datetime=last,
        properties={
            "title": f"Change from {record['dates']['before']} to {record['dates']['after']}",
            "license": licence_of(record["model"]),
            "changedet:model": record["model"]["name"],
        },
    )
    _project(item, grid)
    for result in results:
        _add_asset(item, folder / result)
    return item


def extent_of(grid: GeoBox) -> tuple[dict[str, Any], list[float]]:
    """Return the outline and the bounding box of a grid in longitude and latitude, as GeoJSON wants them.

    Across the antimeridian the outline is cut in two and west is the greater (RFC 7946, sections 3.1.9 and 5.2).
    """
    outline = _outline(grid)
    west, south, east, north = outline.bounds
    if east > 180:
        here, beyond = (outline.intersection(shapely.box(edge, -90, edge + 360, 90)) for edge in (-180, 180))
        outline = here.union(translate(beyond, xoff=-360))
    return dict(mapping(outline)), [west, south, east if east == 180 else wrapped(east), north]


def _outline(grid: GeoBox) -> BaseGeometry:
    """Return the outline in longitude, from -180 on and without a jump, and latitude."""
    sides = shapely.segmentize(shapely.box(0, 0, *grid.shape).exterior, max(grid.shape) / _STEPS)
    lon, lat = _to_lonlat(grid, *shapely.get_coordinates(sides).T)
    if not (np.isfinite(lon) & np.isfinite(lat)).all():
        return _extremes(grid)
    # Around a pole, a ring goes once around the earth; beside it, it comes back by the way that it went.
    if abs(((np.diff(lon) + 180.0) % 360.0 - 180.0).sum()) > 180.0:
        return _cap(lon, lat)
    lon, lat = shapely.get_coordinates(shapely.get_exterior_ring(grid.geographic_extent.geom)).T
    lon = without_jump(lon)
    return shapely.Polygon(np.column_stack([lon + wrapped(float(lon.min())) - lon.min(), np.clip(lat, -90.0, 90.0)]))


def _cap(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> BaseGeometry:
    """Return what a ring around a pole holds, as a polygon from -180° to 180° up to the pole."""
    order, pole = np.argsort(lon), math.copysign(90.0, lat.mean())
    edge = float(np.interp(180.0, lon[order], lat[order], period=360.0))
    rim = np.column_stack([lon, lat])[order]
    return shapely.Polygon([(-180, edge), *rim.tolist(), (180, edge), (180, pole), (-180, pole)])


def _extremes(grid: GeoBox) -> BaseGeometry:
    """Return the box of longitude and latitude around a grid whose sides lie beside the earth, as around its disc."""
    rows, cols = (np.linspace(0, side, _STEPS) for side in grid.shape)
    lon, lat = _to_lonlat(grid, *(axis.ravel() for axis in np.meshgrid(rows, cols)))
    known = np.isfinite(lon) & np.isfinite(lat)
    lon, lat = np.sort(lon[known]), lat[known]
    gaps = np.diff(lon, append=lon[0] + 360.0)
    widest = int(gaps.argmax())
    west, width = (-180.0, 360.0) if gaps[widest] < _GAP else (lon[(widest + 1) % len(lon)], 360.0 - gaps[widest])
    return shapely.box(west, lat.min(), west + width, lat.max())


def _to_lonlat(
    grid: GeoBox, rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = transformed(grid.affine, cols, rows)
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
    return np.asarray(lon), np.asarray(lat)


def _add_asset(item: pystac.Item, path: Path) -> None:
    asset = asset_of(path.name)
    is_raster = path.suffix == ".tif"
    item.add_asset(path.stem if is_raster else path.name, asset)
    if is_raster:
        _describe(asset, path)


def asset_of(name: str) -> pystac.Asset:
    """Return what a file of a result is to a catalogue in the same folder."""
    title, media, roles = _ASSETS[name]
    return pystac.Asset(f"./{name}", title=title, media_type=media, roles=list(roles))


def licence_of(model: Mapping[str, Any]) -> str:
    """Return the licence of what a model made, as STAC has it."""
    return model.get("licence") or "other"


def write_object(path: Path, thing: pystac.Item | pystac.Collection) -> None:
    """Write an item or a collection with its links as they are."""
    told = thing.to_dict(include_self_link=False, transform_hrefs=False)
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def span_of(dates: Mapping[str, str]) -> tuple[datetime, datetime]:
    """Return the first and the last moment of two ISO dates, in whatever order they are."""
    moments = [_moment(dates[role]) for role in ("before", "after")]
    return min(moments), max(moments)


def _identity(record: Mapping[str, Any]) -> str:
    """Return the same name for the same scenes; what no identifier should hold becomes a hyphen."""
    parts = [part for role in ("before", "after") for part in (_stem(record["inputs"][role]), record["dates"][role])]
    return re.sub(r"[^\w.-]+", "-", "_".join(["change", *parts]))


def _stem(fingerprint: Mapping[str, Any]) -> str:
    return Path(str(fingerprint["path"])).stem


def _moment(iso: str) -> datetime:
    moment = datetime.fromisoformat(iso)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _project(item: pystac.Item, grid: GeoBox) -> None:
    height, width = grid.shape
    crs = grid.crs
    projection = ProjectionExtension.ext(item, add_if_missing=True)
    projection.apply(
        code=f"EPSG:{crs.epsg}" if crs and crs.epsg else None,
        wkt2=None if crs is None or crs.epsg else crs.to_wkt(),
        bbox=list(grid.boundingbox.bbox),
        shape=[height, width],
        transform=[float(number) for number in tuple(grid.affine)[:6]],
    )


def _describe(asset: pystac.Asset, path: Path) -> None:
    with rasterio.open(path) as dataset:
        bands = [
            RasterBand.create(
                # JSON has no NaN: the extension spells it out.
                nodata=NoDataStrings.NAN if math.isnan(dataset.nodatavals[index]) else dataset.nodatavals[index],
                data_type=DataType(dataset.dtypes[index]),
                scale=dataset.scales[index],
                offset=dataset.offsets[index],
            )
            for index in range(dataset.count)
        ]
    RasterExtension.ext(asset, add_if_missing=True).apply(bands)
