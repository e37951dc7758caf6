"""Large pairs made of sample_data, and a mask of many polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from rasterio.windows import Window

SAMPLE = Path(__file__).parent.parent / "sample_data"
BLOCK = 512
RGB = ("B04", "B03", "B02")
# All of Sentinel-2; the sample has four bands, which stand in for the others.
ALL = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_SOURCE = {"B04": 1, "B03": 2, "B02": 3, "B08": 4}
Kind = Literal["rgb", "all"]


def make_pair(folder: Path, size: int, kind: Kind) -> tuple[Path, Path]:
    """Write a pair of `size` x `size` px, tiled and deflated: 3 x uint8 (`rgb`) or 13 x uint16 (`all`)."""
    paths = folder / f"{kind}_{size}_before.tif", folder / f"{kind}_{size}_after.tif"
    for path, name in zip(paths, ("before", "after"), strict=True):
        if not path.exists():
            _write_scene(path, SAMPLE / f"{name}.tif", size, kind)
    return paths


def _write_scene(path: Path, sample: Path, size: int, kind: Kind) -> None:
    names = RGB if kind == "rgb" else ALL
    with rasterio.open(sample) as source:
        tile = source.read([_SOURCE.get(name, 4) for name in names])
        profile = source.profile | {"height": size, "width": size, "count": len(names)}
    if kind == "rgb":
        # 8 bits are reflectance 0 to 1; 0 stays what marks invalid pixels.
        tile = np.where(tile == 0, 0, np.clip(np.rint(tile / 10_000 * 255), 1, 255)).astype(np.uint8)
    layout = {"dtype": tile.dtype, "nodata": 0, "blockxsize": BLOCK, "blockysize": BLOCK, "BIGTIFF": "IF_SAFER"}
    strip = np.tile(tile, (1, 1, -(-size // tile.shape[2])))[:, :, :size]
    partial = path.with_suffix(".partial")
    with rasterio.open(partial, "w", **profile | layout) as scene:
        for row in range(0, size, BLOCK):
            rows = np.arange(row, min(row + BLOCK, size)) % tile.shape[1]
            scene.write(strip[:, rows], window=Window(0, row, size, len(rows)))
        scene.descriptions = names
    partial.rename(path)


def repeat_as_vrt(path: Path, times: int) -> Path:
    """Write a VRT in which a raster is repeated `times` times along both axes, and return its path."""
    with rasterio.open(path) as source:
        bands, height, width = source.count, source.height, source.width
        transform, crs, nodata = source.transform, source.crs.to_wkt(), source.nodata
        kind = {"uint8": "Byte", "uint16": "UInt16"}[source.dtypes[0]]
        names = source.descriptions
    parts = [
        _vrt_band(path, band, names[band - 1], kind, nodata, (height, width), times) for band in range(1, bands + 1)
    ]
    header = f'<VRTDataset rasterXSize="{width * times}" rasterYSize="{height * times}"><SRS>{escape(crs)}</SRS>'
    geotransform = f"<GeoTransform>{', '.join(map(repr, transform.to_gdal()))}</GeoTransform>"
    vrt = path.with_suffix(f".x{times}.vrt")
    vrt.write_text(f"{header}{geotransform}{''.join(parts)}</VRTDataset>", encoding="utf-8")
    return vrt


def _vrt_band(path: Path, band: int, name: str, kind: str, nodata: float, size: tuple[int, int], times: int) -> str:
    height, width = size
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{escape(path.name)}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
        f'<DstRect xOff="{col * width}" yOff="{row * height}" xSize="{width}" ySize="{height}"/></SimpleSource>'
        for row in range(times)
        for col in range(times)
    )
    return (
        f'<VRTRasterBand dataType="{kind}" band="{band}"><Description>{name}</Description>'
        f"<NoDataValue>{nodata}</NoDataValue>{sources}</VRTRasterBand>"
    )


def make_specks(folder: Path, polygons: int) -> Path:
    """Write a mask with about so many polygons of four pixels each, none touching another."""
    side = 4 * round(polygons**0.5)
    path = folder / f"specks_{polygons}.tif"
    row = np.zeros((BLOCK, side), np.uint8)
    at = np.arange(BLOCK)[:, None] % 4, np.arange(side)[None] % 4
    row[(at[0] < 2) & (at[1] < 2)] = 1
    with rasterio.open(SAMPLE / "before.tif") as sample:
        grid = {"crs": sample.crs, "transform": sample.transform}
    layout = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": 255, "tiled": True, "compress": "deflate"}
    with rasterio.open(path, "w", height=side, width=side, **grid, **layout) as mask:
        for start in range(0, side, BLOCK):
            rows = min(BLOCK, side - start)
            mask.write(row[None, :rows], window=Window(0, start, side, rows))
    return path
