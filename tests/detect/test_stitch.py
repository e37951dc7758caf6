"""Tiled equals whole: what a chip plan, a pair and a detector must give together."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.detect.openvino_detector import OpenVinoDetector
from changedet.detect.stitch import stitch
from changedet.detect.torch_detector import TorchDetector
from changedet.errors import ConfigError
from changedet.grid import ChipPlan, Window, plan_chips
from changedet.grid.quantise import NODATA, quantise
from changedet.network.package import load_model
from changedet.network.shipped import shipped_models
from changedet.read.pair import Chip, open_pair
from tests.data import geobox
from tests.pairs import RGBN, SAMPLE, tiny_model

KERNEL = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 10]], dtype=np.float32) / 46


@dataclass
class ArrayPair:
    """A `BiTemporalPair` over arrays (C, H, W); outside and where `valid` is False it is neutral, as on disk."""

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    valid: NDArray[np.bool_]
    bands: tuple[str, ...] = ("B04", "B08")

    @property
    def geobox(self) -> GeoBox:
        return geobox(*self.valid.shape)

    def read(self, window: Window) -> Chip:
        height, width = self.valid.shape
        before, after = (
            np.full((len(self.before), window.height, window.width), NEUTRAL_REFLECTANCE, np.float32) for _ in range(2)
        )
        valid = np.zeros((window.height, window.width), dtype=np.bool_)
        inside = window.intersect(Window(0, 0, height, width))
        if inside is not None:
            there, here = inside.slices, inside.relative_to(window).slices
            before[:, *here], after[:, *here], valid[here] = (
                self.before[:, *there],
                self.after[:, *there],
                self.valid[there],
            )
        before[:, ~valid] = after[:, ~valid] = NEUTRAL_REFLECTANCE
        return Chip(before, after, valid, window)


@dataclass
class KernelDetector:
    """A fixed 3 x 3 kernel on the difference of the dates, always summed in the same order."""

    stride: int = 1
    asked: int = 0
    bands: tuple[str, ...] = ("B04", "B08")
    classes: int = 1
    tiling: str = "exact"
    chip_px: int | None = None
    halo: int = 1
    field: int = 1
    base_bytes: int = 0
    bytes_per_px: float = 1.0

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        self.asked += 1
        height, width = before.shape[-2:]
        padded = np.pad(np.abs(after - before).sum(axis=1, keepdims=True), ((0, 0), (0, 0), (1, 1), (1, 1)))
        answer = np.zeros((len(before), 1, height, width), dtype=np.float32)
        for row in range(3):
            for col in range(3):
                answer += KERNEL[row, col] * padded[..., row : row + height, col : col + width]
        return np.clip(answer / 2, 0, 1)


@dataclass
class ArraySink:
    """Keeps what is written, and how often each pixel was."""

    shape: tuple[int, int]
    stored: NDArray[np.uint8] = field(init=False)
    times: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.stored, self.times = np.zeros((1, *self.shape), np.uint8), np.zeros(self.shape, np.int64)

    def write(self, window: Window, array: NDArray[np.uint8]) -> None:
        self.stored[:, *window.slices] = array
        self.times[window.slices] += 1


def _random_pair(height: int, width: int) -> ArrayPair:
    random = np.random.default_rng(height * width)
    before, after = random.random((2, 2, height, width), dtype=np.float32)
    valid = random.random((height, width)) > 0.1
    return ArrayPair(before, after, valid)


def _stitched(pair: ArrayPair, detector: KernelDetector | TorchDetector, plan: ChipPlan) -> NDArray[np.uint8]:
    sink = ArraySink((plan.height, plan.width))
    stitch(pair, detector, plan, sink)
    np.testing.assert_array_equal(sink.times, 1)
    return sink.stored


@pytest.mark.parametrize(("height", "width"), [(61, 47), (33, 129), (7, 64), (1, 1)])
@pytest.mark.parametrize(("chip", "halo", "stride"), [(3, 1, 1), (16, 1, 1), (17, 5, 1), (12, 4, 4), (32, 8, 4)])
def test_a_fixed_kernel_gives_the_same_bytes_tiled_and_whole(
    height: int, width: int, chip: int, halo: int, stride: int
) -> None:
    pair, detector = _random_pair(height, width), KernelDetector(stride)
    whole = plan_chips(height, width, chip=1024, halo=halo, stride=stride)
    tiled = plan_chips(height, width, chip=chip, halo=halo, stride=stride)
    np.testing.assert_array_equal(_stitched(pair, detector, tiled), _stitched(pair, detector, whole))


def test_without_a_halo_the_kernel_would_show_the_seams() -> None:
    pair, detector = _random_pair(61, 47), KernelDetector()
    whole = _stitched(pair, detector, plan_chips(61, 47, chip=64, halo=0, stride=1))
    tiled = _stitched(pair, detector, plan_chips(61, 47, chip=16, halo=0, stride=1))
    differs = (tiled != whole).any(axis=0)
    inner = np.zeros_like(differs)
    for start in range(0, 61, 16):
        inner[start + 1 : start + 15] = True
    assert differs.any()
    assert not differs[:, 1:15][inner[:, 1:15]].any()


def test_invalid_pixels_are_nodata_and_no_valid_one_is() -> None:
    pair = _random_pair(61, 47)
    stored = _stitched(pair, KernelDetector(), plan_chips(61, 47, chip=16, halo=1, stride=1))
    np.testing.assert_array_equal(stored[0] == NODATA, ~pair.valid)


def test_what_lies_under_invalid_pixels_changes_no_byte() -> None:
    pair = _random_pair(61, 47)
    other = ArrayPair(pair.before.copy(), pair.after.copy(), pair.valid)
    other.before[:, ~pair.valid], other.after[:, ~pair.valid] = 0.9, np.nan
    plan = plan_chips(61, 47, chip=16, halo=1, stride=1)
    np.testing.assert_array_equal(_stitched(other, KernelDetector(), plan), _stitched(pair, KernelDetector(), plan))


def test_a_chip_with_nothing_valid_is_not_asked_about() -> None:
    pair, detector = _random_pair(64, 64), KernelDetector()
    pair.valid[:, :32] = False
    stored = _stitched(pair, detector, plan_chips(64, 64, chip=16, halo=0, stride=1))
    assert detector.asked == 8
    assert (stored[0, :, :32] == NODATA).all()


def test_progress_hears_of_every_chip() -> None:
    heard: list[tuple[str, int, int]] = []
    plan = plan_chips(20, 20, chip=10, halo=0, stride=1)
    stitch(_random_pair(20, 20), KernelDetector(), plan, ArraySink((20, 20)), lambda *said: heard.append(said))
    assert heard == [("detect", done, 4) for done in range(1, 5)]


@pytest.mark.parametrize("further", [0, 1, 3])
def test_threads_that_read_change_no_byte(further: int) -> None:
    pair, detector = _random_pair(61, 47), KernelDetector()
    plan = plan_chips(61, 47, chip=16, halo=1, stride=1)
    serial = ArraySink((61, 47))
    for window in plan.chips:
        chip = pair.read(window.read)
        rows, cols = window.core.relative_to(window.read).slices
        probability = detector.predict(chip.before[None], chip.after[None])[0]
        serial.write(window.core, quantise(probability[:, rows, cols], chip.valid[rows, cols]))
    sink = ArraySink((61, 47))
    stitch(pair, detector, plan, sink, more=[_random_pair(61, 47) for _ in range(further)])
    np.testing.assert_array_equal(sink.stored, serial.stored)


def _half_equal(height: int, width: int) -> ArrayPair:
    pair = _random_pair(height, width)
    pair.after[:, :, : width // 2] = pair.before[:, :, : width // 2]
    return pair


def test_chips_in_flight_change_no_byte(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path / "tiny.safetensors"))
    random = np.random.default_rng(0)
    before, after = random.random((2, 4, 96, 128), dtype=np.float32)
    after[:, :, :64] = before[:, :, :64]
    pair = ArrayPair(before, after, random.random((96, 128)) > 0.1, RGBN)
    pair.valid[64:, 96:] = False
    plan = plan_chips(96, 128, chip=32, halo=0, stride=16)
    one_by_one, in_flight = TorchDetector(model, "cpu"), TorchDetector(model, "cpu")
    in_flight.in_flight = 2
    np.testing.assert_array_equal(_stitched(pair, in_flight, plan), _stitched(pair, one_by_one, plan))


def test_chips_whose_dates_are_equal_are_asked_about_once() -> None:
    detector = KernelDetector()
    plan = plan_chips(64, 64, chip=16, halo=0, stride=1)
    stored = _stitched(_half_equal(64, 64), detector, plan)
    # Of 16 chips 8 are equal: one is asked about, and noise, to see whether one answer holds for all.
    assert detector.asked == 8 + 2
    assert (stored[0, :, :32][_half_equal(64, 64).valid[:, :32]] == 0).all()


def test_a_halo_that_differs_makes_a_chip_differ() -> None:
    pair, detector, everything = _half_equal(64, 64), KernelDetector(), KernelDetector()
    plan = plan_chips(64, 64, chip=16, halo=1, stride=1)
    stored = _stitched(pair, detector, plan)
    whole = _stitched(pair, everything, plan_chips(64, 64, chip=64, halo=1, stride=1))
    np.testing.assert_array_equal(stored, whole)
    assert detector.asked < len(plan.chips)


@dataclass
class ImageDetector(KernelDetector):
    """Answers with the before image: equal dates do not settle its map."""

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        self.asked += 1
        return np.clip(before[:, :1], 0, 1)


def test_equal_dates_are_asked_about_where_the_answer_depends_on_what_they_show() -> None:
    pair, detector = _half_equal(64, 64), ImageDetector()
    stored = _stitched(pair, detector, plan_chips(64, 64, chip=16, halo=0, stride=1))
    np.testing.assert_array_equal(stored, quantise(np.clip(pair.before[:1], 0, 1), pair.valid))
    assert detector.asked == 16 + 1


@pytest.mark.parametrize("name", ["s2-urban", "s2-urban-rgbn"])
def test_a_shipped_model_has_one_answer_to_equal_dates_to_the_bit(name: str) -> None:
    pytest.importorskip("openvino", reason="has no wheel for this platform")
    for detector in (OpenVinoDetector(name), TorchDetector(load_model(name), "cpu")):
        land, noise = np.random.default_rng(0).random((2, 1, len(detector.bands), 64, 96), dtype=np.float32)
        np.testing.assert_array_equal(detector.predict(land / 4, land / 4), detector.predict(noise, noise))


def test_a_plan_for_another_size_is_refused() -> None:
    plan = plan_chips(20, 21, chip=10, halo=0, stride=1)
    with pytest.raises(ConfigError, match=r"20 x 21 px[\s\S]*\(20, 20\)"):
        stitch(_random_pair(20, 20), KernelDetector(), plan, ArraySink((20, 20)))


def _sample_pair(bands: int) -> ArrayPair:
    """Return the sample pair, its four bands again and again: what matters here is the network's arithmetic."""
    with open_pair(SAMPLE / "before.tif", SAMPLE / "after.tif", bands=RGBN) as pair:
        height, width = pair.geobox.shape
        chip = pair.read(Window(0, 0, height, width))
    channels = [index % 4 for index in range(bands)]
    return ArrayPair(chip.before[channels], chip.after[channels], chip.valid)


