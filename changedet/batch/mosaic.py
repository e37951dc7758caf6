"""Many scenes of one date as one: GDAL virtual rasters over their files, and a STAC item where those are several.

The mosaic says of its pixels what the scenes said: names, scale, date, and above all which are no data. Where scenes
overlap, the last that has data there is seen.

Source: GDAL's VRT format, https://gdal.org/en/stable/drivers/raster/vrt.html
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from odc.geo.geobox import GeoBox

from changedet.grid import Window
from changedet.grid.lattice import pixel_offset
from changedet.read.header import read_header
from changedet.read.scene import Band, Scene
from changedet.remote import is_named_to_gdal

_TYPES: Final = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}
_SCHEMES: Final = {
    "http://": "/vsicurl/http://",
    "https://": "/vsicurl/https://",
    "s3://": "/vsis3/",
    "gs://": "/vsigs/",
    "az://": "/vsiaz/",
}
# GDAL asks for the size of a source's blocks before it opens it, and finds the right one then.
_BLOCK: Final = 256
_ITEM: Final = "item.json"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files of a mosaic will be, and where they are made.

    Attributes:
        work: folder to write to, which is there.
        final: what its path will be, absolute.
        root: folder below which sources are named relative to the mosaic, as all of it may be moved together.
    """

    work: Path
    final: Path
    root: Path


def write_mosaic(place: Place, name: str, scenes: Sequence[Scene]) -> str:
    """Write scenes of one date and one `signature`, whose bands lie on one lattice each, as one scene.

    Args:
        place: for the files.
        name: of the mosaic.
        scenes: in the order they are to be seen in, the last on top.

    Returns:
        What to call the mosaic for `changedet run`.
    """
    folder = Place(place.work / name, place.final / name, place.root)
    folder.work.mkdir(parents=True)
    columns = list(zip(*(scene.bands for scene in scenes), strict=True))
    one_file = len({band.path for band in scenes[0].bands}) == 1
    files = {name: columns} if one_file else {bands[0].name: [bands] for bands in columns}
    assets = {}
    for file, bands in files.items():
        _write_vrt(folder, f"{file}.vrt", bands, scenes[0].date)
        assets[file] = {"href": f"{file}.vrt", "bands": [{"name": same[0].name} for same in bands]}
    if one_file and scenes[0].quality is None and not any(band.also for band in scenes[0].bands):
        return str(folder.final / f"{name}.vrt")
    assets |= _quality(folder, scenes)
    (folder.work / _ITEM).write_text(json.dumps(_item(name, scenes, assets), indent=1), encoding="utf-8")
    return f"stac:{folder.final / _ITEM}"


def _quality(folder: Place, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Write the mosaic of the scenes' quality bands, where they have them, and return its asset."""
    told = [scene.quality.partition(":") for scene in scenes if scene.quality is not None]
    if not told:
        return {}
    kind = told[0][0]
    _write_vrt(folder, f"{kind}.vrt", [[read_header(path)[0][0] for _, _, path in told]], None)
    return {kind: {"href": f"{kind}.vrt", "roles": ["data-mask"]}}


def signature(scene: Scene) -> tuple[Any, ...]:
    """Return what scenes must have in common to be one mosaic, beside the date and the lattice of each band."""
    # As text, in which one NaN is another.
    told = tuple(
        (band.name, band.dtype, str(band.nodata), band.masked, band.scale, band.offset, band.scaled_by, band.also)
        for band in scene.bands
    )
    quality = scene.quality and scene.quality.partition(":")[0]
    return told, quality, len({band.path for band in scene.bands})


def can_be_mosaicked(scene: Scene) -> bool:
    """Return whether a virtual raster can say all that the scene does: its pixels lie straight, in a common type."""
    return all(band.dtype in _TYPES and not band.by_gcps and band.overview is None for band in scene.bands)


def on_one_lattice(scene: Scene, other: Scene) -> bool:
    """Return whether every band of a scene lies on the lattice of pixels of the other's."""
    pairs = zip(scene.bands, other.bands, strict=True)
    return all(pixel_offset(band.geobox, theirs.geobox) is not None for band, theirs in pairs)


def union(grids: Iterable[GeoBox]) -> GeoBox:
    """Return the smallest grid that holds several of one lattice."""
    return reduce(_both, grids)


def _both(one: GeoBox, other: GeoBox) -> GeoBox:
    window = window_on(one, other)
    row, col = min(window.row, 0), min(window.col, 0)
    stop_row, stop_col = max(window.stop_row, one.shape[0]), max(window.stop_col, one.shape[1])
    moved = one.translate_pix(col, row)
    return GeoBox((stop_row - row, stop_col - col), moved.affine, one.crs)


def window_on(grid: GeoBox, part: GeoBox) -> Window:
    """Return where a grid lies on another of its lattice, continued in all directions."""
    offset = pixel_offset(grid, part)
    assert offset is not None, "the caller sees to it that all are on one lattice"  # noqa: S101
    return Window(*offset, *map(int, part.shape))


def _write_vrt(folder: Place, name: str, columns: Sequence[Sequence[Band]], date: str | None) -> None:
    """Write a virtual raster with a band for each column, over the bands in it, which lie on one lattice."""
    grid = union(band.geobox for band in columns[0])
    with (folder.work / name).open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in _lines(folder, grid, columns, date))


