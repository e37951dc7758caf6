"""The ledger: what is saved outlives everything, what a result follows from decides what is done again."""

import sqlite3
from pathlib import Path

import pytest

from changedet.batch.ledger import NAME, Causes, Ledger, TileResult
from changedet.batch.outcome import DONE, FAILED, LEFT, SKIPPED
from changedet.batch.status import Telling, status_of
from changedet.errors import ConfigError, NotFoundError, OutputExistsError

CAUSES = [Causes(f"inputs {number}", "parameters", "model") for number in range(4)]
RESULTS = [
    TileResult(DONE, has_files=True, seconds=2.0, changed_px=3, known_px=9),
    TileResult(SKIPPED, message="no valid pixel"),
    TileResult(FAILED, error="SceneError", message="damaged"),
]


def _filled(out: Path) -> None:
    with Ledger(out) as ledger:
        ledger.begin("batch", [f"tile{number}" for number in range(4)])
        ledger.expect(CAUSES)
        for position, result in enumerate(RESULTS):
            ledger.record(position, result)


def test_what_was_told_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    _filled(tmp_path)
    with Ledger(tmp_path) as ledger:
        assert ledger.batch == "batch"
        assert list(ledger.left()) == [3]
        assert ledger.counts() == {DONE: 1, SKIPPED: 1, FAILED: 1, LEFT: 1}
        assert ledger.outcomes().to_pylist() == [
            {"state": DONE, "has_files": True, "error": None, "message": None, "attempts": 1, "seconds": 2.0}
            | {"changed_px": 3, "known_px": 9},
            {"state": SKIPPED, "has_files": False, "error": None, "message": "no valid pixel", "attempts": 1}
            | dict.fromkeys(("seconds", "changed_px", "known_px")),
            {"state": FAILED, "has_files": False, "error": "SceneError", "message": "damaged", "attempts": 1}
            | dict.fromkeys(("seconds", "changed_px", "known_px")),
            {"state": LEFT, "has_files": False, "error": None, "message": None, "attempts": 0}
            | dict.fromkeys(("seconds", "changed_px", "known_px")),
        ]


def test_a_tile_is_left_again_exactly_when_a_cause_is_another(tmp_path: Path) -> None:
    _filled(tmp_path)
    with Ledger(tmp_path) as ledger:
        assert ledger.expect(CAUSES) == {"inputs": 0, "parameters": 0, "model": 0}
        assert list(ledger.left()) == [3]
        others = [Causes("inputs 0", "other", "model"), CAUSES[1], Causes("inputs 2", "parameters", "new"), CAUSES[3]]
        assert ledger.expect(others) == {"inputs": 0, "parameters": 1, "model": 1}
        assert list(ledger.left()) == [0, 2, 3]


def test_failures_are_forgiven_once_they_are_to_be(tmp_path: Path) -> None:
    _filled(tmp_path)
    with Ledger(tmp_path) as ledger:
        assert ledger.forgive() == 1
        assert list(ledger.left()) == [2, 3]


def test_what_was_not_saved_is_to_be_done_again(tmp_path: Path) -> None:
    _filled(tmp_path)
    with Ledger(tmp_path) as ledger:
        ledger.record(3, RESULTS[0])
        with sqlite3.connect(tmp_path / NAME) as other:  # as the next run finds it after a kill
            states = [state for (state,) in other.execute("SELECT state FROM tiles ORDER BY position")]
    assert states == [DONE, SKIPPED, FAILED, LEFT]


def test_only_one_process_has_it_open(tmp_path: Path) -> None:
    with (
        Ledger(tmp_path),
        pytest.raises(OutputExistsError, match=r"a batch is running[\s\S]*status"),
        Ledger(tmp_path),
    ):
        pass
    with Ledger(tmp_path):
        pass


def test_one_that_is_damaged_or_of_another_version_is_refused(tmp_path: Path) -> None:
    _filled(tmp_path)
    with sqlite3.connect(tmp_path / NAME) as ledger:
        ledger.execute("PRAGMA user_version = 99")
        # A write-ahead log would not work on network file systems.
        assert ledger.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    with pytest.raises(ConfigError, match="another version"), Ledger(tmp_path):
        pass
    (tmp_path / NAME).write_bytes(b"this was a ledger once" * 100)
    with pytest.raises(ConfigError, match="is damaged"), Ledger(tmp_path):
        pass


def test_status_is_that_of_the_ledger_or_while_it_is_in_use_what_the_run_left(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no batch in"):
        status_of(tmp_path)
    _filled(tmp_path)
    assert status_of(tmp_path).counts == {DONE: 1, SKIPPED: 1, FAILED: 1, LEFT: 1}
    with Ledger(tmp_path) as ledger:
        telling = Telling(tmp_path, ledger.counts())
        telling.tell()
        assert status_of(tmp_path).expected_end is None
        telling.counts[LEFT] = 3
        telling.count(DONE)
        telling.tell()
        status = status_of(tmp_path)
        assert (status.running, status.counts[LEFT], status.counts[DONE]) == (True, 2, 2)
        assert status.expected_end >= status.updated
