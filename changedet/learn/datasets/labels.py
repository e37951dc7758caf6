"""The truth of a pair, on its grid and window by window: from a raster of labels, or from polygons of changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from changedet.errors import NotFoundError, PairError, SceneError
from changedet.grid import Window
from changedet.grid.window import blocks
from changedet.read.header import quietly_without_georeference

Bools: TypeAlias = NDArray[np.bool_]
# 0 unchanged, 1..K the kind of change.
Truth: TypeAlias = NDArray[np.uint8]
# What of a truth nobody knows, though the imagery there is seen.
NOT_KNOWN: Final = 255
Decoder: TypeAlias = Callable[[NDArray[Any]], Truth]

_BLOCK_PX = 2048
_PARQUET = ".parquet"
# Layers that say where the truth is known, and columns that say whether a polygon is a change or a refuted one.
AREA_LAYERS = ("area", "aoi", "reviewed")
CHANGED_COLUMNS = ("changed", "label")


class Labels(Protocol):
    """What is true on a pair's grid."""

    def read(self, window: Window) -> tuple[Truth, Bools]:
        """Return truth and known of a window inside the grid.

        Returns:
            uint8 (height, width), 0 unchanged, 1..K the kind of change; bool (height, width), True = known.
        """
        ...

    def totals(self) -> tuple[int, int]:
        """Return how many known pixels are changed and unchanged, those of the set beyond the pair's grid included."""
        ...


def nonzero(values: NDArray[Any]) -> Truth:
    """Decode labels (bands, H, W) in which any colour but black is a change."""
    truth: Truth = (values != 0).any(axis=0).astype(np.uint8)
    return truth


@dataclass(frozen=True, slots=True)
class ClassDecoder:
    """A `Decoder` of labels in one band, in which 0 is unchanged and the k-th of `values` the kind k."""

    values: tuple[int, ...]

    def __call__(self, values: NDArray[Any]) -> Truth:
        """Return the truth (H, W) of stored values (1, H, W).

        Raises:
            SceneError: there are several bands, or a value is none of those that have a meaning.
        """
        expected = ", ".join(map(str, (0, *self.values)))
        if len(values) != 1:
            raise SceneError(f"labels of {len(values)} bands", expected=f"one band of the values {expected}")
        kinds = np.array([0, *self.values])
        order = np.argsort(kinds)
        at = np.searchsorted(kinds, values[0], sorter=order).clip(max=len(kinds) - 1)
        truth: Truth = order[at].astype(np.uint8)
        strange = kinds[truth] != values[0]
        if strange.any():
            raise SceneError(f"labels hold the value {values[0][strange][0]}", expected=expected)
        return truth


@dataclass(frozen=True, slots=True)
class ClassColumn:
    """The column of a file of polygons that says each one's kind of change, by name or by number from 1."""

    column: str
    names: tuple[str, ...]


