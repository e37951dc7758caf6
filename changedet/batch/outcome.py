"""What became of the tiles of a batch, as a table beside that of the manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from changedet.batch.manifest import ID, MOSAIC, Manifest, Tile

DONE, SKIPPED, FAILED, LEFT = "done", "skipped", "failed", "left"
STATES: Final = (DONE, SKIPPED, FAILED, LEFT)
TILES: Final = "tiles"

SCHEMA: Final = pa.schema(
    [
        ("state", pa.string()),
        ("has_files", pa.bool_()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("attempts", pa.int32()),
        ("seconds", pa.float64()),
        ("changed_px", pa.int64()),
        ("known_px", pa.int64()),
    ]
)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """A manifest, and what became of each of its tiles.

    Attributes:
        manifest: the batch.
        table: one row a tile, in the order of the manifest's: `state`, one of `STATES`; `has_files`, whether its
            rasters are there; `error` and `message` of the last failure, or why it was skipped; `attempts`; `seconds`
            of the last one; `changed_px` and `known_px`, pixels that changed and that could be compared. Null where
            it does not apply.

    Raises:
        ValueError: another number of rows, other columns or states.
    """

    manifest: Manifest
    table: pa.Table

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", self.table.select(SCHEMA.names).cast(SCHEMA).combine_chunks())
        unknown = set(pc.unique(self.table["state"]).to_pylist()) - set(STATES)
        if len(self.table) != len(self.manifest) or unknown:
            raise ValueError(f"{len(self.table)} outcomes of {len(self.manifest)} tiles, with the states {unknown}")

    @property
    def counts(self) -> dict[str, int]:
        """How many tiles have which state; the states that none has are there too."""
        found = {row["values"]: row["counts"] for row in pc.value_counts(self.table["state"]).to_pylist()}
        return {state: found.get(state, 0) for state in STATES}

    def rows(self, state: str) -> Iterator[dict[str, Any]]:
        """Yield id, mosaic and outcome of the tiles in a state, in the order of the manifest."""
        both = self.manifest.table.select([ID, MOSAIC])
        for name in SCHEMA.names:
            both = both.append_column(name, self.table[name])
        for batch in both.filter(pc.equal(both["state"], state)).to_batches():
            yield from batch.to_pylist()

    def with_files(self, mosaic: str | None = None) -> Iterator[Tile]:
        """Yield the tiles, of all mosaics or of one, whose rasters are there, in the order of the manifest."""
        where = pc.fill_null(self.table["has_files"], False)
        if mosaic is not None:
            where = pc.and_(where, pc.equal(self.manifest.table[MOSAIC], mosaic))
        rows = self.manifest.table.filter(where)
        if len(rows):
            yield from Manifest(self.manifest.geobox, self.manifest.mosaics, rows).tiles()

    def windows(self, mosaic: str) -> NDArray[np.int32]:
        """Return row, column, height and width of all tiles of a mosaic, (N, 4), whatever became of them."""
        where: NDArray[np.bool_] = pc.equal(self.manifest.table[MOSAIC], mosaic).to_numpy()
        return self.manifest.windows[where]


def tile_folder(out: str | os.PathLike[str], tile: str) -> Path:
    """Return where the rasters of a tile lie in the output folder of its batch."""
    return Path(out) / TILES / tile
