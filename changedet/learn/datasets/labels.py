"""The truth of a pair, on its grid and window by window: from a raster of labels, or from polygons of changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from changedet.errors import NotFoundError, PairError, SceneError
from changedet.grid import Window
from changedet.grid.window import blocks
from changedet.read.header import quietly_without_georeference

Bools: TypeAlias = NDArray[np.bool_]
Decoder: TypeAlias = Callable[[NDArray[Any]], Bools]

_BLOCK_PX = 2048
# Layers that say where the truth is known, and columns that say whether a polygon is a change or a refuted one.
AREA_LAYERS = ("area", "aoi", "reviewed")
CHANGED_COLUMNS = ("changed", "label")


class Labels(Protocol):
    """What is true on a pair's grid."""

    def read(self, window: Window) -> tuple[Bools, Bools]:
        """Return changed and known of a window inside the grid, bool (height, width): True = changed, True = known."""
        ...

    def totals(self) -> tuple[int, int]:
        """Return how many known pixels are changed and unchanged, those of the set beyond the pair's grid included."""
        ...


def nonzero(values: NDArray[Any]) -> Bools:
    """Decode labels (bands, H, W) in which any colour but black is a change."""
    changed: Bools = (values != 0).any(axis=0)
    return changed


class RasterLabels:
    """A raster of labels, pixel by pixel on the before grid. A context manager; not thread-safe.

    Args:
        path: any raster; its own georeference, if it has one, is not looked at.
        decode: from stored values (bands, H, W) to changed (H, W).
        before: shape of the before grid, which must be that of the labels.
        origin: window of the before grid that the pair's grid is.

    Raises:
        SceneError: not a raster, or of another size.
    """

    def __init__(self, path: Path, decode: Decoder, *, before: tuple[int, int], origin: Window) -> None:
        self._decode = decode
        self._origin = origin
        self._path = path
        try:
            with quietly_without_georeference():
                self._dataset: Any = rasterio.open(path)
        except RasterioError as error:
            raise SceneError(f"the labels {path} cannot be read ({error})") from error
        if self._dataset.shape != before:
            self._dataset.close()
            raise SceneError(f"{path} has {self._dataset.shape} px", expected=f"the before grid, {before} px")

    def read(self, window: Window) -> tuple[Bools, Bools]:
        """See `Labels`."""
        return self._read(window.shifted(self._origin.row, self._origin.col))

    def totals(self) -> tuple[int, int]:
        """See `Labels`."""
        changed = known = 0
        height, width = self._dataset.shape
        for window in blocks(height, width, _BLOCK_PX):
            there, sure = self._read(window)
            changed, known = changed + int((there & sure).sum()), known + int(sure.sum())
        return changed, known - changed

    def _read(self, window: Window) -> tuple[Bools, Bools]:
        at = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            values, known = self._dataset.read(window=at), self._dataset.dataset_mask(window=at) > 0
        except RasterioError as error:
            raise SceneError(f"the labels {self._path} are damaged ({error.__cause__ or error})") from error
        return self._decode(values) & known, known

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dataset.close()


class PolygonLabels:
    """Polygons of changes, burnt onto the pair's grid where they cover a pixel's middle.

    Args:
        polygons: in the CRS of the grid, with a column `changed`, bool: a change, or a reviewed false alarm.
        area: where the truth is known, in the CRS of the grid; None for everywhere.
        geobox: grid of the pair.
    """

    def __init__(self, polygons: gpd.GeoDataFrame, area: shapely.Geometry | None, geobox: GeoBox) -> None:
        self._geobox = geobox
        changed = polygons["changed"].to_numpy(bool)
        shapes = polygons.geometry.to_numpy()
        self._changed, self._refuted = shapely.STRtree(shapes[changed]), shapely.STRtree(shapes[~changed])
        self._area = None if area is None else shapely.STRtree([area])

    def read(self, window: Window) -> tuple[Bools, Bools]:
        """See `Labels`. What was reviewed is known, wherever it lies."""
        changed = self._burnt(self._changed, window)
        if self._area is None:
            return changed, np.ones_like(changed)
        return changed, changed | self._burnt(self._refuted, window) | self._burnt(self._area, window)

    def refuted(self, window: Window) -> Bools:
        """Return where a false alarm was reviewed, bool (height, width)."""
        return self._burnt(self._refuted, window) & ~self._burnt(self._changed, window)

    def totals(self) -> tuple[int, int]:
        """See `Labels`."""
        changed = known = 0
        height, width = self._geobox.shape
        for window in blocks(height, width, _BLOCK_PX):
            there, sure = self.read(window)
            changed, known = changed + int(there.sum()), known + int(sure.sum())
        return changed, known - changed

    def _burnt(self, tree: shapely.STRtree, window: Window) -> Bools:
        rows, cols = window.slices
        part = self._geobox[rows, cols]
        near = tree.geometries[tree.query(shapely.box(*part.boundingbox.bbox))]
        if not len(near):
            return np.zeros(part.shape, np.bool_)
        burnt: Bools = rasterio.features.rasterize(near, part.shape, transform=part.affine, dtype=np.uint8) > 0
        return burnt


