"""Where results come from: fingerprints of inputs, and run.json, without anybody's credentials."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from changedet.errors import ConfigError, NotFoundError
from changedet.remote import is_local, is_named_to_gdal

# Form of run.json, which holds its number as `form`. Raised when an entry that we read again is moved, or means
# something else; without a number it is the first. 2: what was removed of the before date, and no `series`.
FORM: Final = 2

# An input of 100 GB is known again by its size, time and ends; reading all of it would take longer than the run.
_ENDS = 2**20
_HIDDEN = "***"

_TO_HIDE = (
    r"x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|(?:aws|google)?accesskeyid|"
    r"aws_access_key_id|subscription[_-]?key|(?:header\.)?authorization|[\w-]*(?:token|secret|passw(?:or)?d|pwd|api[_-]?key|access[_-]?key)[\w-]*"
)
# user:password@ and a lone token@ after a scheme, as in URLs, DSNs and /vsicurl/ paths; then passwords with a slash
# that should have been escaped, unless what looks like one is a port.
_USER_INFO = re.compile(r"(?<=://)(?:[^/?#\s'\"]+|[^/?#\s'\"@:]+:(?!\d+/)[^\s'\"@]*)@")
# name=value in queries, and in the name=value lists of libpq and of GDAL's PG: paths, where values may be quoted
_PARAMETER = re.compile(rf"(?<![\w-])({_TO_HIDE})(\s*=\s*)('[^']*'|\"[^\"]*\"|[^&\s;'\"#]+)", re.IGNORECASE)
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


def fingerprint(path: str | os.PathLike[str], files: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a file or folder is recognised by, or several files that go by one name.

    Args:
        path: the file or folder; where it is neither, such as `stac:item.json` or `red.tif,nir.tif`, the name of what
            `files` make up.
        files: their paths.

    Returns:
        `path` as given, redacted; `bytes`; `mtime` (ISO 8601, UTC, of the newest file); `sha256_ends`, over the first
        and the last MiB of every file, its size and its path in the folder; `files`, their number, where `path` is not
        one file. Of what is not all on a local disk, `path` alone.

    Raises:
        NotFoundError: nothing is there.
    """
    name = os.fspath(path)
    if is_named_to_gdal(name):
        return {"path": redact(name)}
    root, is_there = Path(name), is_local(name)
    if is_there and root.is_file():
        return {"path": redact(name), **_summary({".": root})}
    if is_there and root.is_dir():
        inside = {entry.relative_to(root).as_posix(): entry for entry in sorted(root.rglob("*")) if entry.is_file()}
        return {"path": redact(name), "files": len(inside), **_summary(inside)}
    if any(map(is_named_to_gdal, files)):
        return {"path": redact(name)}
    if not files or not all(Path(file).is_file() for file in files):
        raise NotFoundError(f"no file or folder {name}", remedy="check the path")
    return {"path": redact(name), "files": len(files), **_summary({file: Path(file) for file in sorted(files)})}


def _summary(files: Mapping[str, Path]) -> dict[str, Any]:
    digest = hashlib.sha256()
    statuses = [file.stat() for file in files.values()]
    for (label, file), status in zip(files.items(), statuses, strict=True):
        digest.update(f"{label}\0{status.st_size}\0".encode())
        digest.update(_ends(file, status.st_size))
    newest = max((status.st_mtime for status in statuses), default=0.0)
    return {
        "bytes": sum(status.st_size for status in statuses),
        "mtime": datetime.fromtimestamp(newest, tz=UTC).isoformat(timespec="seconds"),
        "sha256_ends": digest.hexdigest(),
    }


def _ends(file: Path, size: int) -> bytes:
    with file.open("rb") as stream:
        first = stream.read(_ENDS)
        stream.seek(max(len(first), size - _ENDS))
        return first + stream.read()


def write_run_json(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Write run.json: equal records give equal bytes, and what differs between equal runs, `times`, comes last.

    Keys are sorted; NaN and infinities, which JSON does not have, become null; paths, dates, numpy values, enums,
    dataclasses and sets are written plainly; credentials are redacted in every text.

    Args:
        path: file to make.
        record: what is to be known of the run, nested; when it began and how long it took under `times`.

    Raises:
        TypeError: a value is none of these.
    """
    told = plain(record)
    content = {name: told[name] for name in sorted(told, key=lambda name: (name == "times", name))}
    Path(path).write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_run_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `write_run_json` wrote.

    Raises:
        ConfigError: it cannot be read, or another version of changedet wrote it in another form.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{os.fspath(path)} cannot be read ({error})", remedy="run again with --overwrite") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{os.fspath(path)} cannot be read (no object)", remedy="run again with --overwrite")
    check_form(record, path)
    return record


def check_form(record: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Refuse a record that another version of changedet wrote in another form.

    Args:
        record: of a run, or of what was learned of a mosaic.
        path: where it was read.

    Raises:
        ConfigError: it did.
    """
    form = record.get("form", 1)
    if form != FORM:
        raise ConfigError(
            f"{os.fspath(path)} is of form {form}, as another version of changedet wrote it",
            expected=f"form {FORM}",
            remedy="run again with --overwrite, or use the version that wrote it",
        )


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as run.json has it once it is read again; see `write_run_json`."""
    told: dict[str, Any] = _plain(record)
    return told


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Mapping):
        named = {str(key): _plain(entry) for key, entry in value.items()}
        return dict(sorted(named.items()))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)})
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value))
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> str | int | float | bool | None:
    if isinstance(value, enum.Enum):
        return _plain_scalar(value.value)
    if isinstance(value, str | Path):
        return redact(str(value))
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int):
        return value
    raise TypeError(f"{value!r} of {type(value).__name__} has no place in run.json")
