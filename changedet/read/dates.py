"""Dates of acquisition, from sources that can be trusted: never from a name that may hold the date of processing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

# Tags that hold a date of acquisition. TIFFTAG_DATETIME comes last: some writers put the date of processing there.
_DATE_TAGS = ("ACQUISITION_DATE", "DATE_ACQUIRED", "SENSING_TIME", "datetime", "TIFFTAG_DATETIME")


def date_of_tags(tags: Mapping[str, str]) -> str | None:
    """Return the ISO date that a dataset's tags hold."""
    found = (parse_date(tags[key]) for key in _DATE_TAGS if key in tags)
    return next(filter(None, found), None)


def date_of_folder(folder: Path) -> str | None:
    """Read OSCD's `dates.txt`, which lies beside the folders imgs_1 and imgs_2 and has a line for each."""
    listing = folder.resolve().parent / "dates.txt"
    which = re.fullmatch(r"imgs_(\d)(?:_rect)?", folder.resolve().name)
    if which is None or not listing.is_file():
        return None
    match = re.search(rf"^date_{which[1]}:\s*(\d{{8}})\s*$", listing.read_text(errors="replace"), re.MULTILINE)
    return parse_date(match[1]) if match else None


def parse_date(text: str) -> str | None:
    """Return an ISO date for `20180328`, `2018-03-28…` or TIFF's `2018:03:28 …`; None for anything else."""
    match = re.match(r"\s*(\d{4})[:\-/]?(\d\d)[:\-/]?(\d\d)(?!\d)", text)
    if match is None:
        return None
    try:
        return date(int(match[1]), int(match[2]), int(match[3])).isoformat()
    except ValueError:
        return None


def is_iso_date(text: str) -> bool:
    """Return whether `text` is an ISO date or date and time."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
