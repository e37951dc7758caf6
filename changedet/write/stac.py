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

import pystac
import rasterio
from odc.geo.geobox import GeoBox
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import DataType, NoDataStrings, RasterBand, RasterExtension

_COG = str(pystac.MediaType.COG)
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
    with rasterio.open(path.with_name("mask.tif")) as mask:
        grid = GeoBox.from_rio(mask)
    extent = grid.geographic_extent
    dates = [_moment(record["dates"][role]) for role in ("before", "after")]
    item = pystac.Item(
        id=_identity(record),
        geometry=extent.json,
        bbox=list(extent.boundingbox.bbox),
        datetime=None,
        start_datetime=min(dates),
        end_datetime=max(dates),
        properties={
            "title": f"Change from {record['dates']['before']} to {record['dates']['after']}",
            "license": record["model"].get("licence") or "other",
            "changedet:model": record["model"]["name"],
            "changedet:areas": record["areas"],
        },
    )
    _project(item, grid)
    for name in results:
        title, media, roles = _ASSETS[name]
        asset = pystac.Asset(f"./{name}", title=title, media_type=media, roles=list(roles))
        item.add_asset(Path(name).stem if name.endswith(".tif") else name, asset)
        if name.endswith(".tif"):
            _describe(asset, path.with_name(name))
    path.write_text(json.dumps(item.to_dict(include_self_link=False, transform_hrefs=False), indent=2) + "\n")


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
