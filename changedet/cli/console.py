"""What is printed, and where: results on the output stream, progress and warnings on the error stream."""

from __future__ import annotations

from typing import Any

from click import Context
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)


class ProgressBars:
    """A bar on a terminal, a plain line a stage elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._stage = ""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Bars(*columns, console=ERR, disable=quiet or not ERR.is_terminal, transient=True)
        self._task = self._bars.add_task("", total=None)

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` units of `stage` are finished."""
        self._bars.update(self._task, description=stage, completed=done, total=total)
        if stage != self._stage and not self._quiet and not ERR.is_terminal:
            ERR.print(f"{stage} …")
        self._stage = stage


def shown(text: str) -> str:
    """Return a text for the console to print to the letter, but for credentials in it."""
    from changedet.write.provenance import redact

    return escape(redact(text))


def shown_area(square_metres: float) -> str:
    """Return an area for people: in km² from one on, else in m²."""
    return f"{square_metres / 1e6:,.2f} km²" if square_metres >= 1e6 else f"{square_metres:,.0f} m²"


def reporter(ctx: Context) -> Any:
    """Return what takes lines of progress: on the error stream, so that a table can be piped; nothing when quiet."""
    return lambda line: None if ctx.obj["quiet"] else ERR.print(escape(line))