class RasterLabels:
    """A raster of labels, pixel by pixel on the before grid. A context manager; not thread-safe.

    Args:
        path: any raster; its own georeference, if it has one, is not looked at.
        decode: from stored values (bands, H, W) to truth (H, W).
        before: shape of the before grid, which must be that of the labels.
        origin: window of the before grid that the pair's grid is.

    Raises:
        SceneError: not a raster, of another size, or one in which what is unchanged counts as not known.
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
        if self._dataset.nodata == 0 and (decode is nonzero or isinstance(decode, ClassDecoder)):
            self._dataset.close()
            raise SceneError(
                f"{path} declares 0 as nodata, which in labels means unchanged: none of it would be known",
                expected="no nodata value, or another for what is not known",
                remedy="gdal_edit.py -unsetnodata on a copy",
            )
        kinds = self._dataset.colorinterp
        # The alpha band of a picture is no colour: it says where there is one, as the mask does.
        self._bands = [band for band, kind in enumerate(kinds, start=1) if kind != ColorInterp.alpha]

    def read(self, window: Window) -> tuple[Truth, Bools]:
        """See `Labels`."""
        return self._read(window.shifted(self._origin.row, self._origin.col))

    def totals(self) -> tuple[int, int]:
        """See `Labels`."""
        changed = known = 0
        height, width = self._dataset.shape
        for window in blocks(height, width, _BLOCK_PX):
            there, sure = self._read(window)
            changed, known = changed + int(((there > 0) & sure).sum()), known + int(sure.sum())
        return changed, known - changed

    def _read(self, window: Window) -> tuple[Truth, Bools]:
        at = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            values, known = self._dataset.read(self._bands, window=at), self._dataset.dataset_mask(window=at) > 0
        except RasterioError as error:
            raise SceneError(f"the labels {self._path} are damaged ({error.__cause__ or error})") from error
        # NaN counts as known where it is not declared as nodata.
        known &= ~np.isnan(values).any(axis=0)
        try:
            # What is not known may be stored as anything.
            return self._decode(np.where(known, values, 0)), known
        except SceneError as error:
            raise SceneError(f"{self._path}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dataset.close()


class NoLabels:
    """Of a scene that has none, or whose labels are not to be looked at: everything passes for known and unchanged.

    Args:
        geobox: grid of the pair.
    """

    def __init__(self, geobox: GeoBox) -> None:
        self._geobox = geobox

    def read(self, window: Window) -> tuple[Truth, Bools]:
        """See `Labels`."""
        size = (window.height, window.width)
        return np.zeros(size, np.uint8), np.ones(size, np.bool_)

    def totals(self) -> tuple[int, int]:
        """See `Labels`."""
        height, width = self._geobox.shape
        return 0, int(height) * int(width)


class PolygonLabels:
    """Polygons of changes, burnt onto the pair's grid where they cover a pixel's middle; the last of several counts.

    Args:
        polygons: in the CRS of the grid, with a column `kind`, integer: 1..K for a change, 0 for a reviewed false
            alarm.
        area: where the truth is known, in the CRS of the grid; None for everywhere.
        geobox: grid of the pair.
    """

    def __init__(self, polygons: gpd.GeoDataFrame, area: shapely.Geometry | None, geobox: GeoBox) -> None:
        self._geobox = geobox
        kinds = polygons["kind"].to_numpy(np.uint8)
        shapes = polygons.geometry.to_numpy()
        self._kinds = kinds[kinds > 0]
        self._changed, self._refuted = shapely.STRtree(shapes[kinds > 0]), shapely.STRtree(shapes[kinds == 0])
        self._area = None if area is None else shapely.STRtree([area])

    def read(self, window: Window) -> tuple[Truth, Bools]:
        """See `Labels`. What was reviewed is known, wherever it lies."""
        truth = self._burnt(self._changed, window, self._kinds)
        if self._area is None:
            return truth, np.ones(truth.shape, np.bool_)
        known = self._burnt(self._refuted, window) | self._burnt(self._area, window)
        return truth, (truth > 0) | (known > 0)

    def refuted(self, window: Window) -> Bools:
        """Return where a false alarm was reviewed, bool (height, width)."""
        refuted: Bools = (self._burnt(self._refuted, window) > 0) & (self._burnt(self._changed, window) == 0)
        return refuted

    def totals(self) -> tuple[int, int]:
        """See `Labels`."""
        changed = known = 0
        height, width = self._geobox.shape
        for window in blocks(height, width, _BLOCK_PX):
            there, sure = self.read(window)
            changed, known = changed + int((there > 0).sum()), known + int(sure.sum())
        return changed, known - changed

    def _burnt(self, tree: shapely.STRtree, window: Window, values: Truth | None = None) -> Truth:
        rows, cols = window.slices
        part = self._geobox[rows, cols]
        # In the order of the file, or windows would differ where polygons overlap.
        near = np.sort(tree.query(shapely.box(*part.boundingbox.bbox)))
        if not len(near):
            return np.zeros(part.shape, np.uint8)
        burnt = zip(
            tree.geometries[near], np.ones(len(near), np.uint8) if values is None else values[near], strict=True
        )
        truth: Truth = rasterio.features.rasterize(burnt, part.shape, transform=part.affine, dtype=np.uint8)
        return truth


def read_polygons(
    path: Path, geobox: GeoBox, classes: ClassColumn | None = None
) -> tuple[gpd.GeoDataFrame, shapely.Geometry | None]:
    """Read a layer of changes, and the area within which it is complete, if the file has a layer of it.

    The changes are in the layer `changes`, else in the first that is none of `AREA_LAYERS`. Their column `changed`, or
    `label`, of 0 and 1, tells changes from reviewed false alarms; without it all are changes.

    Returns:
        The polygons that lie on the grid, in its CRS, with a column `kind` (uint8; 0 for a false alarm, 1 for a change
        or, with `classes`, 1..K) and no others; and the area, or None.

    Raises:
        NotFoundError: no such file.
        SceneError: not a vector file, no CRS, no polygons, a column that is not of 0 and 1, or one without a class or
            with an unknown one.
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
    changed = _changed_column(polygons, path)
    kinds = changed.astype(np.uint8) if classes is None else _kind_column(polygons, changed, classes, path)
    table = gpd.GeoDataFrame({"kind": kinds}, geometry=polygons.geometry.to_numpy())
    here = shapely.intersects(table.geometry.to_numpy(), shapely.box(*geobox.boundingbox.bbox))
    if not here.any():
        raise PairError(f"no polygon of {path} lies on the pair", expected="polygons of changes within the two scenes")
    # Drawn by hand, outlines cross themselves, and what is invalid cannot be joined.
    area = _read_layer(path, areas[0], geobox).make_valid().union_all() if areas else None
    # One file may hold the polygons of many scenes.
    return table[here].set_crs(str(geobox.crs)), area


