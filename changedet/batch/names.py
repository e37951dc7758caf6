"""Names of tiles and mosaics: parts of paths and URLs, on any system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 60


def slug(text: str) -> str:
    """Return a text as a name that is safe for a folder anywhere.

    >>> slug("Zürich / Nord"), slug("../x"), slug("")
    ('Zurich-Nord', 'x', 'tile')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._]+", "-", plain).strip(".-")[:_LONGEST] or "tile"


def distinct(names: Iterable[str]) -> list[str]:
    """Return names of which none is there twice, whatever the capitals, by a number behind.

    >>> distinct(["a", "b", "A", "a-2"])
    ['a', 'b', 'A-2', 'a-2-2']
    """
    taken: set[str] = set()
    told = []
    for name in names:
        number, own = 1, name
        while own.lower() in taken:
            number += 1
            own = f"{name}-{number}"
        taken.add(own.lower())
        told.append(own)
    return told
