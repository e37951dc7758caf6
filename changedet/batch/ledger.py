"""What became of each tile, in a file that outlives every process: SQLite, opened by the coordinator alone.

A rollback journal and a lock on a file of its own work on network file systems too, where SQLite's write-ahead log does
not (https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
from filelock import FileLock, Timeout

from changedet.batch.outcome import FAILED, LEFT, SCHEMA, STATES
from changedet.errors import ConfigError, OutputError, OutputExistsError

NAME: Final = "ledger.sqlite"
_LOCK: Final = "ledger.lock"

# Raised whenever the tables change.
_FORMAT: Final = 1
_TABLES: Final = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE tiles (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'left',
    has_files INTEGER NOT NULL DEFAULT 0,
    inputs TEXT,
    parameters TEXT,
    model TEXT,
    error TEXT,
    message TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    seconds REAL,
    changed_px INTEGER,
    known_px INTEGER
);
CREATE INDEX tiles_by_state ON tiles (state);
CREATE TABLE files (path TEXT PRIMARY KEY, bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL);
"""
_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Causes:
    """What the result of a tile follows from: a tile is done again when any of it is another.

    Attributes:
        inputs: digest of the files that it reads.
        parameters: digest of the options and of all that was learned of its mosaic.
        model: digest of the model, empty where there is none.
    """

    inputs: str
    parameters: str
    model: str


@dataclass(frozen=True, slots=True)
class TileResult:
    """What became of a tile; failures are data. See `Outcomes` for what the attributes are."""

    state: str
    has_files: bool = False
    error: str | None = None
    message: str | None = None
    seconds: float | None = None
    changed_px: int | None = None
    known_px: int | None = None


