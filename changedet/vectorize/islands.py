"""Where a mask is looked at: rectangles far enough apart that no region reaches from one into another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from changedet.grid.window import Window
from changedet.vectorize.polygons import Geometries, as_multipolygons, without_straight_corners


@dataclass(frozen=True, eq=False)
class Island:
    """A rectangle of a mask, and the windows in it that were asked for.

    Attributes:
        bounds: the rectangle that holds them all.
        windows: (N, 4) int64, rows and columns where they start and where they stop (px); they may overlap.
    """

    bounds: Window
    windows: NDArray[np.int64]

    @classmethod
    def whole(cls, height: int, width: int) -> Island:
        """Return all of a raster as one window."""
        return cls(Window(0, 0, height, width), np.array([[0, 0, height, width]]))

    def covered(self, window: Window) -> NDArray[np.bool_]:
        """Return (H, W) where the pixels of a window lie in one that was asked for."""
        first_row, first_col, stop_row, stop_col = self.windows.T
        meets = (first_row < window.stop_row) & (stop_row > window.row)
        meets &= (first_col < window.stop_col) & (stop_col > window.col)
        covered = np.zeros((window.height, window.width), np.bool_)
        for top, left, bottom, right in np.maximum(self.windows[meets] - [window.row, window.col] * 2, 0).tolist():
            covered[top:bottom, left:right] = True
        return covered

    def outline(self) -> shapely.MultiPolygon:
        """Return what was asked for, in pixel coordinates."""
        union = as_multipolygons(np.array([shapely.union_all(_boxes(self.windows))]))
        outline: shapely.MultiPolygon = without_straight_corners(union)[0]
        return outline


def islands_of(windows: NDArray[np.integer[Any]]) -> list[Island]:
    """Return windows as islands whose rectangles neither overlap nor touch, in scan order of their first corners.

    Ground between far-apart windows belongs to none, so nobody reads it.

    Args:
        windows: row, column, height and width (N, 4) of each (px).
    """
    first, size = windows[:, :2].astype(np.int64), windows[:, 2:]
    corners = np.concatenate([first, first + size], axis=1)
    # Touching windows first, then the rectangles around them, which may reach into each other, until none does.
    owner, bounds = np.arange(len(corners)), corners
    while True:
        group = _touching(bounds)
        if len(group) == 0 or group.max() + 1 == len(bounds):
            break
        owner, bounds = group[owner], _bounds_of(bounds, group)
    order = np.lexsort((bounds[:, 1], bounds[:, 0]))
    by_owner = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[by_owner], np.arange(len(bounds) + 1))
    return [
        Island(_window(bounds[index]), corners[by_owner[starts[index] : starts[index + 1]]]) for index in order.tolist()
    ]


def _touching(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number (N,) that rectangles have in common which overlap or touch, through others too."""
    boxes = _boxes(corners)
    one, other = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    links = coo_array((np.ones(len(one), np.bool_), (one, other)), shape=(len(boxes), len(boxes)))
    group: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return group


def _bounds_of(corners: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rectangle (M, 4) around the rectangles (N, 4) of each group."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    first = np.minimum.reduceat(corners[order, :2], starts)
    return np.concatenate([first, np.maximum.reduceat(corners[order, 2:], starts)], axis=1)


def _boxes(corners: NDArray[np.int64]) -> Geometries:
    first_row, first_col, stop_row, stop_col = corners.T
    return np.asarray(shapely.box(first_col, first_row, stop_col, stop_row), dtype=object)


def _window(corners: NDArray[np.int64]) -> Window:
    row, col, stop_row, stop_col = corners.tolist()
    return Window(row, col, stop_row - row, stop_col - col)
