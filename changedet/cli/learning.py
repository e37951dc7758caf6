"""What the verbs that learn from a pipeline file share."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from click import Context
from rich.markup import escape

from changedet.cli.console import OUT


def command_line(verb: str, file: str, changes: tuple[str, ...]) -> str:
    """Return the command that does it again, for the cards of its models."""
    return shlex.join(["changedet", verb, file, *(part for change in changes for part in ("--set", change))])


def teller(ctx: Context) -> Callable[[str], None]:
    """Return what prints a line, or with `--quiet` does not."""
    quiet = ctx.obj["quiet"]
    return lambda line: None if quiet else OUT.print(escape(line))
