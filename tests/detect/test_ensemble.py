from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rio_cogeo.cogeo import cog_validate

from changedet.detect.ensemble import EnsembleDetector
from changedet.detect.pipe import Halves
from changedet.detect.run import run
from changedet.detect.stitch import stitch
from changedet.detect.torch_detector import TorchDetector
from changedet.errors import ConfigError, ModelError, PairError
from changedet.grid import Window, plan_chips
from changedet.network.package import load_model
from changedet.read.pair import open_pair
from tests.commands import call
from tests.pairs import RGBN, crop_sample, tiny_model

Floats = NDArray[np.float32]


class _Local(TorchDetector):
    """The probability is the gain of the first band, blurred by a kernel (3 x 3): equivariant where that is."""

    kernel = np.ones((3, 3), np.float32) / 9

    def _compute(self, before: Floats, after: Floats) -> Floats:
        gain = np.pad((after - before)[:, :1], ((0, 0), (0, 0), (1, 1), (1, 1)))
        height, width = before.shape[2:]
        shifted = [self.kernel[r, c] * gain[..., r : r + height, c : c + width] for r in range(3) for c in range(3)]
        return np.sum(shifted, axis=0, dtype=np.float32).clip(0, 1)


class _Leaning(_Local):
    kernel = np.array([[0, 0, 0], [0, 0.5, 0.5], [0, 0, 0]], np.float32)


class _Centre(_Local):
    kernel = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny.safetensors")


def _images(height: int = 32, width: int = 48, bands: int = 4) -> tuple[Floats, Floats]:
    before, after = np.random.default_rng(0).random((2, 1, bands, height, width), dtype=np.float32)
    return before / 2, after / 2 + 0.5


def test_turning_an_equivariant_detector_leaves_its_answer_and_no_spread(path: Path) -> None:
    detector = _Centre(load_model(path), "cpu")
    images = _images()
    both = EnsembleDetector([detector], turned=True).predict(*images)
    np.testing.assert_array_equal(both[:, :1], detector.predict(*images))
    assert not both[:, 1:].any()


def test_turning_a_leaning_detector_gives_mean_and_deviation_of_its_eight_answers(path: Path) -> None:
    """Its neighbour lies right, up, left and below in turn, and again when mirrored."""
    before, after = _images()
    both = EnsembleDetector([_Leaning(load_model(path), "cpu")], turned=True).predict(before, after)
    gain = np.pad((after - before)[0, 0], 1)
    neighbours = [gain[1:-1, 2:], gain[:-2, 1:-1], gain[1:-1, :-2], gain[2:, 1:-1]]
    answers = np.stack([0.5 * (gain[1:-1, 1:-1] + neighbour) for neighbour in neighbours])
    np.testing.assert_allclose(both[0, 0], answers.mean(0), atol=1e-6)
    np.testing.assert_allclose(both[0, 1], answers.std(0), atol=1e-6)
    assert both[0, 1].max() > 0.05


def test_an_ensemble_is_the_mean_of_its_models_each_with_its_bands(tmp_path: Path) -> None:
    one = tiny_model(tmp_path / "one.safetensors", threshold=0.4)
    two = tiny_model(tmp_path / "two.safetensors", bands=("B12", "B04"), threshold=0.6, halo_px=80)
    members = [TorchDetector(load_model(file), "cpu") for file in (one, two)]
    ensemble = EnsembleDetector(members, turned=False)
    assert ensemble.bands == (*RGBN, "B12")
    assert (ensemble.card.name, ensemble.card.threshold) == ("one+two", 0.5)
    assert (ensemble.halo, ensemble.field, ensemble.stride) == (80, 106, 16)
    before, after = _images(bands=5)
    parts = [
        members[0].predict(before[:, :4], after[:, :4]),
        members[1].predict(before[:, [4, 0]], after[:, [4, 0]]),
    ]
    both = ensemble.predict(before, after)
    np.testing.assert_allclose(both[:, :1], np.mean(parts, axis=0), atol=1e-6)
    np.testing.assert_allclose(both[:, 1:], np.std(parts, axis=0), atol=1e-6)


