"""What all commands have in common: -v and -q anywhere, and errors as one message and an exit code."""

from __future__ import annotations

import errno
import logging
from functools import partial
from typing import Any

import click
from click import Context, Parameter

from changedet.cli.console import ERR, shown
from changedet.errors import EXIT_CODES, ChangeDetError, OutputError, exit_code

INTERRUPTED = 130
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def _be_verbose(ctx: Context, param: Parameter, value: bool) -> None:
    del ctx, param
    if value:
        logging.getLogger().setLevel(logging.INFO)


def _be_quiet(ctx: Context, param: Parameter, value: bool) -> None:
    del param
    if value:
        ctx.ensure_object(dict)["quiet"] = True
        logging.getLogger().setLevel(logging.ERROR)


class Command(click.Command):
    """A command that takes -v and -q too: people write them last as often as first."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        flag: dict[str, Any] = {"is_flag": True, "expose_value": False}
        self.params += [
            click.Option(["-v", "--verbose"], callback=_be_verbose, help="Say more.", **flag),
            click.Option(["-q", "--quiet"], callback=_be_quiet, help="Say nothing but warnings and errors.", **flag),
        ]


class Subgroup(click.Group):
    """Commands of one noun."""

    command_class = Command


class Group(Subgroup):
    """Turns errors into one message and the exit code of their class."""

    def invoke(self, ctx: Context) -> Any:
        """Carry the command out; an error ends with its message and exit code, unless --debug."""
        try:
            return super().invoke(ctx)
        except ChangeDetError as error:
            if ctx.params.get("debug"):
                raise
            ERR.print(f"[red]error:[/red] {shown(str(error))}")
            ctx.exit(exit_code(error))
        except OSError as error:
            # What the system refuses, such as somebody else's folder. A pipe that is closed is no error, see `entry`.
            is_full = error.errno in _DISK_FULL
            is_nameless = error.filename is None and not is_full
            if ctx.params.get("debug") or is_nameless or isinstance(error, BrokenPipeError):
                raise
            # Of a full disk Python tells no name, and it need not be that of the output.
            what = error.filename or "a disk, of what is printed or of temporary files, is full"
            ERR.print(f"[red]error:[/red] {shown(f'{what} ({error.strerror})')}")
            ctx.exit(EXIT_CODES[OutputError if is_full else ChangeDetError])
        except KeyboardInterrupt:
            ERR.print("interrupted: nothing was left behind")
            ctx.exit(INTERRUPTED)


command = partial(click.command, cls=Command)
