"""GeoPackages for the tests of what reads them."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import geopandas as gpd

from changedet.vectorize import Labels, vectorize
from changedet.write.geopackage import write_geopackage
from changedet.write.layers import Spool


def write_tables(path: Path, tables: Mapping[str, gpd.GeoDataFrame]) -> Path:
    """Write tables as the layers `changes`, `footprint` and `unknown`, or some of them, over an earlier file."""
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        with Spool(Path(folder)) as spool:
            for name, table in tables.items():
                # A file does not give the type of a column back that is null throughout: it is text.
                nulls = dict.fromkeys(table.columns[(table.dtypes == "object") & table.isna().all()], "string")
                spool.write(name, table.astype(nulls))
        write_geopackage(path, spool.layers())
    return path


def write_changes(path: Path, mask: Path, labels: Labels) -> Path:
    """Write the polygons of a mask."""
    with tempfile.TemporaryDirectory() as folder:
        with Spool(Path(folder)) as spool:
            vectorize(mask, sink=spool, labels=labels)
        write_geopackage(path, spool.layers())
    return path