def test_the_halo_holds_for_turned_images(path: Path, tmp_path: Path) -> None:
    """A network tiled with its whole field is the network on the whole, also when it is turned."""
    torch.manual_seed(0)
    pair_files = crop_sample(tmp_path, row=0, col=0, height=272, width=240)
    ensemble = EnsembleDetector([TorchDetector(load_model(path), "cpu")], turned=True)
    stored = []
    with open_pair(*pair_files, bands=RGBN) as pair:
        for chip in (256, 272):
            plan = plan_chips(272, 240, chip=chip, halo=112, stride=16)
            sinks = _Array((272, 240)), _Array((272, 240))
            stitch(pair, ensemble, plan, Halves(*sinks))
            stored.append([sink.stored for sink in sinks])
    for tiled, whole in zip(*stored, strict=True):
        assert np.abs(tiled.astype(int) - whole).max() <= 1
        assert (tiled != whole).mean() < 1e-3


class _Array:
    def __init__(self, shape: tuple[int, int]) -> None:
        self.stored = np.zeros(shape, np.uint8)

    def write(self, window: Window, array: NDArray[np.uint8]) -> None:
        self.stored[window.slices] = array[0]


def test_models_that_cannot_be_averaged_are_refused(tmp_path: Path) -> None:
    whole = tiny_model(tmp_path / "whole.safetensors")
    fixed = tiny_model(tmp_path / "fixed.safetensors", tiling="fixed_chip", chip_px=256, receptive_field_px=None)
    members = [TorchDetector(load_model(file), "cpu") for file in (whole, fixed)]
    with pytest.raises(ModelError, match="whole has tiling exact, fixed fixed_chip"):
        EnsembleDetector(members, turned=False)


def test_a_run_of_two_models_writes_how_far_they_differ(tmp_path: Path) -> None:
    before, after = crop_sample(tmp_path)
    one, two = (tiny_model(tmp_path / f"{name}.safetensors", bands=bands) for name, bands in _MODELS.items())
    out = tmp_path / "out"
    options = ("--backend", "torch", "--device", "cpu")
    result = call("run", before, after, "-o", out, "--model", one, "--model", two, "--tta", *options)
    assert result.exit_code == 0, result.output
    assert cog_validate(out / "uncertainty.tif", quiet=True)[0]
    with rasterio.open(out / "uncertainty.tif") as spread, rasterio.open(out / "probability.tif") as probability:
        assert (spread.shape, spread.transform, spread.nodata) == (probability.shape, probability.transform, 255)
        assert spread.scales == pytest.approx((1 / 254,))
        assert spread.descriptions == ("uncertainty",)
        assert spread.tags()["MODEL"] == "one+two"
        values, invalid = spread.read(1), probability.read(1) == 255
    assert np.array_equal(values == 255, invalid)
    assert 0 < values[~invalid].max() <= 127
    again = call(
        "run",
        before,
        after,
        "-o",
        tmp_path / "again",
        "--reuse-from",
        out,
        "--threshold",
        0.9,
        "--model",
        one,
        "--model",
        two,
        "--tta",
        *options,
    )
    assert again.exit_code == 0, again.output
    with rasterio.open(tmp_path / "again" / "uncertainty.tif") as spread:
        assert np.array_equal(spread.read(1), values)


_MODELS = {"one": RGBN, "two": ("B08", "B02")}


def test_a_run_of_one_model_writes_no_uncertainty(tmp_path: Path, path: Path) -> None:
    result = run(*crop_sample(tmp_path), tmp_path / "out", model=str(path), backend="torch", device="cpu")
    assert not result.path("uncertainty.tif").exists()


def test_members_are_checked_like_a_model(tmp_path: Path, path: Path) -> None:
    pair = crop_sample(tmp_path)
    with pytest.raises(ModelError, match="not free for commercial use"):
        run(*pair, tmp_path / "out", model=str(path), ensemble=("s2-urban-rgbn",), free_only=True)
    with pytest.raises(ConfigError, match="ensemble adds models to `model`"):
        run(*pair, tmp_path / "out", ensemble=(str(path),))
    assert not (tmp_path / "out").exists()


def test_every_member_is_asked_whether_it_knows_such_pixels(path: Path, tmp_path: Path) -> None:
    pair, options = crop_sample(tmp_path), {"model": str(path), "report": False}
    near, far = (str(tiny_model(tmp_path / f"m{pixel}.safetensors", resolution_m=pixel)) for pixel in (20, 1))
    with pytest.raises(PairError, match="pixels of 10 m, where m1 learned from 1 m"):
        run(*pair, tmp_path / "far", ensemble=(far,), **options)
    record = run(*pair, tmp_path / "near", ensemble=(near,), **options).record
    assert record["warnings"] == ["pixels of 10 m, where m20 learned from 20 m: expect a poorer map"]
