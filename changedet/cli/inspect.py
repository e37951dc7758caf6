"""`changedet inspect`."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table

from changedet.cli.console import OUT, shown
from changedet.cli.group import command
from changedet.cli.options import given, reading_options


@command()
@click.argument("before")
@click.argument("after")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@reading_options
def inspect(before: str, after: str, as_json: bool, **options: Any) -> None:
    """Report on a pair, and on what `run` would do about it, without running a network.

    \b
    changedet inspect before.tif after.tif
    """
    from changedet.detect.inspect import inspect as inspect_pair
    from changedet.write.provenance import plain

    report = inspect_pair(before, after, **given(options))
    if as_json:
        click.echo(json.dumps(plain(report.as_json()), indent=2))
    else:
        _print_report(report)


def _print_report(report: Any) -> None:
    table = Table(box=None, header_style="bold")
    for name in ("", "before", "after"):
        table.add_column(name, overflow="fold")
    for row in report.rows():
        table.add_row(*(shown(text) for text in row))
    OUT.print(table)
    for note in report.notes:
        OUT.print(f"• {shown(note)}")
