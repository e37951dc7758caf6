"""Which backend computes, and what it loads."""

import subprocess
import sys
from pathlib import Path

import pytest

from changedet.config import RunConfig
from changedet.detect import backend
from changedet.detect.backend import open_detector
from changedet.errors import ConfigError
from tests.pairs import RGBN, SAMPLE, tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


@pytest.mark.parametrize(
    ("options", "accelerator", "installed", "expected"),
    [
        ({}, False, True, "openvino"),
        ({"device": "cpu"}, True, True, "openvino"),
        ({}, True, True, "torch"),
        ({}, False, False, "torch"),
        ({"device": "cuda"}, False, True, "torch"),
        ({"backend": "torch"}, False, True, "torch"),
        ({"backend": "openvino"}, True, True, "openvino"),
    ],
)
def test_auto_is_openvino_on_a_cpu_where_it_is_installed(
    options: dict[str, str], accelerator: bool, installed: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_has_accelerator", lambda: accelerator)
    monkeypatch.setattr(backend, "find_spec", lambda _: object() if installed else None)
    assert backend.choose_backend(RunConfig.model_validate(options)) == expected


def test_torch_computes_with_as_many_threads_as_it_may(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", said.append)
    for threads in (None, 2):
        open_detector(model, RGBN, RunConfig(backend="torch", device="cpu", threads=threads))
    assert said == [2]


def test_openvino_is_for_the_cpu(model: str) -> None:
    with pytest.raises(ConfigError, match=r"openvino on device cuda[\s\S]*--backend torch"):
        open_detector(model, RGBN, RunConfig(backend="openvino", device="cuda"))


def test_openvino_that_is_not_there_is_missed(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from changedet.network.ir import load_openvino

    load_openvino.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"OpenVINO cannot be loaded[\s\S]*--backend torch"):
        load_openvino()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_torch_computes_in_the_precision_asked_for(model: str, precision: str) -> None:
    config = RunConfig.model_validate({"backend": "torch", "device": "cpu", "precision": precision})
    detector = open_detector(model, RGBN, config)
    assert (detector.backend, detector.device, detector.precision) == ("torch", "cpu", precision)


# A run as a user starts it: what it has loaded by its end.
_RUN = """
import sys
from changedet.cli import cli
cli(["-q", "run", *sys.argv[1:]], standalone_mode=False)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(("shipped", "runs"), [("s2-urban-rgb", 1), (None, 2)])
def test_a_run_on_a_cpu_loads_neither_torch_nor_smp(
    shipped: str | None, runs: int, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a shipped model from the first run on, of any other from the second."""
    pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")
    monkeypatch.setenv("CHANGEDET_CACHE", str(tmp_path / "cache"))
    for number in range(runs):
        arguments = [SAMPLE / "before.tif", SAMPLE / "after.tif", "-o", tmp_path / str(number)]
        command = [sys.executable, "-c", _RUN, *map(str, arguments), "--model", shipped or model, "--device", "cpu"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"openvino", "rasterio", "geopandas"} <= loaded
    assert loaded.isdisjoint({"torch", "torchvision", "timm", "segmentation_models_pytorch", "openvino_telemetry"})


_HELP = "import sys; from changedet.cli import cli; cli(['--help'], standalone_mode=False); print(*sys.modules)"


@pytest.mark.parametrize("code", ["import changedet, sys; print(*sys.modules)", _HELP])
def test_importing_and_asking_for_help_is_light(code: str) -> None:
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert loaded.isdisjoint({"torch", "geopandas", "rasterio", "numpy", "pydantic", "openvino", "scipy", "pandas"})
