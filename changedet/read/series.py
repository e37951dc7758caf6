"""Several dates on one grid, each read once a window, and compared with the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.grid import Window
from changedet.read.pair import Chip, RasterPair, along


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

    def read(self, window: Window) -> Iterator[Chip]:
        """Read one window: a chip for each two dates that follow each other, as a pair of them would give it.

        Each date is read once, and two at a time are held.

        Raises:
            SceneError: a file is damaged or truncated there.
        """
        inside = self._first.covers(window)
        for before, after in pairwise(self._dates(window)):
            valid = before[1] & after[1] & inside
            first, second = (np.where(valid, image, np.float32(NEUTRAL_REFLECTANCE)) for image, _ in (before, after))
            yield Chip(first, second, valid, window)

    def _dates(self, window: Window) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        image, valid = self._first.readers[0].read(window)
        yield along(self._first.correction.before, image), valid
        for pair in self._pairs:
            image, valid = pair.readers[1].read(window)
            yield along(pair.correction.after, image), valid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
