"""Model files without torch: where the shipped ones are, and the card in any file's header."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydantic import ValidationError

from changedet.errors import ModelError, NotFoundError
from changedet.network.card import Card

CARD_KEY: Final = "changedet_card"
# A header lists each tensor in about 100 bytes and holds the card; more than this is no model of ours.
MAX_HEADER_BYTES: Final = 8 * 2**20
_LENGTH_BYTES = 8
WEIGHTS: Final = Path(__file__).parent.parent / "weights"
_EXPECTED = "a .safetensors file written by changedet"


def shipped_models() -> dict[str, Path]:
    """Return the models that come with the package, name to file, by name."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"), key=lambda path: path.stem)}


def resolve_model(path_or_name: str | Path) -> Path:
    """Return the file of a shipped model's name, or of a path.

    Raises:
        NotFoundError: it is neither.
    """
    shipped = shipped_models()
    path = shipped.get(str(path_or_name), Path(path_or_name))
    if not path.is_file():
        names = ", ".join(shipped) or "none"
        raise NotFoundError(f"no model {str(path_or_name)!r}", expected=f"a file, or a shipped model: {names}")
    return path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_card(path: str | Path) -> Card:
    """Read the card in the header of a safetensors file, without its weights and without torch.

    Raises:
        NotFoundError: there is no such file.
        ModelError: it is not a safetensors file, is truncated, or has no card or a bad one.
    """
    path = resolve_model(path)
    metadata = _read_header(path).get("__metadata__")
    text = metadata.get(CARD_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ModelError(f"{path} has no model card", expected=_EXPECTED)
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors()[:3])
        raise ModelError(f"{path} has a bad model card: {problems}", expected=_EXPECTED) from error


def tensor_offsets(path: Path) -> dict[str, int]:
    """Return where each tensor of a model file begins in it, bytes from its start.

    Raises:
        ModelError: it is not a safetensors file, or is truncated.
    """
    header = _read_header(path)
    with path.open("rb") as file:
        begin = _LENGTH_BYTES + len(_header_text(file, path))
    return {name: begin + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"}


def _read_header(path: Path) -> dict[str, Any]:
    """Read the header: its length as 8 little-endian bytes, then JSON. The tensors' bytes follow, without gaps."""
    with path.open("rb") as file:
        text = _header_text(file, path)
    try:
        header: dict[str, Any] = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        size = _LENGTH_BYTES + len(text) + max(ends, default=0)
    # RecursionError: JSON may be nested without end.
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is not a safetensors file: its header is damaged", expected=_EXPECTED) from error
    found = path.stat().st_size
    if found < size:
        raise ModelError(f"{path} is truncated: {found} of {size} bytes", remedy="fetch or save it again")
    return header


def _header_text(file: BinaryIO, path: Path) -> bytes:
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise ModelError(f"{path} is not a safetensors file: a header of {length} bytes", expected=_EXPECTED)
    text = file.read(length)
    if not text.startswith(b"{"):
        raise ModelError(f"{path} is not a safetensors file: its header is not JSON", expected=_EXPECTED)
    if len(text) < length:
        raise ModelError(f"{path} is truncated within its header", remedy="fetch or save it again")
    return text
