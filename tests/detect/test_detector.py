from pathlib import Path

import numpy as np
import pytest
import torch

from changedet.detect.detector import NetworkDetector
from changedet.errors import ConfigError
from changedet.network.package import load_model
from tests.pairs import RGBN, tiny_model


def test_a_network_answers_as_its_model_does(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path / "tiny.safetensors"))
    detector = NetworkDetector(model, "cpu")
    before, after = np.random.default_rng(0).random((2, 1, 4, 32, 48), dtype=np.float32)
    expected = model.probability(torch.from_numpy(before), torch.from_numpy(after)).numpy()
    np.testing.assert_array_equal(detector.predict(before, after), expected)
    assert (detector.bands, detector.classes, detector.stride) == (RGBN, 1, 16)
    assert (detector.halo, detector.field, detector.tiling) == (64, 106, "exact")


@pytest.mark.parametrize("device", ["cuda:63", "tpu"])
def test_a_device_that_is_not_there_is_refused(tmp_path: Path, device: str) -> None:
    model = load_model(tiny_model(tmp_path / "tiny.safetensors"))
    with pytest.raises(ConfigError, match=f"device {device} is not on this machine"):
        NetworkDetector(model, device)
