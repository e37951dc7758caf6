"""What the header of a raster file says: its bands, where they lie, and what cannot be compared. Reads no pixels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import from_gcps
from rasterio.warp import calculate_default_transform

from changedet.errors import NotFoundError, SceneError
from changedet.grid.lattice import is_geographic, transformed
from changedet.read import bands as names
from changedet.read.dates import date_of_tags
from changedet.read.scene import Band
from changedet.remote import settings_for

# What GDAL's errors say where the fault is not the file's.
_UNREACHED = ("CURL error", "HTTP response code", "AWS_")
# Ground control points that a straight grid meets to within this many px are that grid; others bend.
_STRAIGHT_PX = 0.05


def read_header(
    path: str, mapping: names.Mapping | None = None, local_px: float | None = None
) -> tuple[tuple[Band, ...], str | None]:
    """Return the bands of a raster file and the date its tags hold.

    Args:
        path: file, URL or GDAL path.
        mapping: which band is which, where the file does not say.
        local_px: ground size (m) of the pixels of a file without a CRS, which then lies on a grid of its own from
            (0, 0), such as a picture of a benchmark; None refuses it.

    Raises:
        NotFoundError: a server says that there is nothing.
        SceneError: it is not a raster, or cannot be put on the map.
        ConfigError: `mapping` names a band the file does not have.
    """
    try:
        with settings_for(path), quietly_without_georeference(), rasterio.open(path) as dataset:
            return _describe(dataset, path, mapping, local_px), date_of_tags(dataset.tags())
    except RasterioError as error:
        if any(
            sign in str(error)
            for sign in ("HTTP response code: 404", "does not exist in the file system", "No such file")
        ):
            raise NotFoundError(f"there is nothing at {path} ({error})", remedy="check the address") from error
        if any(sign in str(error) for sign in _UNREACHED):
            raise SceneError(
                f"{path} cannot be fetched ({error})",
                expected="a server that answers, and credentials where it asks for them",
                remedy="check the address; AWS_ACCESS_KEY_ID and the like, or GDAL_HTTP_USERPWD, in the environment",
            ) from error
        raise SceneError(
            f"{path} cannot be opened as a raster ({error})",
            expected="a file that GDAL reads, such as a GeoTIFF",
            remedy="gdalinfo on the file shows what is wrong with it",
        ) from error


@contextmanager
def quietly_without_georeference() -> Iterator[None]:
    """Open files without rasterio's warning that they have no georeference: whether that matters is our decision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _describe(dataset: Any, path: str, mapping: names.Mapping | None, local_px: float | None) -> tuple[Band, ...]:
    _refuse(dataset, path)
    geobox, by_gcps = _place(dataset, path, local_px)
    labels = _labels(dataset, mapping, path)
    if not labels:
        raise SceneError(f"{path} has no band but alpha", expected="at least one band of an image")
    sensor = mapping if isinstance(mapping, str) else None
    alpha_is_data = not labels.keys().isdisjoint(alpha_bands(dataset))
    return tuple(
        Band(
            name=label,
            path=path,
            index=index,
            geobox=geobox,
            dtype=dataset.dtypes[index - 1],
            nodata=dataset.nodatavals[index - 1],
            masked=not alpha_is_data
            and (MaskFlags.per_dataset in dataset.mask_flag_enums[index - 1] or bool(alpha_bands(dataset))),
            scale=dataset.scales[index - 1],
            offset=dataset.offsets[index - 1],
            also=names.stand_ins(label, sensor),
            by_gcps=by_gcps,
            alpha_is_data=alpha_is_data,
        )
        for index, label in labels.items()
    )


def _refuse(dataset: Any, path: str) -> None:
    """Refuse what is no image of the ground that can be compared."""
    if dataset.count == 0:
        parts = ", ".join(dataset.subdatasets[:3])
        raise SceneError(
            f"{path} holds no raster band" + (f", but {len(dataset.subdatasets)} subdatasets" if parts else ""),
            expected="at least one band",
            remedy=f"name one of them: {parts}" if parts else "",
        )
    dimensions = dataset.tags().get("NETCDF_DIM_EXTRA", "").strip("{}").split(",")
    if len(dimensions) > 1:
        raise SceneError(
            f"{path} has {2 + len(dimensions)} dimensions ({', '.join(dimensions)} beside rows and columns)",
            expected="bands, rows and columns",
            remedy="write one time step as a GeoTIFF, e.g. gdal_translate -b 1 -b 2 -b 3",
        )
    if any(dtype.startswith("complex") for dtype in dataset.dtypes):
        raise SceneError(f"{path} holds complex numbers", expected="real numbers", remedy="amplitude, or one component")
    if dataset.colorinterp[0] is ColorInterp.palette:
        raise SceneError(
            f"{path} holds indexes into a palette of colours, whose order means nothing",
            expected="an image of brightness or reflectance",
            remedy="gdal_translate -expand rgb on a copy",
        )


