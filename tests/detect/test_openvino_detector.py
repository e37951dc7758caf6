"""The fast paths give the reference's map."""

import time
import warnings
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from changedet.detect import openvino_detector
from changedet.detect.detector import NetworkDetector
from changedet.detect.openvino_detector import OpenVinoDetector
from changedet.detect.stitch import stitch
from changedet.detect.torch_detector import TorchDetector
from changedet.errors import ModelError
from changedet.grid import Window, plan_chips
from changedet.grid.quantise import NODATA
from changedet.network.ir import load_openvino, network_ir
from changedet.network.package import load_model
from changedet.network.shipped import file_digest, read_card, resolve_model, shipped_models
from changedet.read.pair import open_pair
from tests.detect.test_stitch import ArrayPair, ArraySink
from tests.pairs import DATA, RGBN, tiny_model

pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")

OSCD = DATA / "oscd" / "Onera Satellite Change Detection dataset - Images"


def test_it_answers_in_shapes_and_bands_as_torch_does(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "tiny.safetensors")
    fast, reference = OpenVinoDetector(path, precision="float32"), TorchDetector(load_model(path), "cpu")
    before, after = np.random.default_rng(0).random((2, 2, 4, 32, 48), dtype=np.float32)
    first = fast.predict(before, after)
    np.testing.assert_allclose(first, reference.predict(before, after), rtol=0, atol=1e-5)
    kept = first.copy()
    fast.predict(after[:, :, ::-1], before)  # reversed rows: not contiguous
    np.testing.assert_array_equal(first, kept)
    # Another shape, and the first again.
    for image in (before[:1, :, :16], before):
        np.testing.assert_allclose(fast.predict(image, image), reference.predict(image, image), rtol=0, atol=1e-5)
    names = ("bands", "classes", "stride", "halo", "field", "tiling", "digest", "card")
    assert [getattr(fast, name) for name in names] == [getattr(reference, name) for name in names]


