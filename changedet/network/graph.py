"""Graphs of the shipped models: what a first run would need torch for, made when a model is shipped.

A graph is OpenVINO's IR of a model whose weights are read where the model's own file has them, so it takes a
fiftieth of the weights' room and holds no number that the file does not. Each is found by its model's hash.

    python -m changedet.network.graph    makes those of the shipped models, and removes all others
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from changedet.network.shipped import WEIGHTS, file_digest, shipped_models

_XML, _CONSTANTS = "model.xml", "constants.bin"


def shipped_graph(digest: str) -> Path:
    """Return where the graph of a model is, if it is shipped.

    Args:
        digest: SHA-256 of the model file, in hexadecimal.
    """
    return WEIGHTS / "graphs" / f"{digest[:32]}.zip"


def place_graph(graph: Path, model: Path, xml: Path) -> None:
    """Write a model's graph as IR: `xml`, and beside it the weights as the graph expects them.

    Args:
        graph: see `write_graph`.
        model: the file that it was made of.
        xml: to be written.
    """
    with zipfile.ZipFile(graph) as parts:
        xml.write_bytes(parts.read(_XML))
        xml.with_suffix(".bin").write_bytes(padded(model.read_bytes()) + parts.read(_CONSTANTS))


def write_graph(path: Path, xml: str, constants: bytes) -> None:
    """Write a graph; the same one gives the same bytes.

    Args:
        path: of the file.
        xml: the IR. Its offsets are into the model file, `padded`, with `constants` after it.
        constants: of the graph, that are no weights.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as parts:
        for name, content in ((_XML, xml), (_CONSTANTS, constants)):
            parts.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)


def padded(data: bytes) -> bytes:
    """Return `data` with zeros up to the next multiple of 64 bytes, where what follows begins."""
    return data + bytes(-len(data) % 64)


def main() -> None:
    """Make the graphs of all shipped models, and remove those of others."""
    from changedet.network.convert import make_graph

    graphs = {shipped_graph(file_digest(model)): model for model in shipped_models().values()}
    (WEIGHTS / "graphs").mkdir(exist_ok=True)
    for graph, model in graphs.items():
        make_graph(model, graph)
    for other in set((WEIGHTS / "graphs").glob("*.zip")) - set(graphs):
        other.unlink()


if __name__ == "__main__":
    main()
