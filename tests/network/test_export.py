"""Exported files answer in other runtimes as the model does."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from changedet.cli import cli
from changedet.config import RunConfig
from changedet.detect.backend import open_detector
from changedet.errors import ConfigError, ModelError
from changedet.grid import Window
from changedet.grid.quantise import quantise
from changedet.network.card import Card
from changedet.network.export import export_model, export_names
from changedet.network.package import load_model
from changedet.network.shipped import CARD_KEY, read_card
from changedet.read.pair import open_pair
from tests.pairs import DATA, tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def _pair() -> tuple[np.ndarray, np.ndarray]:
    before, after = np.random.default_rng(3).random((2, 1, 4, 48, 32), dtype=np.float32)
    return before, after


def _expected(model: Path) -> np.ndarray:
    return load_model(model).probability(*map(torch.from_numpy, _pair())).numpy()


TABLE = {"method": "isotonic", "stated": (0.2, 0.5), "observed": (0.1, 0.4), "data": "none"}


@pytest.mark.parametrize("calibration", [None, TABLE], ids=["plain", "calibrated"])
def test_onnx_runtime_gives_the_models_probability_and_finds_its_card(calibration: Any, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = tiny_model(tmp_path / "tiny.safetensors", calibration=calibration)
    export_model(model, "onnx", tmp_path)
    (name,) = export_names(model, "onnx")
    session = onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
    (answer,) = session.run(["probability"], dict(zip(("before", "after"), _pair(), strict=True)))
    np.testing.assert_allclose(answer, _expected(model), rtol=0, atol=1e-5)
    assert Card.model_validate_json(session.get_modelmeta().custom_metadata_map[CARD_KEY]) == read_card(model)


def test_openvino_does_from_any_folder(model: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    arguments = ["models", "export", str(model), "--format", "openvino", "-o", str(tmp_path / "there")]
    first = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert first.output.split() == ["written", "to", f"{tmp_path / 'there'}:", "tiny.xml,", "tiny.bin"]
    compiled = openvino.Core().compile_model(
        tmp_path / "there" / "tiny.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    answer = compiled(dict(zip(("before", "after"), _pair(), strict=True)))["probability"]
    np.testing.assert_allclose(answer, _expected(model), rtol=0, atol=1e-5)
    again = CliRunner().invoke(cli, arguments)
    assert (again.exit_code, "tiny.xml exists" in again.output) == (7, True)
    assert CliRunner().invoke(cli, [*arguments, "--overwrite"]).exit_code == 0


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_an_export_of_a_shipped_model_answers_on_real_bytes_as_our_network_does(form: str, tmp_path: Path) -> None:
    folder = DATA / "oscd" / "Onera Satellite Change Detection dataset - Images" / "beirut"
    if not folder.is_dir():
        pytest.skip(f"no OSCD in {DATA}; CHANGEDET_DATA names another place")
    card = read_card("s2-urban-rgb")
    with open_pair(folder / "imgs_1", folder / "imgs_2", bands=card.bands) as pair:
        chip = pair.read(Window(row=64, col=64, height=160, width=192))
    images = {"before": chip.before[None], "after": chip.after[None]}
    export_model("s2-urban-rgb", form, tmp_path)  # type: ignore[arg-type]  # one of the two
    name = export_names("s2-urban-rgb", form)[0]  # type: ignore[arg-type]
    if form == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        (answer,) = session.run(["probability"], images)
    else:
        openvino = pytest.importorskip("openvino")
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        answer = openvino.Core().compile_model(tmp_path / name, "CPU", hint)(images)["probability"]
    config = RunConfig(precision="float32")
    ours = open_detector("s2-urban-rgb", card.bands, config).predict(images["before"], images["after"])
    assert ours.max() > card.threshold
    np.testing.assert_allclose(answer, ours, rtol=0, atol=1e-4)
    assert (quantise(answer, chip.valid) == quantise(ours, chip.valid)).mean() > 0.9999


def test_onnx_that_is_not_installed_is_missed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"onnx is not installed[\s\S]*changedet\[onnx\]"):
        export_model(model, "onnx", tmp_path)


def test_another_format_is_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"format 'tflite'[\s\S]*onnx, openvino"):
        export_names(model, "tflite")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../out", "/out", "..", "a:b", "a\\b"])
def test_the_name_on_a_card_does_not_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors", name=name)
    with pytest.raises(ModelError, match="is no name for a file"):
        export_names(model, "onnx")
