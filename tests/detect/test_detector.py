from pathlib import Path

import numpy as np
import pytest
import torch

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.detect.torch_detector import TorchDetector
from changedet.errors import ConfigError, ModelError
from changedet.network.package import load_model
from tests.pairs import RGBN, tiny_model


def test_a_network_answers_as_its_model_does(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path / "tiny.safetensors"))
    detector = TorchDetector(model, "cpu")
    before, after = np.random.default_rng(0).random((2, 1, 4, 32, 48), dtype=np.float32)
    expected = model.probability(torch.from_numpy(before), torch.from_numpy(after)).numpy()
    np.testing.assert_array_equal(detector.predict(before, after), expected)
    assert (detector.bands, detector.classes, detector.stride) == (RGBN, 1, 16)
    assert (detector.halo, detector.field, detector.tiling) == (64, 106, "exact")


def test_an_optional_band_that_is_not_given_is_neutral_at_both_dates(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path / "tiny.safetensors", optional_bands=("B03", "B08")))
    before, after = np.random.default_rng(0).random((2, 1, 4, 32, 48), dtype=np.float32)
    before[:, 1] = after[:, 1] = NEUTRAL_REFLECTANCE  # B03
    lacking = TorchDetector(model, "cpu", ("B04", "B02", "B08"))
    kept = [0, 2, 3]
    expected = TorchDetector(model, "cpu").predict(before, after)
    np.testing.assert_array_equal(lacking.predict(before[:, kept], after[:, kept]), expected)
    assert lacking.bands == ("B04", "B02", "B08")


@pytest.mark.parametrize("bands", [("B04", "B02"), ("B02", "B03", "B04", "B08"), (*RGBN, "B11")])
def test_other_bands_than_the_model_can_do_with_are_refused(tmp_path: Path, bands: tuple[str, ...]) -> None:
    model = load_model(tiny_model(tmp_path / "tiny.safetensors", optional_bands=("B03",)))
    with pytest.raises(ModelError, match="model tiny is given the bands"):
        TorchDetector(model, "cpu", bands)


@pytest.mark.parametrize("device", ["cuda:63", "tpu"])
def test_a_device_that_is_not_there_is_refused(tmp_path: Path, device: str) -> None:
    model = load_model(tiny_model(tmp_path / "tiny.safetensors"))
    with pytest.raises(ConfigError, match=f"device {device} is not on this machine"):
        TorchDetector(model, device)
