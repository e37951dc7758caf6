"""Conversion to OpenVINO: once, whole, for all processes that ask."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch

from changedet.errors import ConfigError, ModelError
from changedet.network import ir
from changedet.network.card import Card
from changedet.network.ir import cache_folder, compile_network, load_openvino, measured_bytes_per_px, network_ir
from changedet.network.package import load_model
from changedet.network.shipped import CARD_KEY, file_digest, read_card, resolve_model
from tests.pairs import tiny_model

pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHANGEDET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def test_the_graph_takes_reflectance_and_answers_as_torch_does(model: Path) -> None:
    before, after = np.random.default_rng(0).random((2, 2, 4, 48, 80), dtype=np.float32)
    before[0, :, :8] = 0  # the logarithm of a shadow
    expected = load_model(model).probability(torch.from_numpy(before), torch.from_numpy(after)).numpy()
    request = compile_network(network_ir(model, file_digest(model)), "float32", before.shape)
    np.testing.assert_allclose(request.infer({"before": before, "after": after})["probability"], expected, atol=1e-5)


@pytest.mark.parametrize(
    "calibration",
    [
        {"method": "platt", "slope": 0.7, "offset": -0.3, "data": "none"},
        {"method": "isotonic", "stated": (0.2, 0.5, 0.9), "observed": (0.1, 0.4, 0.4), "data": "none"},
    ],
)
def test_the_calibration_is_in_the_graph(calibration: dict[str, Any], tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "calibrated.safetensors", calibration=calibration)
    before, after = np.random.default_rng(0).random((2, 1, 4, 32, 32), dtype=np.float32)
    request = compile_network(network_ir(path, file_digest(path)), "float32", before.shape)
    expected = load_model(path).probability(torch.from_numpy(before), torch.from_numpy(after)).numpy()
    np.testing.assert_allclose(request.infer([before, after])[0], expected, atol=1e-5)


def test_batch_norms_are_folded_and_the_card_is_inside(model: Path) -> None:
    path = network_ir(model, file_digest(model))
    graph = load_openvino().Core().read_model(path)
    kinds = {operation.get_type_name() for operation in graph.get_ops()}
    assert not any("BatchNorm" in kind for kind in kinds)
    assert {"Log", "Sigmoid"} <= kinds
    assert Card.model_validate_json(graph.get_rt_info(CARD_KEY).astype(str)) == read_card(model)


def test_a_model_is_converted_once(model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(ir, "_convert", lambda path, folder: (asked.append(path), (folder / "model.xml").touch()))
    first, second = network_ir(model, "ab" * 32), network_ir(model, "ab" * 32)
    assert (first, asked) == (second, [model])
    assert first.is_relative_to(own_cache)
    assert network_ir(model, "cd" * 32) != first


def test_runs_that_convert_the_same_model_at_once_get_one_whole_file(
    model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_there = Barrier(4)

    def convert(_: Path, folder: Path) -> None:
        all_there.wait()
        (folder / "model.xml").write_text("whole")

    monkeypatch.setattr(ir, "_convert", convert)
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: network_ir(model, "ab" * 32), range(4)))
    (path,) = paths
    assert path.read_text() == "whole"
    assert [entry.name for entry in own_cache.iterdir()] == [path.parent.name]


def test_what_is_left_of_a_failed_conversion_is_nothing(
    model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path, folder: Path) -> None:
        (folder / "model.xml").write_text("half")
        raise ModelError("no")

    monkeypatch.setattr(ir, "_convert", fail)
    with pytest.raises(ModelError, match="no"):
        network_ir(model, file_digest(model))
    assert list(own_cache.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_refused_with_what_to_delete(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text("<net>")
    with pytest.raises(ModelError, match=rf"cannot load[\s\S]*delete the folder {tmp_path}"):
        compile_network(path, "float32", (1, 4, 32, 32))


def test_a_cache_that_cannot_be_written_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CHANGEDET_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError, match=r"cache folder .* cannot be written[\s\S]*set CHANGEDET_CACHE"):
        network_ir(model, file_digest(model))


def test_the_cache_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHANGEDET_CACHE")
    assert cache_folder().name.lower() == "changedet"
    assert str(cache_folder()).startswith(os.path.expanduser("~"))  # noqa: PTH111


def test_bfloat16_takes_less_than_float32_and_both_less_than_torch() -> None:
    path = resolve_model("s2-urban-rgbn")
    graph, card = network_ir(path, file_digest(path)), read_card(path)
    half, full = (measured_bytes_per_px(graph, card, precision) for precision in ("bfloat16", "float32"))
    assert 32 <= half < full < card.memory_bytes_per_px


def test_nothing_is_told_to_anybody() -> None:
    code = "import sys; from changedet.network.ir import load_openvino; load_openvino()"
    code += "; assert 'openvino_telemetry' not in sys.modules; import openvino.tools.ovc as t; print(t.telemetry)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "telemetry_stub" in done.stdout
