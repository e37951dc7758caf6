"""What all options have in common, and how a wrong one is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from changedet.errors import ConfigError

# Pixels invalid at either date hold it at both: the middle of the networks' logarithmic scale, ordinary land to them.
NEUTRAL_REFLECTANCE: Final = 0.1
# Floating-point values from here on are what writers call no data: the type's largest, each rounded its own way.
LARGEST_VALUE: Final = 3.4e38
Kind = TypeVar("Kind", bound="Config")
_T = TypeVar("_T")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_bytes(value: object) -> object:
    """Return bytes for `2GB`, `500 MB`, `1.5GiB` or a plain number; what is no text as it is, for pydantic to judge.

    Raises:
        ValueError: it is another text.

    >>> parse_bytes("2GB"), parse_bytes("512 MiB")
    (2000000000, 536870912)
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([KMGT]?I?)B?\s*", value.upper())
    if match is None or match[2] not in _UNITS:
        raise ValueError("expected a number of bytes, such as 2GB")
    return int(float(match[1]) * _UNITS[match[2]])


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
DEVICES: Final = r"^(auto|cpu|mps|cuda(:\d+)?)$"


def _as_tuple(value: object) -> object:
    """Return a single value as a tuple of one, and None as an empty one: `scale: 0.0001` in a pipeline file."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str | int | float) else value


PerDate = Annotated[tuple[_T, ...], BeforeValidator(_as_tuple)]


class Config(BaseModel):
    """A block of options: frozen, and with no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def checked(kind: type[Kind], options: dict[str, Any]) -> Kind:
    """Return validated options of one kind.

    Raises:
        ConfigError: an unknown option or a wrong value.
    """
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        told = ((key_of(problem), said_of(problem)) for problem in error.errors())
        raise ConfigError("; ".join(": ".join(filter(None, parts)) for parts in told)) from error


def key_of(problem: Any) -> str:
    """Return the dotted key that a problem of pydantic is about; none where it is about several together."""
    return ".".join(map(str, problem["loc"]))


def said_of(problem: Any) -> str:
    """Return what is wrong there, and the start of what was given where that is one value."""
    said = {"extra_forbidden": "unknown key"}.get(problem["type"], problem["msg"]).removeprefix("Value error, ")
    # A whole block says nothing of which of its values are at odds.
    alone = problem["type"] not in ("extra_forbidden", "missing") and not isinstance(problem["input"], Mapping)
    return f"{said} (got {str(problem['input'])[:80]!r})" if alone else str(said)
