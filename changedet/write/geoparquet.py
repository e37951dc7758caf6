"""GeoParquet 1.1, batch by batch, with a bounding box a row by which readers skip what they do not need.

Source: OGC GeoParquet 1.1.0, https://geoparquet.org/releases/v1.1.0/
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely

from changedet.write.layers import GEOMETRY, Layer, Spool

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_BBOX = pa.struct([pa.field(name, pa.float64()) for name in _CORNERS])


def write_geoparquet(path: str | os.PathLike[str], layer: Layer) -> None:
    """Write a layer of MultiPolygons as one new file; a row group a batch.

    Raises:
        OSError: it cannot be written.
    """
    with layer.open() as reader:
        write_batches(path, reader, layer.crs, schema=layer.schema, geometry_type="MultiPolygon")


def write_batches(
    path: str | os.PathLike[str], batches: Iterable[Any], crs: pyproj.CRS, *, schema: pa.Schema, geometry_type: str
) -> None:
    """Write Arrow batches with WKB in the column `geometry` as one new file; a row group a batch.

    Args:
        path: file to make.
        batches: the rows.
        crs: of the geometries.
        schema: of every batch.
        geometry_type: of every geometry, such as `Polygon`.

    Raises:
        OSError: it cannot be written.
    """
    metadata = {"geo": json.dumps(_metadata(crs, geometry_type))}
    schema = schema.append(pa.field("bbox", _BBOX)).with_metadata(metadata)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            bounds = shapely.bounds(shapely.from_wkb(batch[GEOMETRY].to_numpy(zero_copy_only=False))).reshape(-1, 4)
            box = pa.StructArray.from_arrays([pa.array(column) for column in bounds.T], fields=list(_BBOX))
            writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, box], schema=schema))


def _metadata(crs: pyproj.CRS, geometry_type: str) -> dict[str, object]:
    column = {
        "encoding": "WKB",
        "geometry_types": [geometry_type],
        "crs": crs.to_json_dict(),
        "covering": {"bbox": {name: ["bbox", name] for name in _CORNERS}},
    }
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}


def read_geoparquet(path: Path, name: str, folder: Path) -> Layer:
    """Return the layer of a file that `write_geoparquet` wrote.

    Args:
        path: the file.
        name: what the layer is to be called.
        folder: for its rows.

    Raises:
        KeyError, ValueError: it is another kind of file.
    """
    with pq.ParquetFile(path) as file, Spool(folder) as spool:
        about = json.loads(file.schema_arrow.metadata[b"geo"])["columns"][GEOMETRY]
        crs = pyproj.CRS.from_json_dict(about["crs"]) if about.get("crs") else pyproj.CRS("OGC:CRS84")
        for batch in file.iter_batches(columns=[column for column in file.schema_arrow.names if column != "bbox"]):
            spool.write_arrow(name, pa.table(batch), crs)
        if file.metadata.num_rows == 0:
            spool.write_arrow(name, pa.table(file.read().drop_columns("bbox")), crs)
    return spool.layers()[name]
