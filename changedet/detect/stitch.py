"""Chip by chip through the detector; of each only the core is kept, and every pixel is written exactly once."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from changedet.detect.detector import ChangeDetector
from changedet.errors import ConfigError
from changedet.grid import ChipPlan, Window
from changedet.grid.quantise import NODATA, quantise
from changedet.read import BiTemporalPair
from changedet.read.pair import Chip


class WindowSink(Protocol):
    """Takes windows of the result, in any order, each pixel once."""

    def write(self, window: Window, array: NDArray[np.uint8]) -> None:
        """Take the stored probabilities (K, H, W) of one window."""
        ...


class Progress(Protocol):
    """Hears how far a stage has come."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` units of `stage` are finished."""
        ...


def silent(stage: str, done: int, total: int) -> None:
    """Ignore progress."""


def stitch(
    pair: BiTemporalPair, detector: ChangeDetector, plan: ChipPlan, sink: WindowSink, progress: Progress = silent
) -> None:
    """Write the stored probability of every pixel of the plan to the sink.

    Raises:
        ConfigError: the plan is of another size than the pair.
        SceneError: a chip cannot be read.
    """
    if (plan.height, plan.width) != tuple(pair.geobox.shape):
        raise ConfigError(
            f"a plan for {plan.height} x {plan.width} px", expected=f"{tuple(pair.geobox.shape)}, the pair"
        )
    for done, chip_window in enumerate(plan.chips, start=1):
        chip = pair.read(chip_window.read)
        sink.write(chip_window.core, _core(chip, chip_window.core, detector))
        progress("detect", done, len(plan.chips))


def _core(chip: Chip, core: Window, detector: ChangeDetector) -> NDArray[np.uint8]:
    """Return stored probabilities (K, H, W) of a chip's core."""
    rows, cols = core.relative_to(chip.window).slices
    valid = chip.valid[rows, cols]
    if not valid.any():
        # Nothing to say there, and the network need not be asked: exact, as its answer would not be kept.
        return np.full((detector.classes, core.height, core.width), NODATA, dtype=np.uint8)
    probability = detector.predict(chip.before[None], chip.after[None])[0]
    return quantise(probability[:, rows, cols], valid)
