"""Every error changedet raises on purpose: one root, and the exit code of each class in one table.

A message has up to three parts: what was got, what was expected, what to do about it. Each child is also
the standard library error a caller would have caught anyway.
"""

from __future__ import annotations


class ChangeDetError(Exception):
    """Root of all errors that changedet raises on purpose.

    Args:
        got: what was found, in one sentence without a full stop at its end.
        expected: what would have been right.
        remedy: what the reader can do now.
    """

    def __init__(self, got: str, *, expected: str = "", remedy: str = "") -> None:
        parts = [got]
        if expected:
            parts.append(f"expected: {expected}")
        if remedy:
            parts.append(f"try: {remedy}")
        # One argument only, so that the error survives pickling between processes.
        super().__init__("\n  ".join(parts))


class ConfigError(ChangeDetError, ValueError):
    """An option or a pipeline file says something that cannot be."""


class NotFoundError(ChangeDetError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class SceneError(ChangeDetError, OSError):
    """A scene cannot be read: not a raster, truncated, damaged, or without georeference."""


class PairError(ChangeDetError, ValueError):
    """Two readable scenes cannot be compared: no overlap, other bands, nothing valid in common."""


class ModelError(ChangeDetError, ValueError):
    """A model file is damaged, is not one, or does not fit the scenes."""


class OutputExistsError(ChangeDetError, FileExistsError):
    """The output is already there and was not to be overwritten."""


class OutputError(ChangeDetError, OSError):
    """An output could not be written, for instance because the disk is full."""


class ClusterError(ChangeDetError, ConnectionError):
    """The processes that share the work cannot be reached, or are gone."""


# The exit code of a batch that is done but for tiles that failed: what they failed of is in its failures.csv.
TILES_FAILED = 10

# The order is from special to general: the first class that fits gives the code. click itself uses 2 for a
# command line it cannot parse, which is the same kind of mistake as a ConfigError.
EXIT_CODES: dict[type[ChangeDetError], int] = {
    ConfigError: 2,
    NotFoundError: 3,
    SceneError: 4,
    PairError: 5,
    ModelError: 6,
    OutputExistsError: 7,
    OutputError: 8,
    ClusterError: 9,
    ChangeDetError: 1,
}


def exit_code(error: ChangeDetError) -> int:
    """Return the exit code of the first class in `EXIT_CODES` that `error` is an instance of."""
    return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
