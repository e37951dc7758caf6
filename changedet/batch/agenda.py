"""What is to be known of each tile before it is mapped: what it follows from, and whether it need be mapped at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from changedet.batch.inputs import TileInputs
from changedet.batch.learned import Record
from changedet.batch.ledger import Causes, TileResult
from changedet.batch.manifest import MOSAIC, OUTSIDE, Manifest, Tile
from changedet.batch.tile import INVALID, skipped
from changedet.config import BatchConfig

# Of tiles whose mosaic cannot be mapped: as long as it cannot, nothing they follow from changes.
_UNKNOWN = Causes("", "", "")


@dataclass(frozen=True, slots=True, eq=False)
class Agenda:
    """What is known of the tiles of a batch, each list in the order of the manifest.

    Attributes:
        manifest: the batch.
        records: of the mosaics; where one cannot be mapped, what becomes of all its tiles.
        which: index of each tile's mosaic (tiles,).
        causes: what its result follows from.
        identical: bool (tiles,), whether its inputs are the same files at both dates.
        covered: bool (tiles,), whether both dates have pixels there.
    """

    manifest: Manifest
    records: list[Record | TileResult]
    which: NDArray[np.int64]
    causes: list[Causes]
    identical: NDArray[np.bool_]
    covered: NDArray[np.bool_]

    @classmethod
    def of(cls, manifest: Manifest, records: list[Record | TileResult], config: BatchConfig) -> Agenda:
        """Look at the inputs of every tile."""
        names = pa.array([mosaic.name for mosaic in manifest.mosaics])
        which = pc.index_in(manifest.table[MOSAIC], value_set=names).to_numpy().astype(np.int64)
        causes = [_UNKNOWN] * len(manifest)
        identical, covered = np.zeros(len(manifest), np.bool_), np.ones(len(manifest), np.bool_)
        order = np.argsort(which, kind="stable")
        edges = np.searchsorted(which[order], np.arange(len(records) + 1))
        for index, record in enumerate(records):
            positions = order[edges[index] : edges[index + 1]]
            if isinstance(record, TileResult):
                continue
            inputs = _inputs(manifest, record, positions)
            identical[positions], covered[positions] = inputs.identical, inputs.covered
            parameters, model = record.parameters(config), record.model
            for position, digest in zip(positions.tolist(), inputs.digests, strict=True):
                causes[position] = Causes(digest, parameters, model)
        return cls(manifest, records, which, causes, identical, covered)

    def tile(self, position: int) -> Tile:
        """Return the tile at a position."""
        return next(Manifest.tiles_of(self.manifest.table.slice(position, 1)))

    def record(self, position: int) -> Record:
        """Return the record of a tile whose mosaic can be mapped."""
        record = self.records[self.which[position]]
        assert isinstance(record, Record)  # noqa: S101  # `known` gave None
        return record

    def known(self, position: int, tile: Tile) -> TileResult | None:
        """Return what becomes of a tile that need not be mapped; None for one that must be."""
        record = self.records[self.which[position]]
        if isinstance(record, TileResult):
            return record
        if tile.skip == OUTSIDE:
            return skipped(OUTSIDE)
        return None if self.covered[position] else skipped(INVALID)


def _inputs(manifest: Manifest, record: Record, positions: NDArray[np.int64]) -> TileInputs:
    window = record.ref.mosaic.window
    windows = manifest.windows[positions] - np.array([window.row, window.col, 0, 0], dtype=np.int32)
    return record.inputs.of_tiles(record.plan, windows)
