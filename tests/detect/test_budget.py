import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from changedet.detect.budget import CACHE_BYTES, cache_bytes, cache_bytes_of_polygons, lattice_within, plan_within
from changedet.errors import ConfigError
from changedet.grid import ChipPlan
from tests.data import write_raster
from tests.pairs import RGBN, SAMPLE


@dataclass(frozen=True)
class Hungry:
    """A detector of which only the appetite matters."""

    bands: tuple[str, ...] = RGBN
    classes: int = 1
    stride: int = 16
    halo: int = 64
    field: int = 106
    tiling: Any = "exact"
    chip_px: int | None = None
    base_bytes: int = 1_000_000_000
    bytes_per_px: float = 800.0

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        raise AssertionError("a plan needs no answer")


DETECTOR = Hungry()
PER_PX = DETECTOR.bytes_per_px + 4 * (8 + 6 + 12)  # bytes a band: in the network, decoded, being read


def _plan(**changes: Any) -> ChipPlan:
    return plan_within(5000, 4000, DETECTOR, **{"halo": 64, "max_memory": 2 * 10**9, **changes})


@given(max_memory=st.integers(min_value=1_050_000_000, max_value=64 * 10**9))
def test_a_chip_takes_no_more_than_its_share_and_all_of_it(max_memory: int) -> None:
    side = lattice_within(DETECTOR, halo=64, max_memory=max_memory, longest=5000).chip
    plan = _plan(max_memory=max_memory)
    assert max(plan.chip_height, plan.chip_width) <= side
    assert DETECTOR.base_bytes + PER_PX * side**2 <= max_memory
    assert side == 2048 or DETECTOR.base_bytes + PER_PX * (side + DETECTOR.stride) ** 2 > max_memory


def test_every_further_thread_that_reads_takes_a_chip_of_memory() -> None:
    sides = [_plan(readers=readers, max_memory=4 * 10**9).chip_height for readers in (1, 2, 4)]
    assert sides == sorted(sides, reverse=True)
    assert [_plan(readers=4, max_memory=4 * 10**9 + 3 * 4 * 12 * sides[0] ** 2).chip_height] == [sides[0]]


def test_the_block_cache_holds_what_lies_under_a_chip() -> None:
    plan = _plan(max_memory=8 * 10**9)
    assert cache_bytes(plan, 12) == 6 * 12 * plan.chip_height * plan.chip_width
    assert cache_bytes(_plan(max_memory=1_050_000_000), 1) == CACHE_BYTES


def test_the_halo_is_rounded_up_to_the_stride() -> None:
    assert _plan(halo=50).halo == 64


def test_chips_that_belong_to_a_model_have_their_size_whatever_the_memory() -> None:
    fixed = Hungry(tiling="fixed_chip", chip_px=96)
    for max_memory in (2 * 10**9, 64 * 10**9):
        plan = plan_within(500, 400, fixed, halo=16, max_memory=max_memory)
        assert {(chip.read.height, chip.read.width) for chip in plan.chips} == {(96, 96)}
        assert plan.halo == 16
    small = plan_within(500, 40, fixed, halo=16, max_memory=2 * 10**9)
    assert {(chip.read.height, chip.read.width) for chip in small.chips} == {(96, 48)}
    with pytest.raises(ConfigError, match="too little for a chip"):
        plan_within(500, 400, Hungry(tiling="fixed_chip", chip_px=1024), halo=16, max_memory=1_100_000_000)


def test_a_halo_of_none_is_none() -> None:
    assert _plan(halo=0).halo == 0


@pytest.mark.parametrize("over_base", [-500_000_000, 0, 10_000_000])
def test_too_little_memory_for_a_chip_is_refused_with_what_would_do(over_base: int) -> None:
    with pytest.raises(ConfigError, match=r"too little for a chip with a halo of 64 px[\s\S]*at least 1\.02 GB"):
        _plan(max_memory=DETECTOR.base_bytes + over_base)
    assert _plan(max_memory=1_020_000_000).chip_height == 144


def test_a_raster_smaller_than_a_chip_with_its_halo_needs_memory_for_itself_only() -> None:
    plan = plan_within(90, 70, DETECTOR, halo=64, max_memory=1_012_000_000)
    assert (plan.chip_height, plan.chip_width, len(plan.chips)) == (96, 80, 1)


def test_the_plan_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    here = _plan()
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    monkeypatch.setattr(os, "sysconf", lambda name: 2**40)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "MemAvailable: 1 kB")
    assert _plan() == here


# The peak of the process itself: getrusage would tell that of its parent too.
_RUN = """
import re, sys
from pathlib import Path
from changedet.detect.run import run
before, after, out, max_memory, backend = sys.argv[1:]
result = run(before, after, out, model="s2-urban-rgbn", max_memory=int(max_memory), backend=backend)
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(result.record["chips"]["chip_width"], peak)
"""


def _repeated(folder: Path, name: str, *, height: int, width: int) -> Path:
    """Write the sample scene again and again until it fills the size, and return the file's path."""
    with rasterio.open(SAMPLE / name) as sample:
        tile, nodata = sample.read(), sample.nodata
    times = (1, -(-height // tile.shape[1]), -(-width // tile.shape[2]))
    pixels = np.tile(tile, times)[:, :height, :width]
    return write_raster(folder / name, pixels, names=RGBN, nodata=nodata, tiled=True, blockxsize=256, blockysize=256)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read where Linux tells it")
@pytest.mark.parametrize(
    ("backend", "max_memory", "height", "width"),
    [("torch", 1_850_000_000, 640, 1200), ("openvino", 1_000_000_000, 1100, 1500)],
)
def test_a_run_stays_below_max_memory_and_makes_use_of_it(
    backend: str, max_memory: int, height: int, width: int, tmp_path: Path
) -> None:
    pytest.importorskip(backend, reason="has no wheel for this platform")
    scenes = [_repeated(tmp_path, name, height=height, width=width) for name in ("before.tif", "after.tif")]
    command = [sys.executable, "-c", _RUN, *scenes, tmp_path / "out", max_memory, backend]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    chip, peak = map(int, done.stdout.split())
    assert chip < width, "the raster is too small for what is to be measured"
    # Counted with the base is also what only a series and a worker of a batch hold beside the first chip: geopandas.
    assert 0.6 * max_memory < peak <= max_memory


def test_blocks_under_a_strip_stay_decoded_while_polygons_are_measured() -> None:
    # Two rows of blocks of 512 px, 20,000 px wide, three bands of uint16, at both dates: 246 MB.
    assert cache_bytes_of_polygons(2 * 10**9) >= 2 * 2 * 512 * 20_000 * 3 * 2
    assert cache_bytes_of_polygons(10**8) == CACHE_BYTES
