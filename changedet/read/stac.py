"""A STAC item as a scene: its assets by common name, with the scale and offset that the raster extension gives.

STAC 1.0 with the extensions eo and raster, and STAC 1.1, where both are fields of `bands`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin
from urllib.request import urlopen

from changedet.errors import ConfigError, NotFoundError, SceneError
from changedet.read import bands as names
from changedet.read.dates import parse_date
from changedet.read.header import read_header
from changedet.read.scene import Band, Scene

_RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-hdf")
_TIMEOUT_S = 30
_RED_EDGE = ("B05", "B06", "B07", "B8A")
_QUALITY = {"scl": "scl", "qa_pixel": "qa_pixel", "qa": "qa_pixel"}


class _Asset(NamedTuple):
    """One band of one asset: the band's name, where it is, and what the item says of its values."""

    name: str
    href: str
    number: int
    told: dict[str, Any]


def open_item(path: str) -> Scene:
    """Open a STAC item, a file or a URL, as a scene; see `item_of`.

    Raises:
        NotFoundError: there is nothing at `path`.
        SceneError: it is no STAC item, or none of its assets is a band with a common name.
    """
    item, base = item_of(path), path.partition("#")[0]
    properties = item.get("properties") or {}
    found: dict[str, _Asset] = {}
    for asset in _assets(item, base):
        found.setdefault(asset.name, asset)
    if not found:
        raise SceneError(
            f"STAC item {path} has no raster asset with a band's common name (assets: {', '.join(item['assets'])})",
            expected="assets with eo:common_name, such as red and nir",
        )
    sensor = str(properties.get("platform") or properties.get("constellation") or "").lower()
    # The item says which band is which, so none that it names is alpha, as GDAL has the fourth of 8 bits.
    named: dict[str, dict[str, int | str]] = defaultdict(dict)
    for asset in found.values():
        named[asset.href][asset.name] = asset.number
    bands = tuple(_band(asset, named[asset.href], properties, sensor) for asset in found.values())
    date = parse_date(str(properties.get("datetime") or properties.get("start_datetime") or ""))
    product = f"STAC item {item.get('id', '')}"
    return Scene(f"stac:{path}", bands, date, _quality(item, base), product, described_by=base)


def item_of(path: str) -> dict[str, Any]:
    """Return the STAC item at `path`, or in the item collection there whose name is followed by `#` and the item's id.

    Raises:
        NotFoundError: there is nothing at `path`, or no item of that id.
        SceneError: it is no STAC item.
    """
    address, _, name = path.partition("#")
    item = load_json(address)
    if name:
        found = [feature for feature in features_of(address) if feature.get("id") == name]
        if not found:
            raise NotFoundError(f"no item {name} in {address}")
        item = found[0]
    if item.get("type") != "Feature" or not isinstance(item.get("assets"), dict):
        raise SceneError(
            f"{path} is no STAC item",
            expected="a GeoJSON feature with assets; of an item collection, FILE#ID",
        )
    return item


def features_of(path: str) -> list[dict[str, Any]]:
    """Return the items of a STAC item collection, a file or a URL.

    Raises:
        NotFoundError: there is nothing at `path`.
        SceneError: it is no item collection.
    """
    features = load_json(path).get("features")
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise SceneError(f"{path} is no STAC item collection", expected="a GeoJSON feature collection of items")
    return features


def load_json(path: str) -> dict[str, Any]:
    """Return the JSON object in a file or behind a URL.

    Raises:
        NotFoundError: there is nothing.
        SceneError: it is no JSON object.
    """
    # A collection is asked for once an item; a file that changed is read again.
    return _load(path, Path(path).stat().st_mtime_ns if Path(path).is_file() else 0)


@lru_cache(maxsize=4)
def _load(path: str, changed: int) -> dict[str, Any]:
    del changed
    try:
        if path.startswith(("http://", "https://")):
            with urlopen(path, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # the scheme is checked above
                content = json.load(answer)
        else:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError) or getattr(error, "code", None) == 404
        if missing:
            raise NotFoundError(f"no STAC item {path}", remedy="check the path or the address") from error
        raise SceneError(f"{path} cannot be read as a STAC item ({error})", expected="an item in JSON") from error
    if not isinstance(content, dict):
        raise SceneError(f"{path} is no STAC item", expected="an object in JSON")
    return content