def read_polygons(path: Path, geobox: GeoBox) -> tuple[gpd.GeoDataFrame, shapely.Geometry | None]:
    """Read a layer of changes, and the area within which it is complete, if the file has a layer of it.

    The changes are in the layer `changes`, else in the first that is none of `AREA_LAYERS`. Their column `changed`, or
    `label`, of 0 and 1, tells changes from reviewed false alarms; without it all are changes.

    Returns:
        The polygons, in the CRS of `geobox`, with a column `changed` (bool) and no others; and the area, or None.

    Raises:
        NotFoundError: no such file.
        SceneError: not a vector file, no CRS, no polygons, or a column that is not of 0 and 1.
        PairError: no polygon lies on the grid.
    """
    if not path.exists():
        raise NotFoundError(f"no file of polygons {path}")
    layers = _layers(path)
    areas = [name for name in layers if name.lower() in AREA_LAYERS]
    others = [name for name in layers if name not in areas]
    if not others:
        raise SceneError(f"{path} has no layer of changes", expected="a layer beside those named area, aoi or reviewed")
    polygons = _read_layer(path, "changes" if "changes" in others else others[0], geobox)
    table = gpd.GeoDataFrame({"changed": _changed_column(polygons, path)}, geometry=polygons.geometry.to_numpy())
    if not shapely.intersects(table.geometry.to_numpy(), shapely.box(*geobox.boundingbox.bbox)).any():
        raise PairError(f"no polygon of {path} lies on the pair", expected="polygons of changes within the two scenes")
    area = shapely.union_all(_read_layer(path, areas[0], geobox).geometry.to_numpy()) if areas else None
    return table.set_crs(str(geobox.crs)), area


def _layers(path: Path) -> list[str]:
    try:
        return [str(name) for name, _ in pyogrio.list_layers(path)]
    except (DataSourceError, DataLayerError) as error:
        raise SceneError(f"{path} is not a vector file ({error})", expected="polygons, e.g. a GeoPackage") from error


def _read_layer(path: Path, layer: str, geobox: GeoBox) -> gpd.GeoDataFrame:
    table = gpd.read_file(path, layer=layer)
    if not isinstance(table, gpd.GeoDataFrame) or table.crs is None:
        raise SceneError(f"layer {layer} of {path} has no coordinate system", expected="one")
    table = table[~table.geometry.isna() & ~table.geometry.is_empty].to_crs(str(geobox.crs))
    kinds = set(table.geom_type)
    if not kinds <= {"Polygon", "MultiPolygon"}:
        raise SceneError(f"layer {layer} of {path} holds {', '.join(sorted(kinds))}", expected="polygons")
    return table


def _changed_column(table: gpd.GeoDataFrame, path: Path) -> Bools:
    by_name = {str(name).lower(): name for name in table.columns}
    name = next((by_name[known] for known in CHANGED_COLUMNS if known in by_name), None)
    if name is None:
        return np.ones(len(table), np.bool_)
    values = table[name]
    if not values.isin([0, 1]).all():
        raise SceneError(
            f"column {name} of {path} holds {values[~values.isin([0, 1])].iloc[0]}",
            expected="1 or true for a change, 0 or false for a reviewed false alarm",
        )
    changed: Bools = values.astype(bool).to_numpy()
    return changed
