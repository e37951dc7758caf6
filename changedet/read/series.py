"""Several dates on one grid, each read once a window, and compared with the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.grid import Window
from changedet.read.pair import Chip, RasterPair, along

# Reflectance (bands, H, W) and valid (H, W).
_Image: TypeAlias = tuple[NDArray[np.float32], NDArray[np.bool_]]


class RasterSeries:
    """The dates of a series, opened for reading. A context manager; not thread-safe.

    Args:
        pairs: the first date with each of the others, on one grid, each with what is put right of that other; of the
            first date every pair puts the same right.
    """

    def __init__(self, pairs: Sequence[RasterPair]) -> None:
        self._stack = ExitStack()
        self._first = pairs[0]
        self._pairs = pairs
        for pair in pairs:
            self._stack.enter_context(pair)

    @property
    def geobox(self) -> GeoBox:
        """The grid all dates are on."""
        return self._first.geobox

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self._first.bands

    def read(self, window: Window) -> Iterator[Chip]:
        """Read one window: a chip for each two dates that follow each other, as a pair of them would give it.

        Each date is read once, and two at a time are held.

        Raises:
            SceneError: a file is damaged or truncated there.
        """
        dates = (self._date(number, window) for number in range(len(self._pairs) + 1))
        for before, after in pairwise(dates):
            yield self._chip(before, after, window)

    def interval(self, number: int) -> Interval:
        """Return two dates that follow each other as a pair, 0 for the first two; it reads through this series."""
        return Interval(self, number)

    def read_interval(self, number: int, window: Window) -> Chip:
        """Read one window of two dates that follow each other, 0 for the first two.

        Raises:
            SceneError: a file is damaged or truncated there.
        """
        return self._chip(self._date(number, window), self._date(number + 1, window), window)

    def _date(self, number: int, window: Window) -> _Image:
        """Return a date, put right, and its valid pixels."""
        if number == 0:
            image, valid = self._first.readers[0].read(window)
            return along(self._first.correction.before, image), valid
        pair = self._pairs[number - 1]
        image, valid = pair.readers[1].read(window)
        return along(pair.correction.after, image), valid

    def _chip(self, before: _Image, after: _Image, window: Window) -> Chip:
        valid = before[1] & after[1] & self._first.covers(window)
        first, second = (np.where(valid, image, np.float32(NEUTRAL_REFLECTANCE)) for image, _ in (before, after))
        return Chip(first, second, valid, window)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class Interval:
    """Two dates of a series that follow each other: a `BiTemporalPair`.

    Args:
        series: it is of.
        number: of the interval, 0 for the first.
    """

    def __init__(self, series: RasterSeries, number: int) -> None:
        self._series = series
        self._number = number
        self.geobox, self.bands = series.geobox, series.bands

    def read(self, window: Window) -> Chip:
        """See `BiTemporalPair`."""
        return self._series.read_interval(self._number, window)