class Ledger:
    """The ledger in the output folder of a batch, as a context manager; on leaving, what was told is on disk.

    Args:
        out: the output folder, which is made where it does not exist.

    Raises:
        OutputExistsError: on entering, another process has it open.
        OutputError: the disk is full, or nothing can be written there.
        ConfigError: it is damaged, or of another version.
    """

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self.out = Path(out)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            stack.enter_context(_locked(self.out))
            with _told(self.out):
                is_new = not (self.out / NAME).exists()
                self._db = sqlite3.connect(self.out / NAME, isolation_level=None)
                stack.callback(self._db.close)
                self._db.execute("PRAGMA journal_mode = DELETE")
                if is_new or not self._version():
                    self._db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {_FORMAT};COMMIT;")
            if self._version() != _FORMAT:
                raise ConfigError(
                    f"{self.out / NAME} is of another version of changedet", remedy="another -o, or --overwrite"
                )
            self._stack = stack.pop_all()
        self._in_transaction = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if error is None:
                self.save()
            else:
                # What cannot be kept is done again; why everything ends is what has to be told.
                with suppress(OutputError):
                    self.save()

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Write in the transaction that `save` ends: a disk need not be waited for at every tile."""
        with _told(self.out):
            if not self._in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
                self._in_transaction = True
            self._db.executemany(statement, rows)

    def save(self) -> None:
        """Put on disk what was told until now.

        Raises:
            OutputError: the disk is full.
        """
        if self._in_transaction:
            with _told(self.out):
                self._db.execute("COMMIT")
            self._in_transaction = False

    @property
    def batch(self) -> str | None:
        """Digest of the manifest that the ledger is of; None where it is new."""
        found = self._db.execute("SELECT value FROM about WHERE name = 'batch'").fetchone()
        return found and str(found[0])

    @staticmethod
    def lies_in(out: str | os.PathLike[str]) -> bool:
        """Return whether an output folder has a ledger."""
        return (Path(out) / NAME).is_file()

    def clear(self) -> None:
        """Forget everything."""
        for table in ("about", "tiles", "files"):
            self._write(f"DELETE FROM {table} WHERE ?", [(1,)])  # noqa: S608  # our own names
        self.save()

    def begin(self, batch: str, ids: Iterable[str]) -> None:
        """Enter the tiles of a batch, all of them to be done.

        Args:
            batch: digest of its manifest.
            ids: of its tiles, in its order.
        """
        self._write("INSERT INTO tiles (position, id) VALUES (?, ?)", enumerate(ids))
        self._write("INSERT INTO about (name, value) VALUES ('batch', ?)", [(batch,)])
        self.save()

    def expect(self, causes: Iterable[Causes | None]) -> dict[str, int]:
        """Say what each tile's result has to follow from; what does not is to be done again.

        Args:
            causes: in the order of the tiles; None for a tile whose state stays as it is.

        Returns:
            `inputs`, `parameters`, `model` → how many tiles were done, and are to be done again for a change of it.
        """
        changed = dict.fromkeys(("inputs", "parameters", "model"), 0)
        rows = self._rows("SELECT position, state, inputs, parameters, model FROM tiles")
        for (position, state, *known), cause in zip(rows, causes, strict=True):
            now = None if cause is None else (cause.inputs, cause.parameters, cause.model)
            if now is None or (now == tuple(known) and state != LEFT):
                continue
            if state != LEFT:
                changed[next(name for name, old, new in zip(changed, known, now, strict=True) if old != new)] += 1
            self._write(
                "UPDATE tiles SET state = 'left', inputs = ?, parameters = ?, model = ? WHERE position = ?",
                [(*now, position)],
            )
        self.save()
        return changed

    def forgive(self) -> int:
        """Let the tiles that failed be done again, and return how many there are."""
        count = self.counts()[FAILED]
        self._write("UPDATE tiles SET state = ? WHERE state = ?", [(LEFT, FAILED)])
        self.save()
        return count

    def record(self, position: int, result: TileResult) -> None:
        """Enter what became of the tile at a position; `save` puts it on disk."""
        names = [entry.name for entry in fields(result)]
        told = ", ".join(f"{name} = ?" for name in names)
        row = (*(getattr(result, name) for name in names), position)
        self._write(f"UPDATE tiles SET {told}, attempts = attempts + 1 WHERE position = ?", [row])  # noqa: S608  # our own names

    def left(self) -> Iterator[int]:
        """Yield the positions of the tiles that are to be done, in order; others may be recorded meanwhile."""
        for (position,) in self._rows("SELECT position FROM tiles WHERE state = 'left'"):
            yield position

    def outcomes(self) -> pa.Table:
        """Return what became of each tile, as `Outcomes` has it."""
        names = ", ".join(SCHEMA.names)
        parts = []
        for rows in self._pages(f"SELECT position, {names} FROM tiles"):  # noqa: S608  # our own names
            _, *columns = zip(*rows, strict=True)
            arrays = [pa.array(values).cast(entry.type) for values, entry in zip(columns, SCHEMA, strict=True)]
            parts.append(pa.Table.from_arrays(arrays, schema=SCHEMA))
        return pa.concat_tables(parts)

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query, see `_pages`."""
        for page in self._pages(query):
            yield from page

    def _pages(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a query whose first column is the position, in order, a bounded number at a time.

        A cursor that is read while its table is written to may miss rows, or see them twice.
        """
        where, last = "AND" if " WHERE " in query else "WHERE", -1
        while True:
            with _told(self.out):
                rows = self._db.execute(f"{query} {where} position > ? ORDER BY position LIMIT {_ROWS}", (last,))
                found = rows.fetchall()
            if not found:
                return
            last = found[-1][0]
            yield found

    def counts(self) -> dict[str, int]:
        """Return state → how many tiles have it."""
        found = dict(self._db.execute("SELECT state, count(*) FROM tiles GROUP BY state"))
        return {state: found.get(state, 0) for state in STATES}

    def known_files(self) -> dict[str, tuple[int, int, str]]:
        """Return path → bytes, time of change (ns) and digest of the files that were looked into."""
        return {path: (size, mtime, digest) for path, size, mtime, digest in self._db.execute("SELECT * FROM files")}

    def remember_files(self, files: dict[str, tuple[int, int, str]]) -> None:
        """Keep what `known_files` returns, in place of what was known."""
        self._write("DELETE FROM files WHERE ?", [(1,)])
        self._write("INSERT INTO files VALUES (?, ?, ?, ?)", ((path, *known) for path, known in files.items()))
        self.save()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the lock of an output folder; the system gives it back when the process ends, however it ends."""
    lock = FileLock(out / _LOCK)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputExistsError(
            f"a batch is running in {out}",
            expected="one at a time",
            remedy="wait for it (changedet batch status), or another -o",
        ) from error
    except OSError as error:
        raise OutputError(f"nothing can be written in {out} ({error.strerror})", remedy="another -o") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """Tell SQLite's errors as our own."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise OutputError(
                f"{out / NAME} could not be written ({error})",
                expected="room on the disk",
                remedy="free some space and run it again: it goes on where it stopped",
            ) from error
        raise ConfigError(f"{out / NAME} is damaged ({error})", remedy="another -o, or --overwrite") from error