def test_it_takes_as_many_threads_as_it_may_and_answers_the_same(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "tiny.safetensors")
    images = np.random.default_rng(0).random((2, 1, 4, 64, 64), dtype=np.float32)
    alone, two = (OpenVinoDetector(path, precision="float32", threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(alone.predict(*images), two.predict(*images))
    compiled = [detector._request.get_compiled_model() for detector in (alone, two)]
    assert [int(model.get_property("INFERENCE_NUM_THREADS")) for model in compiled] == [1, 2]


def test_a_model_is_made_ready_behind_and_waited_for_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, looked_at_the_pair = tiny_model(tmp_path / "tiny.safetensors"), Event()
    ir = network_ir(path, file_digest(path))

    def later(model: Path, digest: str) -> Path:
        assert looked_at_the_pair.wait(60)
        return ir

    monkeypatch.setattr(openvino_detector, "network_ir", later)
    monkeypatch.setattr(openvino_detector, "converts_here", lambda: False)
    detector = OpenVinoDetector(path, precision="float32")
    looked_at_the_pair.set()
    assert detector.bytes_per_px > 0
    image = np.zeros((1, 4, 32, 32), dtype=np.float32)
    assert detector.predict(image, image).shape == (1, 1, 32, 32)


def test_nothing_runs_beside_a_conversion_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, filters = tiny_model(tmp_path / "tiny.safetensors"), list(warnings.filters)
    made = []

    def slow(model: Path, digest: str) -> Path:
        time.sleep(0.2)
        made.append(network_ir(model, digest))
        return made[0]

    monkeypatch.setattr(openvino_detector, "network_ir", slow)
    OpenVinoDetector(path, precision="float32")
    assert made[0].is_file()
    assert warnings.filters == filters


def test_what_fails_behind_is_told_to_whoever_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: Path, digest: str) -> Path:
        raise ModelError(f"{model.name} cannot be converted")

    monkeypatch.setattr(openvino_detector, "network_ir", fail)
    detector = OpenVinoDetector(tiny_model(tmp_path / "tiny.safetensors"))
    with pytest.raises(ModelError, match="cannot be converted"):
        _ = detector.bytes_per_px


def test_bands_that_are_not_optional_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model tiny is given the bands"):
        OpenVinoDetector(tiny_model(tmp_path / "tiny.safetensors"), RGBN[:2])


def _detectors(name: str) -> dict[str, NetworkDetector]:
    model = load_model(name)
    return {
        "OpenVINO, float32": OpenVinoDetector(name, precision="float32"),
        "OpenVINO, bfloat16": OpenVinoDetector(name, precision="bfloat16"),
        "torch, bfloat16": TorchDetector(model, "cpu", precision="bfloat16"),
    }


@pytest.fixture(scope="module", params=["abudhabi", "beirut"])
def city(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    folder = OSCD / request.param
    if not folder.is_dir():
        pytest.skip(f"no OSCD in {DATA}; CHANGEDET_DATA names another place")
    return folder / "imgs_1", folder / "imgs_2"


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_every_fast_path_stays_within_the_cards_tolerance_on_real_data(name: str, city: tuple[Path, Path]) -> None:
    card = read_card(name)
    before, after = _read(city, card.bands)
    reference = TorchDetector(load_model(name), "cpu", precision="float32").predict(before, after)
    assert card.tolerance.model_dump() == {"share": 0.997, "steps": 2, "most": 8}
    for path, detector in _detectors(name).items():
        assert card.tolerance.allows(detector.predict(before, after), reference), path


def test_chips_that_are_skipped_leave_plain_float32s_map_on_real_data(city: tuple[Path, Path]) -> None:
    card = read_card("s2-urban-rgb")
    before, after = (date[0] for date in _read(city, card.bands))
    # The left half did not change, and the upper rows cannot be compared.
    after[:, :, :160] = before[:, :, :160]
    valid = np.ones(before.shape[1:], np.bool_)
    valid[:96] = False
    pair = ArrayPair(before, after, valid, card.bands)
    fast, asked = OpenVinoDetector("s2-urban-rgb"), []
    ask = fast.predict
    fast.predict = lambda *dates: (asked.append(1), ask(*dates))[1]  # type: ignore[method-assign]
    plan = plan_chips(256, 256, chip=96, halo=32, stride=card.stride)
    sink = ArraySink((256, 256))
    stitch(pair, fast, plan, sink)
    whole = pair.read(Window(0, 0, 256, 256))
    plain = TorchDetector(load_model("s2-urban-rgb"), "cpu", precision="float32")
    answers = np.zeros((1, 256, 256), np.float32)
    for chip in plan.chips:
        rows, cols = chip.core.relative_to(chip.read).slices
        read = pair.read(chip.read)
        answers[:, *chip.core.slices] = plain.predict(read.before[None], read.after[None])[0][:, rows, cols]
    known = whole.valid[None]
    np.testing.assert_array_equal(sink.stored != NODATA, known)
    assert card.tolerance.allows(sink.stored[known] / 254, answers[known])
    assert 0 < len(asked) < len(plan.chips) / 2 + 2


def test_batch_norms_are_folded_into_convolutions() -> None:
    openvino = load_openvino()
    path = resolve_model("s2-urban-rgb")
    assert any("bn" in name or "running_mean" in name for name in load_model(path).state_dict())
    compiled = openvino.Core().compile_model(network_ir(path, file_digest(path)), "CPU")
    layers = [layer.get_rt_info() for layer in compiled.get_runtime_model().get_ops()]
    kinds = {layer["layerType"].astype(str) for layer in layers}
    assert "Convolution" in kinds
    assert not any("BatchNorm" in kind for kind in kinds)


def _read(city: tuple[Path, Path], bands: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with open_pair(*city, bands=bands) as pair:
        chip = pair.read(Window(row=64, col=64, height=256, width=256))
    return chip.before[None], chip.after[None]
