"""A batch as a value: one grid, the mosaics on it, and the tiles, a million of them in some 100 MB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.errors import ConfigError
from changedet.grid import Lattice, Window

ID, MOSAIC, SKIP = "id", "mosaic", "skip"
WINDOW: Final = ("row", "col", "height", "width")
# Why a tile need not be computed, as far as planning can know.
OUTSIDE, IDENTICAL = "outside the area", "identical inputs"

_SCHEMA: Final = pa.schema(
    [(ID, pa.string()), (MOSAIC, pa.string()), *((name, pa.int32()) for name in WINDOW), (SKIP, pa.string())]
)
# An id is the name of a folder, on any system, and part of a URL.
_SAFE_ID: Final = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"
# Rows that are Python objects at one time.
_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Mosaic:
    """One pair of sources whose tiles share one Preparation.

    Attributes:
        name: its own in the batch.
        before: of the earlier date, what `changedet run` would be given; local paths are absolute.
        after: likewise, of the later date.
        window: where it lies on the grid of the batch. Its chips are planned over this window as those of a run of its
            own would be, whatever else is in the batch, and all its tiles lie in it.
        bands: which band is which, as `--bands` says; None where the files do.
        dates: ISO, of both; None where they are not known.
    """

    name: str
    before: str
    after: str
    window: Window
    bands: str | None = None
    dates: tuple[str | None, str | None] = (None, None)


@dataclass(frozen=True, slots=True)
class Tile:
    """A unit of work: a window of one mosaic.

    Attributes:
        id: its own in the batch, and safe as the name of a folder.
        mosaic: name of the mosaic.
        window: on the grid of the batch.
        skip: why it need not be computed, as far as planning knew; None where it must be.
    """

    id: str
    mosaic: str
    window: Window
    skip: str | None = None


@dataclass(frozen=True, eq=False)
class Manifest:
    """All tiles of a batch.

    Attributes:
        geobox: the one grid of the batch; every window counts from its first pixel.
        mosaics: those that tiles belong to, in the order they were given.
        table: one row a tile: `id` and `mosaic` (text), `row`, `col`, `height`, `width` (int32) and `skip` (text, null
            for a tile that must be computed), see `Tile`.
        lattice: whose cores, over the window of each mosaic and counted from its first pixel, the tiles' edges were
            laid along; None where they follow another grid.
        aoi: vector file, absolute, or None; only inside its polygons is anything compared, and the plan knows which
            tiles lie outside.

    Raises:
        ConfigError: the grid has no CRS; there is no tile; two have the same id (capitals do not count: not all systems
            tell them apart); an id is no name of a folder; a tile reaches outside its mosaic or a mosaic outside the
            grid; a mosaic is not there.
    """

    geobox: GeoBox
    mosaics: tuple[Mosaic, ...]
    table: pa.Table
    lattice: Lattice | None = None
    aoi: str | None = None

    def __post_init__(self) -> None:
        table = self.table.select(_SCHEMA.names).cast(_SCHEMA).combine_chunks()
        object.__setattr__(self, "table", table)
        if self.geobox.crs is None:
            raise ConfigError("a batch on a grid without a CRS", expected="scenes that are georeferenced")
        _check_ids(table[ID])
        object.__setattr__(self, "mosaics", _named(self.mosaics, set(pc.unique(table[MOSAIC]).to_pylist())))
        _check_windows(self)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def crs(self) -> pyproj.CRS:
        """That of the grid."""
        return pyproj.CRS.from_user_input(self.geobox.crs)

    @property
    def crs_text(self) -> str:
        """The CRS as `EPSG:…` where that says all of it, else as WKT."""
        code = self.crs.to_epsg(min_confidence=100)
        return f"EPSG:{code}" if code else self.crs.to_wkt()

    @property
    def windows(self) -> NDArray[np.int32]:
        """Row, column, height and width of every tile (tiles, 4)."""
        return np.stack([self.table[name].to_numpy() for name in WINDOW], axis=1)

    def mosaic(self, name: str) -> Mosaic:
        """Return the mosaic of a name."""
        return next(mosaic for mosaic in self.mosaics if mosaic.name == name)

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles in the order of the table, never all at once."""
        return self.tiles_of(self.table)

    @staticmethod
    def tiles_of(table: pa.Table) -> Iterator[Tile]:
        """Yield the tiles of some rows of the table."""
        for batch in table.to_batches(max_chunksize=_ROWS):
            columns = (batch[name].to_pylist() for name in (ID, MOSAIC, *WINDOW, SKIP))
            for name, mosaic, row, col, height, width, skip in zip(*columns, strict=True):
                yield Tile(name, mosaic, Window(row, col, height, width), skip)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of grid, mosaics and tiles in their order: whatever it is stored as, the same batch has the same."""
        grid = (self.crs_text, *map(float, self.geobox.affine[:6]), *map(int, self.geobox.shape))
        digest = hashlib.sha256(repr((grid, self.aoi, sorted(self.mosaics, key=lambda mosaic: mosaic.name))).encode())
        digest.update(self.windows.astype("<i4").tobytes())
        for batch in self.table.select((ID, MOSAIC, SKIP)).to_batches(max_chunksize=_ROWS):
            digest.update(repr(list(batch.to_pydict().values())).encode())
        return digest.hexdigest()


def _check_ids(ids: pa.ChunkedArray) -> None:
    if not len(ids):
        raise ConfigError("a manifest without tiles", expected="at least one")
    safe = pc.fill_null(pc.match_substring_regex(ids, _SAFE_ID), False)
    if not pc.all(safe).as_py():
        raise ConfigError(
            f"the id {ids.filter(pc.invert(safe))[0].as_py()!r} of a tile",
            expected="letters, digits, '_', '-' and '.', neither '.' nor '-' first, at most 100",
        )
    counts = pc.value_counts(pc.utf8_lower(ids.combine_chunks()))
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise ConfigError(f"several tiles have the id {repeated[0]}", expected="an id of its own for every tile")


def _check_windows(manifest: Manifest) -> None:
    height, width = manifest.geobox.shape
    for mosaic in manifest.mosaics:
        if mosaic.window.intersect(Window(0, 0, height, width)) != mosaic.window:
            raise ConfigError(f"the mosaic {mosaic.name} on {mosaic.window}", expected=f"in {height} x {width} px")
    names = pa.array([mosaic.name for mosaic in manifest.mosaics])
    which = pc.index_in(manifest.table[MOSAIC], value_set=names).to_numpy()
    outer = np.array([astuple(mosaic.window) for mosaic in manifest.mosaics])[which]
    # `outer` is in 64 bits: the sum of what stands in a damaged file could wrap around.
    inner = manifest.windows - outer * (1, 1, 0, 0)
    wrong = (inner[:, :2] < 0).any(1) | (inner[:, 2:] < 1).any(1) | (inner[:, :2] + inner[:, 2:] > outer[:, 2:]).any(1)
    if wrong.any():
        at = int(wrong.argmax())
        row, col, height, width = manifest.windows[at].tolist()
        raise ConfigError(
            f"a tile of {height} x {width} px from row {row}, column {col}",
            expected=f"tiles inside their mosaic, here {manifest.mosaics[which[at]].window}",
        )


def _named(mosaics: tuple[Mosaic, ...], names: set[str]) -> tuple[Mosaic, ...]:
    """Return the mosaics that tiles belong to."""
    known = [mosaic.name for mosaic in mosaics]
    if names - set(known) or len(set(known)) < len(known):
        raise ConfigError(
            f"tiles of the mosaics {', '.join(sorted(map(str, names)))}, and the mosaics {', '.join(known)}",
            expected="one mosaic of each name that tiles have",
        )
    return tuple(mosaic for mosaic in mosaics if mosaic.name in names)
