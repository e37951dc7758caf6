import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changedet.detect.budget import BASE_BYTES, READING_BYTES, plan_within
from changedet.detect.detector import NetworkDetector
from changedet.errors import ConfigError
from changedet.network.package import load_model
from tests.pairs import tiny_model

BYTES_PER_PX = 800.0
PER_PX = BYTES_PER_PX + 4 * READING_BYTES


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> NetworkDetector:
    return NetworkDetector(load_model(tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")), "cpu")


def _plan(detector: NetworkDetector, **changes: Any) -> Any:
    arguments = {"halo": 64, "max_memory": 2 * 10**9, "bytes_per_px": BYTES_PER_PX}
    return plan_within(5000, 4000, detector, **{**arguments, **changes})


@given(max_memory=st.integers(min_value=1_050_000_000, max_value=64 * 10**9))
def test_a_chip_takes_no_more_than_its_share_and_all_of_it(detector: NetworkDetector, max_memory: int) -> None:
    side = _plan(detector, max_memory=max_memory).chip_height
    assert BASE_BYTES + PER_PX * side**2 <= max_memory
    assert side == 2048 or BASE_BYTES + PER_PX * (side + detector.stride) ** 2 > max_memory


def test_the_halo_is_rounded_up_to_the_stride(detector: NetworkDetector) -> None:
    assert _plan(detector, halo=50).halo == 64


def test_a_halo_of_none_is_none(detector: NetworkDetector) -> None:
    assert _plan(detector, halo=0).halo == 0


@pytest.mark.parametrize("max_memory", [BASE_BYTES // 2, BASE_BYTES, BASE_BYTES + 10_000_000])
def test_too_little_memory_for_a_chip_is_refused_with_what_would_do(detector: NetworkDetector, max_memory: int) -> None:
    with pytest.raises(ConfigError, match=r"too little for a chip with a halo of 64 px[\s\S]*at least 1\.02 GB"):
        _plan(detector, max_memory=max_memory)
    assert _plan(detector, max_memory=1_020_000_000).chip_height == 144


def test_a_raster_smaller_than_a_chip_with_its_halo_needs_memory_for_itself_only(detector: NetworkDetector) -> None:
    plan = plan_within(90, 70, detector, halo=64, max_memory=1_012_000_000, bytes_per_px=BYTES_PER_PX)
    assert (plan.chip_height, plan.chip_width, len(plan.chips)) == (96, 80, 1)


def test_the_plan_does_not_depend_on_the_machine(detector: NetworkDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    here = _plan(detector)
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    monkeypatch.setattr(os, "sysconf", lambda name: 2**40)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "MemAvailable: 1 kB")
    assert _plan(detector) == here
