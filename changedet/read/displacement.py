"""Where the pixels of the after date are found: nowhere else, one shift away, or a field of shifts away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Displacement:
    """What lies at (r, c) before is found at (r + row, c + col) after, as its georeference has it; all in target px.

    A field is given on nodes and interpolated by a spline that is cubic where there are nodes enough: smooth, exact at
    any pixel, and the same whichever window a pixel is read in. Beyond the outer nodes it stays what it is there.

    Attributes:
        node_rows: rows of the nodes (px), increasing; one for a shift that is the same everywhere.
        node_cols: columns of the nodes (px), likewise.
        row: displacement along rows at the nodes, a tuple of `len(node_cols)` for each of `node_rows` (px).
        col: displacement along columns, likewise.
    """

    node_rows: tuple[float, ...] = (0.0,)
    node_cols: tuple[float, ...] = (0.0,)
    row: tuple[tuple[float, ...], ...] = ((0.0,),)
    col: tuple[tuple[float, ...], ...] = ((0.0,),)

    @classmethod
    def constant(cls, row: float, col: float) -> Self:
        """Return one shift for the whole pair."""
        return cls(row=((row,),), col=((col,),))

    @property
    def is_constant(self) -> bool:
        """Whether it is the same everywhere."""
        return len(self.node_rows) == len(self.node_cols) == 1

    @property
    def is_none(self) -> bool:
        """Whether nothing is displaced."""
        return self.is_constant and self.mean == (0.0, 0.0)

    @property
    def mean(self) -> tuple[float, float]:
        """Mean over the nodes (row, col), px: of a constant, its shift."""
        return float(np.mean(self.row)), float(np.mean(self.col))

    @property
    def largest(self) -> float:
        """Length of the longest displacement at a node (px)."""
        return float(np.hypot(self.row, self.col).max())

    def at(self, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
        """Return the displacement (row, col) of points (px), arrays of one shape."""
        if self.is_constant:
            return np.full_like(rows, self.row[0][0]), np.full_like(cols, self.col[0][0])
        inside = (
            np.clip(rows, self.node_rows[0], self.node_rows[-1]),
            np.clip(cols, self.node_cols[0], self.node_cols[-1]),
        )
        by_row, by_col = self._splines
        return by_row.ev(*inside), by_col.ev(*inside)

    @cached_property
    def _splines(self) -> tuple[Any, Any]:
        # Imported here, as it takes a third of a second, and most runs remove one shift or none.
        from scipy.interpolate import RectBivariateSpline

        nodes = np.array(self.node_rows), np.array(self.node_cols)
        degrees = {"kx": min(3, len(nodes[0]) - 1), "ky": min(3, len(nodes[1]) - 1)}
        by_row, by_col = (RectBivariateSpline(*nodes, np.array(values), **degrees) for values in (self.row, self.col))
        return by_row, by_col

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return the displacement that `as_json` wrote."""
        if "node_rows" not in record:
            return cls.constant(record["row"], record["col"])
        row, col = (tuple(map(tuple, record[name])) for name in ("row", "col"))
        return cls(tuple(record["node_rows"]), tuple(record["node_cols"]), row, col)

    def on_pixels_of(self, size: float) -> Self:
        """Return it in pixels that are `size` times as wide and as high, from the same first corner."""
        row, col = (tuple(tuple(value / size for value in values) for values in axis) for axis in (self.row, self.col))
        return type(self)(
            tuple(place / size for place in self.node_rows), tuple(place / size for place in self.node_cols), row, col
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data: one shift, or the nodes and their displacements."""
        if self.is_constant:
            return {"row": self.row[0][0], "col": self.col[0][0]}
        return {
            "node_rows": list(self.node_rows),
            "node_cols": list(self.node_cols),
            "row": [list(values) for values in self.row],
            "col": [list(values) for values in self.col],
        }


NONE = Displacement()
