"""Layers to the vector formats that GDAL writes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyogrio
from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError

from changedet.errors import OutputError
from changedet.write.layers import GEOMETRY, Layer

PYOGRIO_ERRORS = (CRSError, DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError)


def write_ogr(
    path: str | os.PathLike[str],
    layer: Layer,
    *,
    driver: str,
    options: Mapping[str, str] | None = None,
    dataset_options: Mapping[str, str] | None = None,
    append: bool = False,
) -> None:
    """Write a layer in one go, as some formats index at the end what they were given.

    Args:
        path: file to make, or to add the layer to.
        layer: the rows.
        driver: GDAL's name of the format.
        options: of GDAL's layer creation.
        dataset_options: of the file's creation; those of the first layer count.
        append: add the rows to the layer of that name.

    Raises:
        pyogrio.errors.DataSourceError and its siblings: see `told_as_output_error`.
    """
    with layer.open() as reader:
        pyogrio.write_arrow(
            reader,
            path,
            layer=layer.name,
            driver=driver,
            geometry_name=GEOMETRY,
            geometry_type="MultiPolygon",
            crs=layer.crs.to_wkt(),
            append=append,
            layer_options=dict(options or {}),
            dataset_options=dict(dataset_options or {}),
        )


@contextmanager
def told_as_output_error(path: str | os.PathLike[str]) -> Iterator[None]:
    """Tell what goes wrong in the block while writing `path` as an OutputError."""
    try:
        yield
    except (*PYOGRIO_ERRORS, sqlite3.Error) as error:
        raise OutputError(
            f"{os.fspath(path)} could not be written ({error})",
            expected=f"a new file in a folder with room for it: {Path(path).parent}",
            remedy="free some space, or another -o",
        ) from error
