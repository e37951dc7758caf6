"""From memory to chip size: the one place where bytes become pixels."""

from __future__ import annotations

import math

from odc.geo.geobox import GeoBox

from changedet.config import RunConfig
from changedet.detect.detector import ChangeDetector
from changedet.errors import ConfigError
from changedet.grid import ChipPlan, Lattice

# Both dates of the chip that the network is at, as float32 (bytes a px and band).
_CHIP_BYTES = 8
# A chip that a thread reads: both dates as float32, and what is worked on in strips. Measured: 9, resampled 11 to 14.
_READING_BYTES = 12
# What GDAL keeps decoded, so that the blocks on the edge of two neighbouring chips are decoded once: both dates' blocks
# under a chip, 2 bytes a value, and half as much again for the parts of blocks beyond it.
_BLOCK_BYTES = 6
# What GDAL may keep in any case, counted with the detector's base. By default it is 5 % of the machine's memory, which
# --max-memory would not know of.
CACHE_BYTES = 64 * 2**20
# Polygons, their attributes and COGs beside them. Measured with the least cache: 0.77 GB, 370,000 polygons in
# 10,000 x 10,000 px and three COGs.
_POLYGONS_BYTES = 800_000_000
# What the process grows by for each byte that GDAL may keep there: two threads take blocks and give them back.
_POLYGONS_CACHE_GROWTH = 2.5
# Larger chips save little of the halo and cost time to the first result.
_LARGEST_CHIP = 2048


def plan_chips_of(geobox: GeoBox, detector: ChangeDetector, name: str, config: RunConfig) -> ChipPlan:
    """Return the chips of a grid; see `lattice_of`.

    Raises:
        ConfigError: an exact halo of a model that has none, or too little memory.
    """
    height, width = geobox.shape
    return lattice_of(detector, name, config, longest=max(height, width)).over(height, width)


def lattice_of(detector: ChangeDetector, name: str, config: RunConfig, *, longest: int) -> Lattice:
    """Return what the chips follow from: the halo of the detector called `name`, and the memory it may take.

    Args:
        detector: fitted, where it is one that learns of the pair.
        name: of it, for errors.
        config: options of the run.
        longest: px, of the rasters' sides; only whether there is room for a chip depends on it.

    Raises:
        ConfigError: an exact halo of a model that has none, or too little memory.
    """
    if config.halo == "exact" and detector.tiling != "exact":
        raise ConfigError(
            f"--halo exact with {name}, whose answer depends on the whole chip",
            expected="a model whose card says tiling: exact",
        )
    halo = {"default": detector.halo, "exact": detector.field}.get(config.halo, config.halo)  # type: ignore[arg-type]  # an int is no key, and so itself
    return lattice_within(
        detector, halo=int(halo), max_memory=config.max_memory, longest=longest, readers=config.readers
    )


def plan_within(
    height: int, width: int, detector: ChangeDetector, *, halo: int, max_memory: int, readers: int = 1
) -> ChipPlan:
    """Plan the chips of a raster of `height` x `width` px; see `lattice_within`."""
    longest = max(height, width)
    lattice = lattice_within(detector, halo=halo, max_memory=max_memory, longest=longest, readers=readers)
    return lattice.over(height, width)


def lattice_within(detector: ChangeDetector, *, halo: int, max_memory: int, longest: int, readers: int = 1) -> Lattice:
    """Return what chips follow from so that the process stays below `max_memory` bytes.

    The chip size follows from the option alone, not from what memory is free: a run is the same on every machine. A
    detector whose chips are fixed has them as they are, smaller only where the raster is.

    Args:
        detector: for its stride, its bands and the memory it takes.
        halo: px, rounded up to the stride.
        max_memory: bytes.
        longest: px, see `lattice_of`.
        readers: threads that read chips.

    Raises:
        ConfigError: there is no room for a chip with a core.
    """
    stride = detector.stride
    halo = -(-halo // stride) * stride
    per_px = detector.bytes_per_px + _bytes_per_band(readers) * len(detector.bands)
    side = math.isqrt(max(0, int((max_memory - detector.base_bytes) / per_px)))
    chip = min(detector.chip_px or _LARGEST_CHIP, side // stride * stride)
    smallest = detector.chip_px or 2 * halo + stride
    whole = -(-longest // stride) * stride
    if chip < min(smallest, whole):
        needed = detector.base_bytes + per_px * min(smallest, whole) ** 2
        raise ConfigError(
            f"--max-memory of {max_memory / 1e9:.4g} GB is too little for a chip with a halo of {halo} px",
            expected=f"at least {math.ceil(needed / 1e7) / 100:.2f} GB",
        )
    return Lattice(chip, halo, stride, fixed=detector.chip_px is not None)


def cache_bytes(plan: ChipPlan, bands: int) -> int:
    """Return how much GDAL may keep decoded while the chips of a plan are read."""
    return max(CACHE_BYTES, _BLOCK_BYTES * bands * plan.chip_height * plan.chip_width)


def cache_bytes_of_polygons(max_memory: int) -> int:
    """Return how much GDAL may keep decoded while polygons are measured on the scenes' pixels.

    That goes strip by strip over both dates, band by band: unless the blocks under a strip stay decoded, each is
    decoded again for every band and every strip. The network is released by then.
    """
    return max(CACHE_BYTES, int((max_memory - _POLYGONS_BYTES) / _POLYGONS_CACHE_GROWTH))


def _bytes_per_band(readers: int) -> int:
    """Return what a px of a chip takes in one band, beside the network, with one chip in it and the others ahead."""
    return _CHIP_BYTES + _BLOCK_BYTES + readers * _READING_BYTES
