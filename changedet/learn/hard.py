"""Online hard example mining over chips: places of high loss are drawn more often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch

# How many times as likely the place of highest loss is as the one of lowest.
PRESSURE: Final = 100.0


class Centre(NamedTuple):
    """The centre of a chip.

    Attributes:
        scene: index.
        row: px, may lie outside.
        col: px, may lie outside.
    """

    scene: int
    row: int
    col: int


class HardPlaces:
    """Remembers the loss at the last visit of every cell of a lattice over the scenes, and draws cells by its rank.

    The chance falls exponentially with the rank, from the highest loss to the lowest by `PRESSURE` in all (Loshchilov
    and Hutter, "Online Batch Selection for Faster Training of Neural Networks", arXiv 1511.06343). Cells that were not
    visited yet count as the hardest, so that each has its turn.

    Args:
        shapes: height and width of each scene, px.
        cell: side of a cell, px.

    Attributes:
        losses: float32 (cells,), infinite where not visited yet. All there is to save.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], cell: int) -> None:
        self._shapes = shapes
        self._cell = cell
        self._lattices = [(-(-height // cell), -(-width // cell)) for height, width in shapes]
        counts = [rows * cols for rows, cols in self._lattices]
        self._first = np.cumsum([0, *counts])
        self.losses = torch.full((sum(counts),), torch.inf)
        falling = PRESSURE ** (-np.arange(sum(counts)) / sum(counts))
        self._chances = falling / falling.sum()

    def record(self, visits: Sequence[tuple[Centre, float]]) -> None:
        """Remember the loss at each place; a place outside counts for the nearest cell."""
        for centre, loss in visits:
            self.losses[self._index(centre)] = loss

    def draw(self, rng: np.random.Generator) -> Centre:
        """Return a place in a cell drawn by the rank of its loss."""
        ranked = torch.argsort(self.losses, descending=True, stable=True).numpy()
        index = int(ranked[rng.choice(len(ranked), p=self._chances)])
        scene = int(np.searchsorted(self._first, index, side="right")) - 1
        row, col = divmod(index - int(self._first[scene]), self._lattices[scene][1])
        at = (rng.integers(n * self._cell, min((n + 1) * self._cell, size)) for n, size in self._axes(scene, row, col))
        return Centre(scene, *map(int, at))

    @property
    def visited(self) -> float:
        """The share of the cells that have been visited."""
        return float(self.losses.isfinite().float().mean())

    def _axes(self, scene: int, row: int, col: int) -> tuple[tuple[int, int], tuple[int, int]]:
        height, width = self._shapes[scene]
        return (row, height), (col, width)

    def _index(self, centre: Centre) -> int:
        rows, cols = self._lattices[centre.scene]
        row, col = (min(max(n // self._cell, 0), most - 1) for n, most in ((centre.row, rows), (centre.col, cols)))
        return int(self._first[centre.scene]) + row * cols + col
