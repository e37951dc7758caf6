"""Where results come from: fingerprints of inputs, and run.json, without anybody's credentials."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from changedet.errors import NotFoundError

# An input of 100 GB is known again by its size, time and ends; reading all of it would take longer than the run.
_ENDS = 2**20
_HIDDEN = "***"

_SECRET_NAMES = (
    r"x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|(?:aws|google)?accesskeyid|"
    r"aws_access_key_id|[\w-]*(?:token|secret|passw(?:or)?d|pwd|api[_-]?key|access[_-]?key)[\w-]*"
)
# user:password@ and a lone token@ after a scheme, as in URLs, DSNs and /vsicurl/ paths
_USER_INFO = re.compile(r"(?<=://)[^/?#\s'\"]+@")
# name=value in queries, and in the name=value lists of libpq and of GDAL's PG: paths, where values may be quoted
_PARAMETER = re.compile(rf"(?<![\w-])({_SECRET_NAMES})(\s*=\s*)('[^']*'|\"[^\"]*\"|[^&\s;'\"#]+)", re.IGNORECASE)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Return a text with the credentials in it hidden: in URLs, DSNs, signed queries and authorization headers.

    >>> redact("postgresql://me:secret@host/db")
    'postgresql://***@host/db'
    >>> redact("https://host/a.tif?X-Amz-Signature=0f3a&page=2")
    'https://host/a.tif?X-Amz-Signature=***&page=2'
    """
    text = _USER_INFO.sub(f"{_HIDDEN}@", text)
    text = _PARAMETER.sub(rf"\1\2{_HIDDEN}", text)
    return _BEARER.sub(rf"\1 {_HIDDEN}", text)


def fingerprint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a file or folder is recognised by.

    Returns:
        `path` as given, redacted; `bytes`; `mtime` (ISO 8601, UTC, of the newest file); `sha256_ends`, over the first and the
        last MiB of every file, and in a folder over their relative paths too; `files` for a folder. Of what is not on
        a local disk, `path` alone.

    Raises:
        NotFoundError: nothing is there.
    """
    name = os.fspath(path)
    if "://" in name or name.startswith("/vsi"):
        return {"path": redact(name)}
    root = Path(name)
    if not root.exists():
        raise NotFoundError(f"no file or folder {name}", remedy="check the path")
    files = sorted(entry for entry in root.rglob("*") if entry.is_file()) if root.is_dir() else [root]
    count = {"files": len(files)} if root.is_dir() else {}
    return {"path": redact(name), **count, **_summary(root, files)}


def _summary(root: Path, files: Iterable[Path]) -> dict[str, Any]:
    digest = hashlib.sha256()
    size, newest = 0, root.stat().st_mtime
    for file in files:
        status = file.stat()
        size += status.st_size
        newest = max(newest, status.st_mtime) if root.is_dir() else status.st_mtime
        digest.update(f"{file.relative_to(root).as_posix()}\0{status.st_size}\0".encode())
        digest.update(_ends(file, status.st_size))
    return {"bytes": size, "mtime": _iso(newest), "sha256_ends": digest.hexdigest()}
