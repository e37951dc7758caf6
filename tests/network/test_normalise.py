import math

import pytest
import torch

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.network.normalise import EPSILON, LogReflectance


def test_neutral_reflectance_is_zero() -> None:
    assert LogReflectance()(torch.tensor(NEUTRAL_REFLECTANCE)).item() == pytest.approx(0, abs=1e-6)


def test_formula_and_clipping() -> None:
    scaled = LogReflectance()(torch.tensor([-0.5, 0.0, 1.0]))
    dark, bright = math.log(EPSILON / (0.1 + EPSILON)), math.log((1 + EPSILON) / (0.1 + EPSILON))
    assert scaled.tolist() == pytest.approx([dark, dark, bright], rel=1e-6)


def test_a_chip_looks_the_same_as_in_its_scene() -> None:
    scene = torch.rand(1, 3, 40, 40)
    assert torch.equal(LogReflectance()(scene)[..., 8:24, 8:24], LogReflectance()(scene[..., 8:24, 8:24]))
