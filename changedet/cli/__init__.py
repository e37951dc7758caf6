"""The command line: one module a verb, each parses, calls and prints."""

from changedet.cli.entry import cli, main

__all__ = ["cli", "main"]