def _assets(item: dict[str, Any], base: str) -> Iterator[_Asset]:
    """Yield the bands of all raster assets, single-band ones first: pictures of three bands repeat them in 8 bits."""
    rasters = [asset for asset in item["assets"].values() if _is_raster(asset)]
    for asset in sorted(rasters, key=lambda asset: len(_bands_of(asset))):
        bands = _bands_of(asset)
        scaling = asset.get("raster:bands") or [{}] * len(bands)
        for index, (band, told) in enumerate(zip(bands, scaling, strict=False), start=1):
            name = _name(band)
            if name is not None:
                yield _Asset(name, _absolute(str(asset["href"]), base), index, {**asset, **band, **told})


def _name(band: dict[str, Any]) -> str | None:
    """Return the Sentinel-2 name of a band, by its common name, or by its own where it has none."""
    common = str(band.get("common_name") or band.get("eo:common_name") or "")
    own = names.canonical(str(band.get("name") or ""))
    # Four bands of Sentinel-2 share the older common name: their own tell which is which.
    return own if not common or (common == "rededge" and own in _RED_EDGE) else names.canonical(common)


def _bands_of(asset: dict[str, Any]) -> list[dict[str, Any]]:
    bands = asset.get("eo:bands") or asset.get("bands") or []
    if not bands and asset.get("eo:common_name"):
        bands = [asset]
    return [band for band in bands if isinstance(band, dict)] if isinstance(bands, list) else []


def _is_raster(asset: Any) -> bool:
    if not isinstance(asset, dict) or "href" not in asset:
        return False
    kind, roles = str(asset.get("type") or ""), asset.get("roles") or ["data"]
    hidden = {"thumbnail", "overview", "visual"} & set(map(str, roles))
    return not hidden and (not kind or kind.startswith(_RASTER_TYPES))


def _absolute(href: str, base: str) -> str:
    """Return the address of an asset; relative ones count from the item."""
    if "://" in href or href.startswith(("/vsi", "/")):
        return href
    return urljoin(base, href) if "://" in base else str(Path(base).parent / href)


def _band(asset: _Asset, named: names.Mapping, properties: dict[str, Any], sensor: str) -> Band:
    try:
        bands, _ = read_header(asset.href, named)
    except ConfigError as error:
        raise SceneError(
            f"{asset.href} has no band {asset.number}, as its STAC item says", expected="an item that fits"
        ) from error
    header = next(band for band in bands if band.index == asset.number)
    scale, offset, why = _scaling(asset.told, header, properties)
    nodata = _number(asset.told.get("raster:nodata", asset.told.get("nodata")))
    return Band(
        name=asset.name,
        path=asset.href,
        index=asset.number,
        geobox=header.geobox,
        dtype=header.dtype,
        nodata=header.nodata if nodata is None else nodata,
        masked=header.masked,
        scale=scale,
        offset=offset,
        scaled_by=why,
        also=names.stand_ins(asset.name, sensor),
        by_gcps=header.by_gcps,
        alpha_is_data=header.alpha_is_data,
    )


def _scaling(told: dict[str, Any], header: Band, properties: dict[str, Any]) -> tuple[float, float, str]:
    """Return scale, offset and who says so: the item, or the file, or the Sentinel-2 baseline."""
    scale = _number(told.get("raster:scale", told.get("scale")))
    offset = _number(told.get("raster:offset", told.get("offset")))
    if scale is not None or offset is not None:
        # Some catalogues have taken the offset off the pixels, and still tell it.
        applied = properties.get("earthsearch:boa_offset_applied") is True
        kept = 0.0 if applied or offset is None else offset
        return (1.0 if scale is None else scale), kept, "STAC item"
    if (header.scale, header.offset) != (1.0, 0.0):
        return header.scale, header.offset, header.scaled_by
    baseline = re.fullmatch(r"(\d\d)\.(\d\d)", str(properties.get("s2:processing_baseline") or ""))
    if baseline and header.dtype == "uint16":
        shifted = baseline[0] >= "04.00" and properties.get("earthsearch:boa_offset_applied") is not True
        return 1e-4, -0.1 if shifted else 0.0, f"STAC item, processing baseline {baseline[0]}"
    return 1.0, 0.0, header.scaled_by


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        value = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}.get(value.lower())
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _quality(item: dict[str, Any], base: str) -> str | None:
    for key, asset in item["assets"].items():
        if key.lower() in _QUALITY and isinstance(asset, dict) and "href" in asset:
            return f"{_QUALITY[key.lower()]}:{_absolute(str(asset['href']), base)}"
    return None
