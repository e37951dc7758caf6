"""Graphs of the shipped models: there, small, and the model's own answers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from changedet.errors import ModelError
from changedet.network import convert
from changedet.network.graph import place_graph, shipped_graph
from changedet.network.ir import compile_network
from changedet.network.package import load_model
from changedet.network.shipped import WEIGHTS, file_digest, resolve_model, shipped_models
from tests.pairs import tiny_model

pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")


def test_each_shipped_model_has_its_graph_and_no_other_is_there() -> None:
    """Where this fails: `python -m changedet.network.graph`."""
    expected = {shipped_graph(file_digest(model)) for model in shipped_models().values()}
    assert set((WEIGHTS / "graphs").iterdir()) == expected
    assert all(graph.stat().st_size < 30_000 for graph in expected)


@pytest.mark.parametrize("name", shipped_models())
def test_a_graph_gives_the_answers_of_torch(name: str, tmp_path: Path) -> None:
    model = resolve_model(name)
    place_graph(shipped_graph(file_digest(model)), model, tmp_path / "model.xml")
    loaded = load_model(model)
    before, after = np.random.default_rng(0).random((2, 1, len(loaded.card.bands), 128, 192), dtype=np.float32) / 2
    expected = loaded.probability(torch.from_numpy(before), torch.from_numpy(after)).numpy()
    given = compile_network(tmp_path / "model.xml", "float32", before.shape).infer([before, after])[0]
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert expected.max() - expected.min() > 0.1


def test_a_graph_is_a_conversion_without_the_weights(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    convert.convert(model, tmp_path / "converted.xml")
    convert.make_graph(model, tmp_path / "graph.zip")
    place_graph(tmp_path / "graph.zip", model, tmp_path / "placed.xml")
    assert (tmp_path / "placed.bin").read_bytes().startswith(model.read_bytes())
    images = list(np.random.default_rng(0).random((2, 1, 4, 32, 64), dtype=np.float32))
    placed, converted = (
        compile_network(tmp_path / name, "float32", images[0].shape).infer(images)[0]
        for name in ("placed.xml", "converted.xml")
    )
    np.testing.assert_allclose(placed, converted, atol=1e-6)


def test_a_graph_that_holds_weights_of_its_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    monkeypatch.setattr(convert, "_MOST_CONSTANTS", 100)
    with pytest.raises(ModelError, match="none of its weights"):
        convert.make_graph(model, tmp_path / "graph.zip")
    assert not (tmp_path / "graph.zip").exists()