def _layers(path: Path) -> list[str]:
    if path.suffix.lower() == _PARQUET:
        return ["changes"]
    try:
        return [str(name) for name, _ in pyogrio.list_layers(path)]
    except (DataSourceError, DataLayerError) as error:
        raise SceneError(f"{path} is not a vector file ({error})", expected="polygons, e.g. a GeoPackage") from error


def _read_layer(path: Path, layer: str, geobox: GeoBox) -> gpd.GeoDataFrame:
    table = _read_parquet(path) if path.suffix.lower() == _PARQUET else gpd.read_file(path, layer=layer)
    if not isinstance(table, gpd.GeoDataFrame) or table.crs is None:
        raise SceneError(f"layer {layer} of {path} has no coordinate system", expected="one")
    table = table[~table.geometry.isna() & ~table.geometry.is_empty].to_crs(str(geobox.crs))
    kinds = set(table.geom_type)
    if not kinds <= {"Polygon", "MultiPolygon"}:
        raise SceneError(f"layer {layer} of {path} holds {', '.join(sorted(kinds))}", expected="polygons")
    return table


def _read_parquet(path: Path) -> gpd.GeoDataFrame:
    """Read GeoParquet, which the GDAL of the wheels cannot."""
    try:
        return gpd.read_parquet(path)
    # pyarrow's own errors are ValueErrors and OSErrors.
    except (ValueError, OSError) as error:
        raise SceneError(f"{path} is not GeoParquet ({error})", expected="polygons, e.g. a GeoPackage") from error


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


def _kind_column(table: gpd.GeoDataFrame, changed: Bools, classes: ClassColumn, path: Path) -> Truth:
    """Return the kind of each polygon, 0 for those that are not changed."""
    if classes.column not in table.columns:
        raise SceneError(
            f"{path} has no column {classes.column}", expected=f"each polygon's class: {', '.join(classes.names)}"
        )
    known = {name: kind for kind, name in enumerate(classes.names, start=1)}
    known |= {str(kind): kind for kind in known.values() if str(kind) not in known}
    # A column of integers with gaps comes as floats.
    said = [str(value).removesuffix(".0") for value in table[classes.column]]
    strange = [value for value, one in zip(said, changed, strict=True) if one and value not in known]
    if strange:
        raise SceneError(
            f"column {classes.column} of {path} holds {strange[0]!r}",
            expected=f"one of {', '.join(classes.names)}, or its number from 1",
        )
    return np.array([known[value] if one else 0 for value, one in zip(said, changed, strict=True)], np.uint8)
