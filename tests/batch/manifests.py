"""Manifests in memory, for the tests of everything that takes one."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from odc.geo.geobox import GeoBox

from changedet.batch.manifest import ID, MOSAIC, SKIP, WINDOW, Manifest, Mosaic
from changedet.grid import Lattice, Window


def manifest_of(
    geobox: GeoBox,
    windows: Sequence[Window],
    mosaics: Sequence[Mosaic] = (),
    *,
    ids: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    skip: Sequence[str | None] | None = None,
    lattice: Lattice | None = None,
    aoi: str | None = None,
) -> Manifest:
    """Return a manifest of tiles with ids r0c0, r0c64 …, all of the first mosaic unless `names` says otherwise."""
    mosaics = mosaics or [Mosaic("all", "/data/before.tif", "/data/after.tif", whole(geobox))]
    table: dict[str, Any] = {
        ID: ids or [f"r{window.row}c{window.col}" for window in windows],
        MOSAIC: names or [mosaics[0].name] * len(windows),
        SKIP: pa.array(skip or [None] * len(windows), pa.string()),
        **{field: pa.array([getattr(window, field) for window in windows], pa.int32()) for field in WINDOW},
    }
    return Manifest(geobox, tuple(mosaics), pa.table(table), lattice, aoi)


def whole(geobox: GeoBox) -> Window:
    """Return all of a grid."""
    return Window(0, 0, *map(int, geobox.shape))
