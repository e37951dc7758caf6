"""What a training says of itself: one row a step in log.csv, and TensorBoard events where asked for."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from changedet.errors import ConfigError

LOG = "log.csv"


class TrainingLog:
    """Writes a row of figures for each step.

    Args:
        folder: for log.csv, and for TensorBoard's event files.
        columns: names of the figures.
        first: the step that comes next; rows from there on, of an attempt that was cut short, are dropped, and so are
            the figures of a recipe that has changed since.
        tensorboard: write event files too.

    Raises:
        ConfigError: tensorboard is asked for and not installed.
    """

    def __init__(self, folder: Path, columns: tuple[str, ...], *, first: int, tensorboard: bool) -> None:
        self._path = folder / LOG
        self._columns = columns
        kept = [row for row in read_log(folder) if int(row["step"]) < first] if first else []
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("step", *columns), restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        self._events = _event_writer(folder, first) if tensorboard else None

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add the row of a step; a column without a figure stays empty."""
        row = [f"{figures[name]:.6g}" if name in figures else "" for name in self._columns]
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow([step, *row])
        if self._events:
            for name, value in figures.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what TensorBoard holds back."""
        if self._events:
            self._events.close()


def read_log(folder: Path) -> list[dict[str, str]]:
    """Return the rows of log.csv; none where there is no such file."""
    path = folder / LOG
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _event_writer(folder: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "tensorboard: true, but it is not installed", remedy="pip install 'changedet[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder / "events"), purge_step=first)
