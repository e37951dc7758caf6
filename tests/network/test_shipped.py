import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changedet.errors import ModelError, NotFoundError
from changedet.network import shipped
from changedet.network.card import Card
from changedet.network.fc_siam import FCSiamDiff
from changedet.network.package import save_model


@pytest.fixture
def file(tmp_path: Path, network: FCSiamDiff, make_card: Callable[..., Card]) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(path, network, make_card(network))
    return path


def _header(content: Any) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text


def test_reads_the_card_without_torch(file: Path, network: FCSiamDiff, make_card: Callable[..., Card]) -> None:
    code = (
        "import sys; from changedet.network.shipped import read_card; card = read_card(sys.argv[1]);"
        "print(card.model_dump_json()); sys.exit('torch' in sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert Card.model_validate_json(child.stdout) == make_card(network) == shipped.read_card(file)


def test_names_and_paths(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS", file.parent)
    assert shipped.shipped_models() == {"tiny": file}
    assert shipped.resolve_model("tiny") == shipped.resolve_model(file) == shipped.resolve_model(str(file)) == file
    with pytest.raises(NotFoundError, match=r"no model 'tyni'\n.*a shipped model: tiny"):
        shipped.resolve_model("tyni")
    with pytest.raises(NotFoundError):
        shipped.resolve_model(file.parent)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a safetensors file"),
        (b"PK\x03\x04 a zip, as torch.save makes", "not a safetensors file: a header of"),
        (_header(b"[1, 2]"), "not a safetensors file: its header is not JSON"),
        (_header(b"{'a': 1}"), "its header is damaged"),
        (_header({"a": {"shape": [1]}}), "its header is damaged"),
        (_header(b'{"a":' * 100_000), "its header is damaged"),
        (_header({"a": {"data_offsets": [0, 8]}}) + b"1234", "is truncated: 43 of 47 bytes"),
        (_header({"a": 1})[:-3], "truncated within its header"),
        (_header({}), "no model card"),
        (_header({"__metadata__": {"changedet_card": 7}}), "no model card"),
        (_header({"__metadata__": {"changedet_card": "{"}}), "bad model card: card: Invalid JSON"),
        (_header({"__metadata__": {"changedet_card": '{"name": ""}'}}), "bad model card: name: String should have"),
    ],
)
def test_refusals(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        shipped.read_card(path)


def test_an_endless_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + b"{" * 64)
    with pytest.raises(ModelError, match="a header of 1099511627776 bytes"):
        shipped.read_card(path)
