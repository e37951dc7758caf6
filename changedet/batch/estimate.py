"""What a plan will cost: chips, counted exactly; time, from chips that were timed here; and space, at most."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import rasterio
from numpy.typing import NDArray

from changedet.batch.manifest import MOSAIC, SKIP, WINDOW, Manifest
from changedet.batch.mosaics import MethodOf
from changedet.batch.sources import Pair
from changedet.config import RunConfig
from changedet.detect.budget import CACHE_BYTES, lattice_of
from changedet.detect.detector import ChangeDetector
from changedet.detect.ensemble import EnsembleDetector
from changedet.detect.fused import network_of
from changedet.detect.label_free import StatisticDetector
from changedet.detect.method import choose_method
from changedet.detect.prepare import prepare
from changedet.detect.scenes import reading_options
from changedet.detect.stitch import silent
from changedet.grid import Lattice, Window
from changedet.read.pair import RasterPair

# The first chip compiles the network and fills caches.
_TIMED: Final = 2
# What overviews add.
_OVERVIEWS: Final = 4 / 3


@dataclass(frozen=True, slots=True)
class Probe:
    """What one pair told of the work.

    Attributes:
        name: of the model or the detector.
        lattice: of the chips.
        seconds_per_px: to read and compute a pixel of a chip here.
        bytes_per_px: of all rasters of a tile, before compression.
        notes: what the user should know of the model and the imagery.
    """

    name: str
    lattice: Lattice
    seconds_per_px: float
    bytes_per_px: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan will cost.

    Attributes:
        tiles: that are to be computed.
        skipped: reason → tiles that need not be.
        pixels: of the tiles to be computed.
        chips: that will be computed, those of two tiles twice.
        times: how many times the chips of one run of the same ground they are.
        seconds: all chips, one after the other, on this machine.
        bytes: the results will take at most.
    """

    tiles: int
    skipped: Mapping[str, int]
    pixels: int
    chips: int
    times: float
    seconds: float
    bytes: int


def probe(pair: Pair, config: RunConfig, longest: int, method_of: MethodOf = choose_method) -> Probe:
    """Open a pair as a run would, and time chips in its middle.

    Args:
        pair: to look at, whole, whatever part of it is asked for.
        config: options of the run.
        longest: px, of the mosaics' sides.
        method_of: from scenes and options to what maps them.

    Raises:
        ChangeDetError: it cannot be mapped, or there is too little memory.
    """
    config = config.model_copy(update={"bounds": None, "aoi": None, "like": None, "res": ()})
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        method = method_of((pair.before, pair.after), config)
        before, after = pair.before.select(method.bands), pair.after.select(method.bands)
        with RasterPair(before, after, reading_options(config)) as raw:
            detector, _ = method.fit(raw, prepare(raw), silent)
            lattice = lattice_of(detector, method.name, config, longest=longest)
            seconds = _seconds_per_px(raw, detector, lattice)
            notes = tuple(method.notes(raw, config))
        method.release()
    return Probe(method.name, lattice, seconds, _bytes_per_px(detector, config), notes)


def _bytes_per_px(detector: ChangeDetector, config: RunConfig) -> float:
    """Return what a pixel takes in mask, probability, uncertainty and statistic, overviews included."""
    probability = detector.classes * np.dtype(config.probability_dtype).itemsize
    uncertainty = detector.classes if isinstance(network_of(detector), EnsembleDetector) else 0
    names = detector.fitted.statistic.names if isinstance(detector, StatisticDetector) else ()
    return (1 + probability + uncertainty + 4 * len(names)) * _OVERVIEWS


def _seconds_per_px(pair: RasterPair, detector: ChangeDetector, lattice: Lattice) -> float:
    """Return the time of a pixel of a chip in the middle of the pair, read and computed a second time."""
    height, width = map(int, pair.geobox.shape)
    side = lattice.side(height), lattice.side(width)
    row, col = (max(0, length - size) // 2 for length, size in zip((height, width), side, strict=True))
    window = Window(row, col, *side)
    seconds = 0.0
    for _ in range(_TIMED):
        started = time.perf_counter()
        chip = pair.read(window)
        detector.predict(chip.before[None], chip.after[None])
        seconds = time.perf_counter() - started
    return seconds / (side[0] * side[1])


def estimate(manifest: Manifest, probed: Probe) -> Estimate:
    """Count the chips of a plan and what they take."""
    wanted = manifest.table.filter(pc.is_null(manifest.table[SKIP]))
    windows = np.stack([wanted[name].to_numpy() for name in WINDOW], axis=1).astype(np.int64)
    names = pa.array([mosaic.name for mosaic in manifest.mosaics])
    which = pc.index_in(wanted[MOSAIC], value_set=names).to_numpy()
    windows_of = np.split(windows[np.argsort(which, kind="stable")], np.bincount(which, minlength=len(names)).cumsum())
    chips = once = 0
    seconds = 0.0
    for mosaic, own in zip(manifest.mosaics, windows_of[:-1], strict=True):
        met, different = _chips_of(own - (mosaic.window.row, mosaic.window.col, 0, 0), mosaic.window, probed.lattice)
        chips, once = chips + met, once + different
        chip_px = probed.lattice.side(mosaic.window.height) * probed.lattice.side(mosaic.window.width)
        seconds += met * chip_px * probed.seconds_per_px
    pixels = int((windows[:, 2] * windows[:, 3]).sum())
    skipped = pc.value_counts(manifest.table[SKIP].drop_null()).to_pylist()
    return Estimate(
        tiles=len(windows),
        skipped={entry["values"]: entry["counts"] for entry in skipped},
        pixels=pixels,
        chips=chips,
        times=chips / once if once else 1.0,
        seconds=seconds,
        bytes=round(pixels * probed.bytes_per_px),
    )


def _chips_of(windows: NDArray[np.int64], mosaic: Window, lattice: Lattice) -> tuple[int, int]:
    """Return how many chips windows of a mosaic meet, and how many different ones."""
    first_row, stop_row = _span(windows[:, 0], windows[:, 2], lattice.edges(mosaic.height))
    first_col, stop_col = _span(windows[:, 1], windows[:, 3], lattice.edges(mosaic.width))
    met = int(((stop_row - first_row) * (stop_col - first_col)).sum())
    # Corners of every window, summed along both axes: how many windows lie over each core.
    cover = np.zeros((int(stop_row.max(initial=0)) + 1, int(stop_col.max(initial=0)) + 1), np.int32)
    np.add.at(cover, (first_row, first_col), 1)
    np.add.at(cover, (stop_row, stop_col), 1)
    np.add.at(cover, (first_row, stop_col), -1)
    np.add.at(cover, (stop_row, first_col), -1)
    for axis in (0, 1):
        cover.cumsum(axis=axis, out=cover)
    return met, int((cover > 0).sum())


def _span(
    first: NDArray[np.int64], size: NDArray[np.int64], edges: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first core that each span of pixels meets, and the one after the last."""
    starts = np.array(edges[:-1])
    return np.searchsorted(starts, first, side="right") - 1, np.searchsorted(starts, first + size, side="left")