def _lines(folder: Place, grid: GeoBox, columns: Sequence[Sequence[Band]], date: str | None) -> Iterator[str]:
    height, width = grid.shape
    yield f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">'
    yield f"<SRS>{escape(grid.crs.to_wkt() if grid.crs else '')}</SRS>"
    yield f"<GeoTransform>{', '.join(map(repr, grid.affine.to_gdal()))}</GeoTransform>"
    if date is not None:
        yield f"<Metadata><MDI key={quoteattr('ACQUISITION_DATE')}>{escape(date)}</MDI></Metadata>"
    for number, bands in enumerate(columns, start=1):
        yield from _band(folder, grid, number, bands)
    if _has_mask(columns[0][0]):
        yield "<MaskBand>"
        yield '<VRTRasterBand dataType="Byte">'
        for band in columns[0]:
            yield from _source(folder, grid, band, f"mask,{band.index}", "")
        yield "</VRTRasterBand>"
        yield "</MaskBand>"
    yield "</VRTDataset>"


def _band(folder: Place, grid: GeoBox, number: int, bands: Sequence[Band]) -> Iterator[str]:
    first = bands[0]
    declared, empty = _nodata(first)
    yield f'<VRTRasterBand dataType="{_TYPES[first.dtype]}" band="{number}">'
    if not first.name.isdigit():
        yield f"<Description>{escape(first.name)}</Description>"
    if declared is not None:
        yield f"<NoDataValue>{declared!r}</NoDataValue>"
    if (first.scale, first.offset) != (1.0, 0.0):
        yield f"<Offset>{first.offset!r}</Offset><Scale>{first.scale!r}</Scale>"
    masked = "<UseMaskBand>true</UseMaskBand>" if _has_mask(first) else ""
    through = f"<NODATA>{empty!r}</NODATA>" if empty is not None and not masked else masked
    for band in bands:
        yield from _source(folder, grid, band, str(band.index), through)
    yield "</VRTRasterBand>"


def _nodata(band: Band) -> tuple[float | None, float | None]:
    """Return the value to declare as no data, and the one through which the scene below is seen.

    They are chosen so that `changedet.read.interpret` takes the same pixels for valid as in the files: where nothing
    is declared, 0 in all bands means it in unsigned integers, and NaN in floating point.
    """
    if band.nodata is not None:
        return band.nodata, band.nodata
    if band.dtype.startswith("float"):
        return float("nan"), float("nan")
    return None, 0.0 if band.dtype.startswith("uint") else None


def _has_mask(band: Band) -> bool:
    """Return whether a mask has to say where pixels are: that of the files, or where there is a file at all."""
    return band.masked or (band.nodata is None and band.dtype.startswith("int"))


def _source(folder: Place, grid: GeoBox, band: Band, index: str, through: str) -> Iterator[str]:
    window = window_on(grid, band.geobox)
    size = f'xSize="{window.width}" ySize="{window.height}"'
    path, is_relative = _named(folder, band.path)
    yield "<ComplexSource>"
    yield f'<SourceFilename relativeToVRT="{int(is_relative)}">{escape(path)}</SourceFilename>'
    yield f"<SourceBand>{index}</SourceBand>"
    # With these GDAL does not open a file before its pixels are wanted.
    yield (
        f'<SourceProperties RasterXSize="{window.width}" RasterYSize="{window.height}"'
        f' DataType="{_TYPES[band.dtype]}" BlockXSize="{_BLOCK}" BlockYSize="{_BLOCK}"/>'
    )
    yield f'<SrcRect xOff="0" yOff="0" {size}/>'
    yield f'<DstRect xOff="{window.col}" yOff="{window.row}" {size}/>'
    yield f"{through}</ComplexSource>"


def _named(folder: Place, path: str) -> tuple[str, bool]:
    """Return what a file is called in a virtual raster, and whether that is relative to it."""
    scheme = next((scheme for scheme in _SCHEMES if path.startswith(scheme)), None)
    if scheme is not None:
        return _SCHEMES[scheme] + path.removeprefix(scheme), False
    if is_named_to_gdal(path):
        return path, False
    full = Path(path).absolute()
    if full.is_relative_to(folder.root):
        return Path(os.path.relpath(full, folder.final)).as_posix(), True
    return str(full), False


def _item(name: str, scenes: Sequence[Scene], assets: dict[str, Any]) -> dict[str, Any]:
    extents = [scene.geobox.geographic_extent.boundingbox for scene in scenes]
    west, south = min(box.left for box in extents), min(box.bottom for box in extents)
    east, north = max(box.right for box in extents), max(box.top for box in extents)
    date = scenes[0].date
    # The sensors one of whose bands stands in for another.
    sensor = {"platform": "landsat"} if any(band.also for band in scenes[0].bands) else {}
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {"datetime": date and f"{date}T00:00:00Z", **sensor},
        "links": [],
        "assets": assets,
    }
