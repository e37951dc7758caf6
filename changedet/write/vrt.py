"""Mosaics of tiles on one grid as GDAL's virtual rasters: a file that names the tiles, and overviews of the whole.

Source: GDAL's VRT format, https://gdal.org/en/stable/drivers/raster/vrt.html
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import rasterio
from rasterio.enums import Resampling

from changedet.grid.window import Window
from changedet.write.raster import BLOCK, RasterLayout, told_as_output_error

# A tile brings its own overviews. One of the whole saves opening every tile to draw a few hundred pixels, and begins
# where most tiles end, so it costs 1/190 of the pixels.
_FIRST_OVERVIEW = 16
_SMALLEST_PX = 512
_TYPES = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32"}


@dataclass(frozen=True, slots=True)
class TileFile:
    """A raster of the mosaic's layout, and where it lies.

    Attributes:
        href: absolute path, or one relative to the folder of the mosaic.
        window: its place in the mosaic (px).
    """

    href: str
    window: Window


def write_vrt(path: str | os.PathLike[str], layout: RasterLayout, tiles: Sequence[TileFile]) -> None:
    """Write a mosaic; where tiles overlap, the last that has data there is seen, and where none has, nodata.

    Args:
        path: file to make.
        layout: of the mosaic; the tiles have all of it but the grid.
        tiles: in any order; none is opened.

    Raises:
        OSError: the file cannot be written.
    """
    with Path(path).open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in _lines(layout, tiles))


def add_overviews(path: str | os.PathLike[str], *, resampling: str) -> Path | None:
    """Write overviews of a mosaic, as `.ovr` beside it, and return that file; None where it is small enough without.

    Args:
        path: of the mosaic, with its tiles in their places.
        resampling: "average" for quantities, "nearest" or "mode" for classes.

    Raises:
        OutputError: the file cannot be written.
    """
    options = {"COMPRESS_OVERVIEW": "DEFLATE", "GDAL_TIFF_OVR_BLOCKSIZE": str(BLOCK), "BIGTIFF_OVERVIEW": "IF_SAFER"}
    with told_as_output_error(path), rasterio.Env(**options), rasterio.open(path, "r+") as dataset:
        factors = _factors(max(dataset.shape))
        if factors:
            dataset.build_overviews(factors, Resampling[resampling])
    return Path(f"{os.fspath(path)}.ovr") if factors else None


def _factors(longest: int) -> list[int]:
    halvings = max(0, math.ceil(math.log2(longest / _SMALLEST_PX)))
    return [2**power for power in range(halvings + 1) if 2**power >= _FIRST_OVERVIEW]


def _lines(layout: RasterLayout, tiles: Sequence[TileFile]) -> Iterator[str]:
    height, width = layout.geobox.shape
    yield f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">'
    if layout.geobox.crs is not None:
        # As it was said, not as WKT 2, which names fewer authorities and so reads back as another text.
        yield f"<SRS>{escape(str(layout.geobox.crs))}</SRS>"
    yield f"<GeoTransform>{', '.join(map(repr, layout.geobox.affine.to_gdal()))}</GeoTransform>"
    yield from _metadata(layout.tags)
    for band in range(1, layout.count + 1):
        yield from _band(layout, band, tiles)
    yield "</VRTDataset>"


def _metadata(tags: Mapping[str, str]) -> Iterator[str]:
    yield "<Metadata>"
    for name, value in tags.items():
        yield f"<MDI key={quoteattr(name)}>{escape(value)}</MDI>"
    yield "</Metadata>"


def _band(layout: RasterLayout, band: int, tiles: Sequence[TileFile]) -> Iterator[str]:
    kind, nodata = _TYPES[layout.dtype], f"{layout.nodata:g}"
    yield f'<VRTRasterBand dataType="{kind}" band="{band}" blockXSize="{BLOCK}" blockYSize="{BLOCK}">'
    if layout.descriptions:
        yield f"<Description>{escape(layout.descriptions[band - 1])}</Description>"
    yield f"<NoDataValue>{nodata}</NoDataValue>"
    if layout.scale != 1:
        yield f"<Offset>0</Offset><Scale>{layout.scale!r}</Scale>"
    if layout.colours and band == 1:
        yield from _palette(layout.colours)
    for tile in tiles:
        yield from _source(tile, band, kind, nodata)
    yield "</VRTRasterBand>"


def _palette(colours: Mapping[int, tuple[int, int, int, int]]) -> Iterator[str]:
    yield "<ColorInterp>Palette</ColorInterp><ColorTable>"
    for value in range(256):
        # What a value that never occurs looks like in the GeoTIFFs, whose palettes have no holes either.
        red, green, blue, alpha = colours.get(value, (0, 0, 0, 255))
        yield f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="{alpha}"/>'
    yield "</ColorTable>"


def _source(tile: TileFile, band: int, kind: str, nodata: str) -> Iterator[str]:
    window, is_relative = tile.window, int(not Path(tile.href).is_absolute())
    size = f'xSize="{window.width}" ySize="{window.height}"'
    yield "<ComplexSource>"
    yield f'<SourceFilename relativeToVRT="{is_relative}">{escape(tile.href)}</SourceFilename>'
    yield f"<SourceBand>{band}</SourceBand>"
    # With these GDAL does not open a tile before its pixels are wanted.
    yield (
        f'<SourceProperties RasterXSize="{window.width}" RasterYSize="{window.height}" DataType="{kind}"'
        f' BlockXSize="{BLOCK}" BlockYSize="{BLOCK}"/>'
    )
    yield f'<SrcRect xOff="0" yOff="0" {size}/>'
    yield f'<DstRect xOff="{window.col}" yOff="{window.row}" {size}/>'
    yield f"<NODATA>{nodata}</NODATA>"
    yield "</ComplexSource>"
