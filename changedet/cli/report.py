"""`changedet report`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from changedet.cli.console import ERR, OUT, shown
from changedet.cli.group import command


@command()
@click.argument("out", type=click.Path(path_type=Path))
def report(out: Path) -> None:
    """Make report.html in the output folder OUT of a run again, from its files and its inputs.

    Where the inputs are gone, the report shows the probability instead of the two dates, and says so.

    \b
    changedet report out
    """
    from changedet.detect.remake import remake_report

    for note in remake_report(out):
        ERR.print(f"[yellow]note:[/yellow] {shown(note)}")
    OUT.print(f"written to {escape(str(out / 'report.html'))}")
