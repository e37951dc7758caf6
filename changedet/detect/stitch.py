"""Chip by chip through the detector; of each only the core is kept, and every pixel is written exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from changedet.detect.detector import ChangeDetector, NetworkDetector
from changedet.detect.fused import FusedDetector, around_core, network_of
from changedet.detect.label_free import StatisticDetector
from changedet.detect.pipe import ReadAhead, WindowSink, WriteBehind, answered
from changedet.errors import ConfigError
from changedet.grid import ChipPlan, ChipWindow, Window
from changedet.grid.quantise import stored_as
from changedet.read import BiTemporalPair
from changedet.read.pair import Chip


class StatisticSink(Protocol):
    """Takes windows of a statistic, in any order, each pixel once."""

    def write(self, window: Window, array: NDArray[np.float32]) -> None:
        """Take the statistic (S, H, W) of one window, NaN where invalid."""
        ...


class Progress(Protocol):
    """Hears how far a stage has come."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` units of `stage` are finished."""
        ...


def silent(stage: str, done: int, total: int) -> None:
    """Ignore progress."""


def stitch(
    pair: BiTemporalPair,
    detector: ChangeDetector,
    plan: ChipPlan,
    sink: WindowSink,
    progress: Progress = silent,
    *,
    more: Sequence[BiTemporalPair] = (),
    statistic: StatisticSink | None = None,
    dtype: str = "uint8",
    answers: Answers | None = None,
) -> None:
    """Write the stored probability of every pixel of the plan to the sink.

    Chips are read ahead and results written behind in threads; the bytes are those of one step after the other.

    Args:
        pair: what is compared; meanwhile another thread's.
        detector: what tells change.
        plan: its chips.
        sink: takes the cores, from another thread, one at a time.
        progress: hears of every chip.
        more: the same pair opened again, for further threads that read.
        statistic: takes what a label-free detector has its probabilities from.
        dtype: the probabilities are stored as, see `changedet.grid.quantise`.
        answers: of this detector, where it was asked about other chips of this plan before.

    Raises:
        ConfigError: the plan is of another size than the pair.
        SceneError: a chip cannot be read.
    """
    if (plan.height, plan.width) != tuple(pair.geobox.shape):
        raise ConfigError(
            f"a plan for {plan.height} x {plan.width} px", expected=f"{tuple(pair.geobox.shape)}, the pair"
        )
    answers = answers or Answers(detector)
    network = network_of(detector)
    ahead = network.in_flight if isinstance(network, NetworkDetector) else 0

    def ask(item: tuple[ChipWindow, Chip]) -> NDArray[np.float32] | None:
        return None if isinstance(detector, StatisticDetector) else _answer(item[1], item[0].core, answers)

    with ReadAhead((pair, *more), [chip.read for chip in plan.chips]) as chips, WriteBehind(sink) as behind:
        asked = answered(ask, zip(plan.chips, chips, strict=True), ahead)
        for done, ((planned, chip), answer) in enumerate(asked, start=1):
            if statistic is not None and isinstance(detector, StatisticDetector):
                probability, values = _measured_core(chip, planned.core, detector, dtype)
                statistic.write(planned.core, values)
            else:
                probability = _core(chip, planned.core, answer, detector, dtype)
            behind.write(planned.core, probability)
            progress("detect", done, len(plan.chips))


def _measured_core(
    chip: Chip, core: Window, detector: StatisticDetector, dtype: str
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return stored probabilities (1, H, W) and the statistic (S, H, W) of a chip's core."""
    rows, cols = core.relative_to(chip.window).slices
    valid = chip.valid[rows, cols]
    probability, statistic = detector.measure(chip)
    stored = stored_as(dtype, probability[:, rows, cols], valid)
    return stored, np.where(valid, statistic[:, rows, cols], np.float32(np.nan))


def _answer(chip: Chip, core: Window, answers: Answers) -> NDArray[np.float32] | None:
    """Return the detector's answer (K, H, W) at a chip's core, and around it as it needs, None where nothing is valid.

    The network need not be asked there: exact, as its answer would not be kept.
    """
    inside = core.relative_to(chip.window)
    if not chip.valid[inside.slices].any():
        return None
    return answers.to(chip)[:, *around_core(answers.detector, inside, chip).slices]


def _core(
    chip: Chip, core: Window, answer: NDArray[np.float32] | None, detector: ChangeDetector, dtype: str
) -> NDArray[Any]:
    """Return stored probabilities (K, H, W) of a chip's core, from the answer there."""
    inside = core.relative_to(chip.window)
    valid = chip.valid[inside.slices]
    if answer is None:
        return stored_as(dtype, np.zeros((detector.classes, *valid.shape), np.float32), valid)
    if isinstance(detector, FusedDetector):
        answer = detector.join(answer, chip, inside)
    return stored_as(dtype, answer, valid)


class Answers:
    """A detector's answers, where two equal dates are asked about once, if it has one answer to them.

    A network that compares |f1 - f2| has, whatever the dates show. That is not taken on trust: the answer to the first
    chip whose dates are equal is compared, bit by bit, with that to noise, and where they differ every chip is asked.
    What a fused detector joins with its network's answer is left to `stitch`.
    """

    def __init__(self, detector: ChangeDetector) -> None:
        self.detector = detector
        self._to_equal: NDArray[np.float32] | None = None
        self._has_one = True
        self._lock = Lock()

    def to(self, chip: Chip) -> NDArray[np.float32]:
        """Return probabilities (K, H, W), float32."""
        if not self._has_one or not _are_equal(chip.before, chip.after):
            return self._asked(chip.before, chip.after)
        with self._lock:
            if self._to_equal is None or self._to_equal.shape[1:] != chip.valid.shape:
                noise = np.random.default_rng(0).random(chip.before.shape, dtype=np.float32)
                self._to_equal = self._asked(chip.before, chip.after)
                self._has_one = np.array_equal(self._to_equal, self._asked(noise, noise))
                return self._to_equal
            if self._has_one:
                return self._to_equal
        return self._asked(chip.before, chip.after)

    def _asked(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = network_of(self.detector).predict(before[None], after[None])[0]
        return answer


def _are_equal(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Return whether two dates are equal; where they are not, their first row nearly always tells."""
    return np.array_equal(before[:, :1], after[:, :1]) and np.array_equal(before, after)