def _place(dataset: Any, path: str, local_px: float | None) -> tuple[GeoBox, bool]:
    """Return the grid, and whether it is only about where ground control points put the file."""
    points, point_crs = dataset.gcps
    if dataset.crs is None and points and point_crs is not None:
        return _place_by_gcps(dataset, points, point_crs)
    if dataset.crs is None and local_px is not None:
        return GeoBox(dataset.shape, Affine.scale(local_px, -local_px), None), False
    if dataset.crs is None:
        raise _no_crs(dataset, path)
    if not (dataset.crs.is_geographic or dataset.crs.is_projected):
        raise SceneError(f"{path} has a local coordinate system that has no place on the earth", expected="a known CRS")
    transform = dataset.transform
    if transform == Affine.identity() or not all(map(math.isfinite, transform)) or transform.determinant == 0:
        raise SceneError(
            f"{path} has a CRS, but no usable transform from pixels to coordinates ({tuple(transform)[:6]})",
            expected="a georeferenced raster",
            remedy="gdal_edit.py -a_ullr on a copy, if you know its corners",
        )
    geobox = GeoBox(dataset.shape, transform, dataset.crs)
    _refuse_place(geobox, path)
    return geobox, False


def _refuse_place(geobox: GeoBox, path: str) -> None:
    """Refuse what lies on another planet, beyond the poles, or where its projection has no place."""
    height, width = geobox.shape
    rows, cols = np.meshgrid([0.0, height / 2, height], [0.0, width / 2, width], indexing="ij")
    x, y = transformed(geobox.affine, cols.ravel(), rows.ravel())
    try:
        lon, lat = _to_lonlat(geobox.crs).transform(x, y)
    except ProjError as error:
        raise SceneError(f"{path} cannot be placed on the earth ({error})", expected="a CRS of the earth") from error
    if not (np.isfinite(lon) & np.isfinite(lat)).any():
        raise SceneError(
            f"{path} lies where its CRS has no place on the earth: x {x.min():g} to {x.max():g}, y {y.min():g} to"
            f" {y.max():g}",
            expected="coordinates in the units and the area of the CRS",
            remedy="gdal_edit.py -a_srs or -a_ullr on a copy, if the one or the other is wrong",
        )
    if geobox.crs is not None and is_geographic(geobox):
        degrees = np.degrees(y * geobox.crs.proj.axis_info[0].unit_conversion_factor)
        # A grid that is told by the middles of its pixels may pass a pole by half of one.
        if np.abs(degrees).max() > 90 + np.ptp(degrees) / height:
            raise SceneError(
                f"{path} reaches from latitude {degrees.min():g} to {degrees.max():g}",
                expected="latitudes from -90 to 90 as y, longitudes as x",
                remedy="gdal_edit.py -a_ullr on a copy, if the axes are swapped",
            )


@lru_cache(maxsize=64)
def _to_lonlat(crs: Any) -> Transformer:
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def _no_crs(dataset: Any, path: str) -> SceneError:
    if dataset.rpcs is not None:
        return SceneError(
            f"{path} is placed by rational polynomials (RPC) only: without heights it lies off by its terrain",
            expected="an orthorectified raster",
            remedy="gdalwarp -rpc -to RPC_DEM=heights.tif on a copy",
        )
    return SceneError(
        f"{path} has no coordinate reference system",
        expected="a georeferenced raster",
        remedy="gdal_edit.py -a_srs EPSG:xxxx on a copy, if you know it",
    )


def _place_by_gcps(dataset: Any, points: list[Any], crs: Any) -> tuple[GeoBox, bool]:
    straight = from_gcps(points)
    x, y, cols, rows = np.array([(point.x, point.y, point.col, point.row) for point in points], dtype=float).T
    fitted_cols, fitted_rows = transformed(~straight, x, y)
    if np.hypot(fitted_cols - cols, fitted_rows - rows).max() <= _STRAIGHT_PX:
        return GeoBox(dataset.shape, straight, crs), False
    transform, width, height = calculate_default_transform(crs, crs, dataset.width, dataset.height, gcps=points)
    return GeoBox((height, width), transform, crs), True


def alpha_bands(dataset: Any) -> list[int]:
    """Return the 1-based numbers of alpha bands. GDAL's own mask knows them only in files of two or four bands."""
    return [index for index, colour in enumerate(dataset.colorinterp, start=1) if colour is ColorInterp.alpha]


def _labels(dataset: Any, mapping: names.Mapping | None, path: str) -> Mapping[int, str]:
    """Return 1-based band number → name, without alpha bands: by mapping, else description, else colour."""
    if mapping:
        numbers = names.resolve_mapping(mapping, dataset.descriptions, path)
        return {number: name for name, number in numbers.items()}
    colours = [interp.name for interp in dataset.colorinterp]
    by_description = [names.canonical(text) if text else None for text in dataset.descriptions]
    by_colour = [names.canonical(colour) for colour in colours]
    chosen = by_description if any(by_description) else by_colour
    if len(set(filter(None, chosen))) < len(list(filter(None, chosen))):
        chosen = [None] * dataset.count  # two bands of one name: the names cannot be trusted
    # GDAL calls the fourth band of 8 bits alpha unless told: a band that says which one it is, is that band.
    return {
        index: name or str(index)
        for index, (name, colour) in enumerate(zip(chosen, colours, strict=True), start=1)
        if name or colour != "alpha"
    }
