from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changedet.batch.estimate import Probe, estimate
from changedet.batch.manifest import IDENTICAL, Mosaic
from changedet.grid import Lattice, Window
from tests.batch.manifests import manifest_of
from tests.data import geobox

GRID = geobox(100, 150)
AREAS = (Window(0, 0, 100, 70), Window(20, 60, 61, 90))


@st.composite
def batches(draw):
    """Return tiles of two mosaics, some skipped, and a lattice."""
    mosaics = [Mosaic(name, "b", "a", window) for name, window in zip("xy", AREAS, strict=True)]
    windows, names = [], []
    for _ in range(draw(st.integers(1, 8))):
        mosaic = draw(st.sampled_from(mosaics))
        row = draw(st.integers(0, mosaic.window.height - 1))
        col = draw(st.integers(0, mosaic.window.width - 1))
        height = draw(st.integers(1, mosaic.window.height - row))
        width = draw(st.integers(1, mosaic.window.width - col))
        windows.append(Window(mosaic.window.row + row, mosaic.window.col + col, height, width))
        names.append(mosaic.name)
    skip = draw(st.lists(st.sampled_from([None, None, IDENTICAL]), min_size=len(names), max_size=len(names)))
    halo, stride = draw(st.integers(0, 4)), 1
    lattice = Lattice(2 * halo + draw(st.integers(1, 40)), halo, stride, draw(st.booleans()))
    ids = [f"t{number}" for number in range(len(names))]
    return manifest_of(GRID, windows, mosaics, names=names, skip=skip, ids=ids), lattice


@settings(max_examples=80)
@given(batches())
def test_chips_are_counted_as_the_tiles_will_compute_them(batch):
    manifest, lattice = batch
    expected, different, pixels = 0, set(), 0
    chip_px = 0
    for tile in manifest.tiles():
        if tile.skip is None:
            area = manifest.mosaic(tile.mosaic).window
            plan = lattice.over(area.height, area.width)
            chips = plan.within(tile.window.relative_to(area)).chips
            expected += len(chips)
            chip_px += len(chips) * plan.chip_height * plan.chip_width
            different |= {(tile.mosaic, chip.read) for chip in chips}
            pixels += tile.window.height * tile.window.width
    found = estimate(manifest, Probe("kernel", lattice, 0.5, 2.0))
    assert found.chips == expected
    assert found.times == pytest.approx(expected / len(different) if expected else 1)
    assert (found.pixels, found.bytes) == (pixels, 2 * pixels)
    assert found.seconds == pytest.approx(0.5 * chip_px)
    skipped = sum(tile.skip is not None for tile in manifest.tiles())
    assert (found.tiles, dict(found.skipped)) == (len(manifest) - skipped, {IDENTICAL: skipped} if skipped else {})


def test_tiles_along_the_lattice_repeat_nothing():
    lattice = Lattice(32, 4, 4)
    rows, cols = lattice.edges(100), lattice.edges(150)
    windows = [
        Window(row, col, stop_row - row, stop_col - col)
        for row, stop_row in zip(rows[:-1:2], [*rows[2:-1:2], 100], strict=True)
        for col, stop_col in pairwise(cols)
    ]
    found = estimate(manifest_of(GRID, windows), Probe("kernel", lattice, 1.0, 1.0))
    assert found.times == 1
    assert found.chips == len(lattice.over(100, 150).chips)
    assert np.isclose(found.pixels, 100 * 150)
