"""How a batch is coming on: as the ledger is the coordinator's alone, it leaves a file for whoever asks."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Final

from changedet.batch import ledger
from changedet.batch.ledger import Ledger
from changedet.batch.outcome import LEFT
from changedet.errors import ConfigError, NotFoundError, OutputExistsError
from changedet.write.staging import atomic_path

NAME: Final = "status.json"
# Seconds between two tellings: what is told is for people.
_EVERY: Final = 2.0


@dataclass(frozen=True, slots=True)
class Status:
    """How a batch is coming on.

    Attributes:
        counts: state → tiles, see `changedet.batch.outcome`.
        running: whether a run is at it.
        host: where that run is, and as which process.
        updated: when this was so, ISO 8601, UTC.
        tiles_per_second: of the run at it, or of the last one; None where it finished none yet.
        expected_end: ISO 8601, UTC; None where that cannot be told, or nothing is left.
    """

    counts: dict[str, int]
    running: bool
    host: str | None = None
    updated: str | None = None
    tiles_per_second: float | None = None
    expected_end: str | None = None

    @property
    def total(self) -> int:
        """All tiles."""
        return sum(self.counts.values())


class Telling:
    """Leaves word of a run in its folder, now and then.

    Args:
        out: the output folder.
        counts: state → tiles as the run began.
    """

    def __init__(self, out: Path, counts: dict[str, int]) -> None:
        self._out = out
        self.counts = dict(counts)
        self._began = monotonic()
        self._finished = 0
        self._due = 0.0

    def count(self, state: str) -> None:
        """Count a tile that is no longer left."""
        self.counts[LEFT] -= 1
        self.counts[state] += 1
        self._finished += 1

    def is_due(self) -> bool:
        """Return whether what was told last is too old."""
        return monotonic() >= self._due

    def tell(self) -> None:
        """Write the file."""
        self._due = monotonic() + _EVERY
        with atomic_path(self._out / NAME, overwrite=True) as path:
            path.write_text(json.dumps(asdict(self._status()), indent=2), encoding="utf-8")

    def _status(self) -> Status:
        now, elapsed = datetime.now(UTC), monotonic() - self._began
        rate = self._finished / elapsed if self._finished else None
        left = self.counts[LEFT]
        end = now + timedelta(seconds=left / rate) if rate and left else None
        return Status(
            counts=self.counts,
            running=True,
            host=f"{platform.node()}, process {os.getpid()}",
            updated=now.isoformat(timespec="seconds"),
            tiles_per_second=rate and round(rate, 4),
            expected_end=None if end is None else end.isoformat(timespec="seconds"),
        )


def status_of(out: str | os.PathLike[str]) -> Status:
    """Return how the batch in an output folder is coming on, whether a run is at it or not.

    Raises:
        NotFoundError: there is none.
        ConfigError: what lies there is damaged, or of another version.
    """
    folder = Path(out)
    if not (folder / ledger.NAME).is_file():
        raise NotFoundError(f"no batch in {folder}", expected="the output folder of `changedet batch run`")
    told = _told(folder)
    try:
        with Ledger(folder) as book:
            counts = book.counts()
    except OutputExistsError:  # a run is at it
        return told or Status({}, running=True)
    rate = told.tiles_per_second if told else None
    return Status(counts, running=False, updated=told.updated if told else None, tiles_per_second=rate)


def _told(folder: Path) -> Status | None:
    try:
        return Status(**json.loads((folder / NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{folder / NAME} is damaged ({error})", remedy="delete it") from error
