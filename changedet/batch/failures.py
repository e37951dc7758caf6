"""The tiles that failed as a table for people, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Final

from changedet.batch.outcome import FAILED, Outcomes
from changedet.write.provenance import redact

NAME: Final = "failures.csv"
_COLUMNS: Final = ("id", "mosaic", "error", "message", "attempts", "seconds")
# A cell that begins so is a formula to a spreadsheet, which may send what lies beside it elsewhere. Source: OWASP, "CSV
# Injection", https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # the wide ones count too


def write_failures(path: str | os.PathLike[str], outcomes: Outcomes) -> None:
    """Write one row a tile that failed, with the class of the error and its message; the header alone where none did.

    Raises:
        OSError: it cannot be written.
    """
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in outcomes.rows(FAILED):
            writer.writerow([cell(row[name]) for name in _COLUMNS])


def cell(value: object) -> object:
    """Return a value for a cell: texts on one line, without credentials, and never a formula.

    >>> cell("=1+1"), cell("a,\\n  b"), cell(-1.5), cell(None)
    ("'=1+1", 'a, b', -1.5, None)
    """
    if not isinstance(value, str):
        return value
    text = " ".join(redact(value).split())
    return f"'{text}" if text.startswith(_FORMULA) else text
