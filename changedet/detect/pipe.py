"""Reading ahead of the network and writing behind it, in threads, in order and with bounded queues.

GDAL, numpy and the networks' libraries let go of Python's lock while they work, so threads are enough. An error in any
of them is raised, as it is, where its chip or the end is waited for; the others have then finished what they were at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle, islice
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from changedet.grid import Window
from changedet.grid.quantise import as_bytes
from changedet.read.pair import BiTemporalPair, Chip
from changedet.write.raster import RasterSink

T = TypeVar("T")
R = TypeVar("R")

# Windows that wait to be written: bytes, where a chip is floats, so a few do not count.
_UNWRITTEN = 4


class WindowSink(Protocol):
    """Takes windows of the result, in any order, each pixel once."""

    def write(self, window: Window, array: NDArray[Any]) -> None:
        """Take the probabilities (K, H, W) of one window, as they are stored."""
        ...


class Halves:
    """A `WindowSink` that hands the first half of the channels to one sink, the second half, as bytes, to another."""

    def __init__(self, first: WindowSink, second: WindowSink) -> None:
        self.first, self.second = first, second

    def write(self, window: Window, array: NDArray[Any]) -> None:
        """Hand on the stored values (2 K, H, W) of one window."""
        first, second = np.split(array, 2)
        self.first.write(window, first)
        self.second.write(window, as_bytes(second))


class Shifted:
    """A sink whose first pixel is not that of the windows it is given, as of one tile of a larger raster.

    Args:
        sink: takes the windows, counted from `origin`.
        origin: the part of the raster that the sink holds.
    """

    def __init__(self, sink: RasterSink | WindowSink, origin: Window) -> None:
        self._sink, self._origin = sink, origin

    def write(self, window: Window, array: NDArray[Any]) -> None:
        """Hand on one window of the raster."""
        self._sink.write(window.relative_to(self._origin), array)


class ReadAhead:
    """Chips of windows in their order, read ahead by one thread a pair; a context manager and an iterator.

    As many chips as there are pairs are ready or being read while another is used.

    Args:
        pairs: the same pair, opened once for each thread, as an open file serves one thread at a time.
        windows: what to read.
    """

    def __init__(self, pairs: Sequence[BiTemporalPair], windows: Iterable[Window]) -> None:
        self._windows = iter(windows)
        self._threads = [ThreadPoolExecutor(1, "changedet-read") for _ in pairs]
        # A pair belongs to its thread.
        self._turns = cycle(zip(self._threads, pairs, strict=True))
        self._ahead: deque[Future[Chip]] = deque()

    def __enter__(self) -> Self:
        self._submit(len(self._threads))
        return self

    def __iter__(self) -> Iterator[Chip]:
        while self._ahead:
            chip = self._ahead.popleft().result()
            self._submit(1)
            yield chip

    def _submit(self, count: int) -> None:
        for window in islice(self._windows, count):
            thread, pair = next(self._turns)
            self._ahead.append(thread.submit(pair.read, window))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)


def answered(ask: Callable[[T], R], chips: Iterable[T], ahead: int) -> Iterator[tuple[T, R]]:
    """Yield chips, in their order, each with its answer, while threads ask about those that follow.

    Args:
        ask: about a chip.
        chips: as they are read.
        ahead: threads, and so how many are asked about at a time; 0 asks about each when its turn comes.
    """
    if ahead == 0:
        yield from ((chip, ask(chip)) for chip in chips)
        return
    waiting: deque[tuple[T, Future[R]]] = deque()
    threads = ThreadPoolExecutor(ahead, "changedet-ask")
    try:
        for chip in chips:
            waiting.append((chip, threads.submit(ask, chip)))
            if len(waiting) > ahead:
                first, answer = waiting.popleft()
                yield first, answer.result()
        while waiting:
            first, answer = waiting.popleft()
            yield first, answer.result()
    finally:
        threads.shutdown(cancel_futures=True)


class WriteBehind:
    """A sink that writes to another in a thread of its own; a context manager, complete when it is left.

    An error of the other sink is raised by a later `write`, or on leaving.
    """

    def __init__(self, sink: WindowSink) -> None:
        self._sink = sink
        self._thread = ThreadPoolExecutor(1, "changedet-write")
        self._unwritten: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def write(self, window: Window, array: NDArray[np.uint8]) -> None:
        """Hand a window over; waits where the disk does not follow."""
        self._wait(_UNWRITTEN - 1)
        self._unwritten.append(self._thread.submit(self._sink.write, window, array))

    def _wait(self, leave: int) -> None:
        while len(self._unwritten) > leave or (self._unwritten and self._unwritten[0].done()):
            self._unwritten.popleft().result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._wait(0)
        finally:
            self._thread.shutdown(cancel_futures=True)
