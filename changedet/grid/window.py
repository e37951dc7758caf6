"""Integer pixel windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from changedet.errors import ConfigError


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of whole pixels: rows `row` to `row + height`, columns `col` to `col + width`.

    It may reach outside the raster it belongs to (a chip is padded there), but it is never empty.

    Raises:
        ConfigError: a field is not an integer, or the window would be empty.
    """

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if not all(type(value) is int for value in (self.row, self.col, self.height, self.width)):
            raise ConfigError(f"a window of {self.row, self.col, self.height, self.width}", expected="four integers")
        if self.height < 1 or self.width < 1:
            raise ConfigError(f"a window {self.height} px high and {self.width} px wide", expected="at least 1 x 1")

    @property
    def stop_row(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def stop_col(self) -> int:
        """First column right of the window."""
        return self.col + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns as slices into an array whose first pixel is (0, 0)."""
        return slice(self.row, self.stop_row), slice(self.col, self.stop_col)

    def intersect(self, other: Window) -> Window | None:
        """Return the pixels in both windows, or None where they share none."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = min(self.stop_row, other.stop_row) - row
        width = min(self.stop_col, other.stop_col) - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None

    def grown(self, margin: int) -> Window:
        """Return the window with `margin` px more on every side."""
        return Window(self.row - margin, self.col - margin, self.height + 2 * margin, self.width + 2 * margin)

    def strips(self, pixels: int) -> list[Window]:
        """Return the window in strips of whole rows, of at most `pixels` px each unless one row has more."""
        rows = max(1, pixels // self.width)
        return [
            Window(row, self.col, min(rows, self.stop_row - row), self.width)
            for row in range(self.row, self.stop_row, rows)
        ]

    def relative_to(self, origin: Window) -> Window:
        """Return the same pixels, counted from the first pixel of `origin`."""
        return Window(self.row - origin.row, self.col - origin.col, self.height, self.width)

    def shifted(self, rows: int, cols: int) -> Window:
        """Return the window moved by whole pixels."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)


def snap(value: float, tolerance: float) -> int:
    """Return the integer within `tolerance` (px) of `value`: the only place where a float becomes a pixel.

    Raises:
        ConfigError: no integer is that near.

    >>> snap(3.0000001, tolerance=1e-3)
    3
    """
    if not math.isfinite(value) or abs(value - round(value)) > tolerance:
        raise ConfigError(f"{value} px", expected=f"a whole number of pixels to within {tolerance} px")
    return round(value)


def blocks(height: int, width: int, size: int) -> list[Window]:
    """Return windows of at most `size` x `size` px that partition a raster, row by row."""
    return [
        Window(row, col, min(size, height - row), min(size, width - col))
        for row in range(0, height, size)
        for col in range(0, width, size)
    ]


def sample_windows(height: int, width: int, *, size: int, per_axis: int) -> list[Window]:
    """Return at most `per_axis` squared windows of at most `size` px, spread evenly, never overlapping by half."""
    rows, cols = (_starts(length, size, per_axis) for length in (height, width))
    return [Window(row, col, min(size, height), min(size, width)) for row in rows for col in cols]


def _starts(length: int, size: int, most: int) -> list[int]:
    if length <= size:
        return [0]
    count = min(most, max(2, 2 * length // size - 1))
    return [round(start) for start in (step * (length - size) / (count - 1) for step in range(count))]
