"""From memory to chip size: the one place where bytes become pixels."""

from __future__ import annotations

import math

from changedet.detect.detector import ChangeDetector
from changedet.errors import ConfigError
from changedet.grid import ChipPlan, plan_chips

# Stored, float and filled copies of both dates, and the probability, while a chip is read (bytes a px and band).
READING_BYTES = 24
# Larger chips save little of the halo and cost time to the first result.
_LARGEST_CHIP = 2048


def plan_within(height: int, width: int, detector: ChangeDetector, *, halo: int, max_memory: int) -> ChipPlan:
    """Plan the chips of a raster so that the process stays below `max_memory` bytes.

    The chip size follows from the option alone, not from what memory is free: a run is the same on every machine.

    Args:
        height: rows of the raster.
        width: columns of the raster.
        detector: for its stride, its bands and the memory it takes.
        halo: px, rounded up to the stride.
        max_memory: bytes.

    Raises:
        ConfigError: there is no room for a chip with a core.
    """
    stride = detector.stride
    halo = -(-halo // stride) * stride
    per_px = detector.bytes_per_px + READING_BYTES * len(detector.bands)
    side = math.isqrt(max(0, int((max_memory - detector.base_bytes) / per_px)))
    chip = min(_LARGEST_CHIP, side // stride * stride)
    smallest = 2 * halo + stride
    whole = -(-max(height, width) // stride) * stride
    if chip < min(smallest, whole):
        needed = detector.base_bytes + per_px * min(smallest, whole) ** 2
        raise ConfigError(
            f"--max-memory of {max_memory / 1e9:.2g} GB is too little for a chip with a halo of {halo} px",
            expected=f"at least {needed / 1e9:.2f} GB",
        )
    return plan_chips(height, width, chip=chip, halo=halo, stride=stride)
