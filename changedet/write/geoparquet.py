"""GeoParquet 1.1, batch by batch, with a bounding box a row by which readers skip what they do not need.

Source: OGC GeoParquet 1.1.0, https://geoparquet.org/releases/v1.1.0/
"""

from __future__ import annotations

import json
import os
from pathlib import Path

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
    schema = layer.schema.append(pa.field("bbox", _BBOX)).with_metadata({"geo": json.dumps(_metadata(layer.crs))})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer, layer.open() as reader:
        for batch in reader:
            bounds = shapely.bounds(shapely.from_wkb(batch[GEOMETRY].to_numpy(zero_copy_only=False))).reshape(-1, 4)
            box = pa.StructArray.from_arrays([pa.array(column) for column in bounds.T], fields=list(_BBOX))
            writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, box], schema=schema))


def _metadata(crs: pyproj.CRS) -> dict[str, object]:
    column = {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon"],
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
