"""Threads around the network: order, bounds, and errors as they are."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import sleep
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from changedet.detect.pipe import ReadAhead, WriteBehind, answered
from changedet.errors import OutputError, SceneError
from changedet.grid import Window
from changedet.read.pair import Chip

WINDOWS = [Window(0, col, 1, 1) for col in range(20)]


@dataclass
class SlowPair:
    """Remembers which thread read what, and how many chips were out at most."""

    geobox: Any = None
    bands: tuple[str, ...] = ()
    fails_at: int = -1
    threads: set[int] = field(default_factory=set)
    read_so_far: list[int] = field(default_factory=list)

    def read(self, window: Window) -> Chip:
        self.threads.add(threading.get_ident())
        self.read_so_far.append(window.col)
        sleep(0.002 * (window.col % 3))
        if window.col == self.fails_at:
            raise SceneError("damaged")
        return Chip(np.zeros((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.float32), np.ones((1, 1), bool), window)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    # What tests of batches leave open, as a worker does from one tile to the next, is not ours.
    before = set(threading.enumerate())
    yield
    assert [thread.name for thread in set(threading.enumerate()) - before] == []


@pytest.mark.parametrize("count", [1, 3])
def test_chips_come_in_order_and_each_pair_keeps_to_one_thread(count: int) -> None:
    pairs = [SlowPair() for _ in range(count)]
    with ReadAhead(pairs, WINDOWS) as chips:
        assert [chip.window for chip in chips] == WINDOWS
    assert [len(pair.threads) for pair in pairs] == [1] * count
    assert len(set.union(*(pair.threads for pair in pairs))) == count
    assert threading.get_ident() not in set.union(*(pair.threads for pair in pairs))


def test_no_more_is_read_ahead_than_there_are_pairs() -> None:
    pairs = [SlowPair(), SlowPair()]
    with ReadAhead(pairs, WINDOWS) as chips:
        for used, _ in enumerate(chips, start=1):
            sleep(0.005)
            assert sum(len(pair.read_so_far) for pair in pairs) <= used + 2


def _cols(pairs: list[SlowPair], seen: list[int], *, stop_at: int = -1) -> None:
    with ReadAhead(pairs, WINDOWS) as chips:
        for chip in chips:
            seen.append(chip.window.col)
            if chip.window.col == stop_at:
                raise RuntimeError("elsewhere")


@pytest.mark.parametrize("pairs", [[SlowPair(fails_at=4)], [SlowPair(fails_at=4), SlowPair()]])
def test_an_error_of_a_reader_comes_as_it_is_after_the_chips_before_it(pairs: list[SlowPair]) -> None:
    seen: list[int] = []
    with pytest.raises(SceneError, match=r"^damaged$"):
        _cols(pairs, seen)
    assert seen == [0, 1, 2, 3]


def test_an_error_elsewhere_stops_the_reading() -> None:
    pair = SlowPair()
    with pytest.raises(RuntimeError, match="elsewhere"):
        _cols([pair], [], stop_at=0)
    assert len(pair.read_so_far) <= 2


@dataclass
class SlowSink:
    fails_at: int = -1
    written: list[int] = field(default_factory=list)
    waiting: int = 0

    def write(self, window: Window, array: NDArray[np.uint8]) -> None:
        sleep(0.002)
        if window.col == self.fails_at:
            raise OutputError("full")
        self.written.append(window.col)


def test_all_is_written_in_order_when_the_sink_is_left() -> None:
    sink = SlowSink()
    with WriteBehind(sink) as behind:
        for window in WINDOWS:
            behind.write(window, np.zeros((1, 1, 1), np.uint8))
            assert window.col - len(sink.written) <= 4
    assert sink.written == list(range(20))


def _write(sink: SlowSink, *, stop_at: int = -1) -> None:
    with WriteBehind(sink) as behind:
        for window in WINDOWS:
            behind.write(window, np.zeros((1, 1, 1), np.uint8))
            if window.col == stop_at:
                raise RuntimeError("elsewhere")


@pytest.mark.parametrize("fails_at", [3, 19])
def test_an_error_of_the_sink_comes_as_it_is_at_the_latest_on_leaving(fails_at: int) -> None:
    sink = SlowSink(fails_at)
    with pytest.raises(OutputError, match=r"^full$"):
        _write(sink)
    assert sink.written[:3] == [0, 1, 2]


def test_an_error_elsewhere_is_not_hidden_by_one_of_the_sink() -> None:
    with pytest.raises(RuntimeError, match="elsewhere"):
        _write(SlowSink(fails_at=0), stop_at=0)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_answers_come_in_order_and_so_many_are_asked_for_at_a_time(ahead: int) -> None:
    taken: list[int] = []
    most = 0

    def chips() -> Iterator[int]:
        for chip in range(12):
            taken.append(chip)
            yield chip

    def ask(chip: int) -> int:
        sleep(0.002 * (chip % 3))
        return 10 * chip

    for chip, answer in answered(ask, chips(), ahead):
        assert answer == 10 * chip
        most = max(most, len(taken) - chip)
    assert taken == list(range(12))
    assert most == ahead + 1


def test_threads_ask_beside_each_other() -> None:
    together = threading.Barrier(2, timeout=10)
    assert [answer for _, answer in answered(lambda _: together.wait() in (0, 1), range(4), 2)] == [True] * 4


def test_what_goes_wrong_in_an_answer_is_raised_and_the_others_are_let_go() -> None:
    def ask(chip: int) -> int:
        if chip == 3:
            raise SceneError("damaged")
        return chip

    answers = answered(ask, range(20), 2)
    assert [next(answers)[1] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SceneError, match="damaged"):
        next(answers)
