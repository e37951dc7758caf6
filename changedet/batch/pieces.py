"""The files that a raster is made of: those of a virtual raster or a tile index, each with its place in the whole."""

from __future__ import annotations

import hashlib
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from odc.geo.geobox import GeoBox

from changedet.errors import SceneError
from changedet.grid.lattice import transformed
from changedet.remote import is_named_to_gdal

# Row, column, height and width (px).
Rectangle = tuple[float, float, float, float]

# GDAL's tile indexes, https://gdal.org/en/stable/drivers/raster/gti.html: so they are called, or opened.
_INDEX: Final = "GTI:"
_INDEX_SUFFIXES: Final = (".gti", ".gti.gpkg", ".gti.fgb", ".gti.parquet")
_LOCATION: Final = "location"


@dataclass(frozen=True, slots=True)
class Piece:
    """A file, and where its pixels are seen.

    Attributes:
        path: of the file.
        place: what says the same of two files that are seen in the same way.
        rectangle: in the whole; infinite for what may lie anywhere.
    """

    path: str
    place: str
    rectangle: Rectangle


def pieces_of(path: str, grid: GeoBox) -> list[Piece]:
    """Return the files that a raster is made of: itself, or those that a virtual raster or a tile index names.

    Args:
        path: as GDAL opens it.
        grid: of the raster.

    Raises:
        SceneError: it cannot be read.
    """
    index = path.removeprefix(_INDEX)
    if is_named_to_gdal(index):
        return _whole(path, grid)
    if path != index or path.lower().endswith(_INDEX_SUFFIXES):
        return list(_of_index(index, grid))
    return list(_of_vrt(path)) if path.lower().endswith(".vrt") else _whole(path, grid)


def _whole(path: str, grid: GeoBox) -> list[Piece]:
    height, width = grid.shape
    return [Piece(path, "whole", (0.0, 0.0, float(height), float(width)))]


def _of_index(index: str, grid: GeoBox) -> Iterator[Piece]:
    # Half a second that batches over other sources need not spend.
    import geopandas as gpd
    from pyogrio.errors import DataSourceError

    try:
        table = gpd.read_file(index, columns=[_LOCATION])
        locations, boxes = table[_LOCATION], table.to_crs(grid.crs.proj if grid.crs else None).bounds
    except (DataSourceError, KeyError, ValueError, OSError) as error:
        expected = f"a tile index with a field {_LOCATION}"
        raise SceneError(f"{index} cannot be read ({error})", expected=expected) from error
    for location, (left, bottom, right, top) in zip(locations, boxes.to_numpy(), strict=True):
        x, y = np.array([left, right, right, left]), np.array([bottom, bottom, top, top])
        cols, rows = transformed(~grid.affine, x, y)
        row, col = float(rows.min()), float(cols.min())
        place = (row, col, float(rows.max()) - row, float(cols.max()) - col)
        yield Piece(_resolved(location, Path(index).parent), f"indexed {place}", place)


def _resolved(path: str, folder: Path) -> str:
    """Return where a file lies that an index names: from the index on, unless it is there as it is called."""
    return path if is_named_to_gdal(path) or Path(path).exists() else os.path.normpath(folder / path)


def _of_vrt(path: str) -> Iterator[Piece]:
    try:
        root = ET.parse(path).getroot()  # noqa: S314  # expat bounds the expansion of entities since 2.4.1
        found: dict[tuple[str, Rectangle], None] = {}
        for parent in list(root.iter()):
            for node in list(parent):
                name = node.find("SourceFilename")
                if name is not None:
                    found[_one_of_vrt(name, node.find("DstRect"), Path(path).parent)] = None
                    parent.remove(node)
    except (ET.ParseError, OSError, ValueError) as error:
        raise SceneError(f"{path} cannot be read ({error})", expected="a virtual raster") from error
    # What the virtual raster says beside its files: of pixels without data, for instance.
    header = hashlib.sha256(ET.tostring(root)).hexdigest()
    for file, rectangle in found:
        yield Piece(file, f"{header} {rectangle}", rectangle)


def _one_of_vrt(name: ET.Element, place: ET.Element | None, folder: Path) -> tuple[str, Rectangle]:
    path = name.text or ""
    if name.get("relativeToVRT") == "1":
        path = os.path.normpath(folder / path)
    if place is None:
        return path, (0.0, 0.0, np.inf, np.inf)
    row, col, height, width = (float(place.get(key, "nan")) for key in ("yOff", "xOff", "ySize", "xSize"))
    return path, (row, col, height, width)