def _floats(pair: ArrayPair, detector: TorchDetector, plan: ChipPlan) -> NDArray[np.float32]:
    """Return what the cores of a plan say, float32 (H, W)."""
    answer = np.full((plan.height, plan.width), np.nan, dtype=np.float32)
    for window in plan.chips:
        chip = pair.read(window.read)
        rows, cols = window.core.relative_to(window.read).slices
        answer[window.core.slices] = detector.predict(chip.before[None], chip.after[None])[0, 0, rows, cols]
    return answer


@pytest.mark.parametrize("name", ["s2-urban", "s2-urban-rgbn"])
def test_a_shipped_model_with_its_field_as_halo_gives_the_same_map_tiled_and_whole(name: str) -> None:
    detector = TorchDetector(load_model(shipped_models()[name]), "cpu")
    pair, stride = _sample_pair(len(detector.bands)), detector.stride
    height, width = pair.valid.shape
    halo = -(-detector.field // stride) * stride
    chip = 2 * halo + 96 // stride * stride
    assert chip < min(height, width), "the sample is too small to be cut into chips"
    tiled = _floats(pair, detector, plan_chips(height, width, chip=chip, halo=halo, stride=stride))
    whole = _floats(pair, detector, plan_chips(height, width, chip=2048, halo=halo, stride=stride))
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5)
    _assert_bytes_differ_only_at_rounding_steps(tiled, whole)


def _assert_bytes_differ_only_at_rounding_steps(tiled: NDArray[np.float32], whole: NDArray[np.float32]) -> None:
    everywhere = np.ones(whole.shape, dtype=np.bool_)
    differs = quantise(tiled, everywhere) != quantise(whole, everywhere)
    to_step = np.abs(whole.astype(np.float64) * 254 % 1 - 0.5)
    assert (to_step[differs] <= 254e-5).all()
