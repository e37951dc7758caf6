"""A network's answer, moved by how far the change is above the noise of that very pair.

A network that has learned from other places knows what change looks like, but not how different the dates of this pair
are where nothing changed: another season, sun and haze. `UrbanChange`, fitted to the pair, knows that, and nothing
else. Their logits are added, as those of independent witnesses are; how much the second counts is on the model's card.
Then, where the card says so, each pixel's odds follow from what seems to change around it, see
`changedet.stats.neighbourhood`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from changedet.detect.detector import ChangeDetector, NetworkDetector
from changedet.detect.sample import moments_of
from changedet.grid import Window
from changedet.read.pair import BiTemporalPair, Chip
from changedet.stats.moments import Moments
from changedet.stats.neighbourhood import RADIUS, reinforced
from changedet.stats.urban import UrbanChange, fit_urban, joined, strips

# The statistic and the joined answer, float32. All else of it is of a strip, 50 MB that the base has room for.
_BYTES_PER_PX: Final = 8.0
# What is averaged around each pixel, the average, and what both become.
_NEIGHBOURHOOD_BYTES_PER_PX: Final = 16.0


@dataclass(frozen=True, slots=True)
class PairTerm:
    """What was fitted to the pair.

    Attributes:
        statistic: of it.
        pixels: how many valid ones it was fitted to.
    """

    statistic: UrbanChange
    pixels: int

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data, for run.json."""
        return {"pixels": self.pixels, **self.statistic.as_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what `as_json` wrote."""
        return cls(UrbanChange.from_json(record), record["pixels"])


class FusedDetector(NetworkDetector):
    """A network detector whose probabilities are joined with `UrbanChange` of the pair.

    Args:
        network: it asks.
        term: fitted to the pair, in the network's bands.
    """

    def __init__(self, network: NetworkDetector, term: PairTerm) -> None:
        super().__init__(network.card, network.digest, network.bands)
        self.network, self.term = network, term
        self.backend, self.device, self.precision = network.backend, network.device, network.precision
        self._reach = RADIUS if self.card.neighbour_weight else 0
        # A margin for the statistic, in whole strides, as chips begin at multiples of one. A chip that belongs to the
        # model is all that its pixels know of.
        margin = term.statistic.halo + (self._reach if self.tiling == "exact" else 0)
        self._least = -(-margin // self.stride) * self.stride

    @property
    def halo(self) -> int:
        """See `ChangeDetector`."""
        return max(self.network.halo, self._least)

    @property
    def field(self) -> int:
        """See `ChangeDetector`."""
        return max(self.network.field + self._reach, self._least)

    @property
    def classes(self) -> int:
        """See `ChangeDetector`."""
        return self.network.classes

    @property
    def base_bytes(self) -> int:
        """See `ChangeDetector`."""
        return self.network.base_bytes

    @property
    def bytes_per_px(self) -> float:
        """See `ChangeDetector`; the network's memory stays with it."""
        return self.network.bytes_per_px + _BYTES_PER_PX + (_NEIGHBOURHOOD_BYTES_PER_PX if self._reach else 0)

    def release(self) -> None:
        """See `NetworkDetector`."""
        self.network.release()

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `ChangeDetector`; every pixel is taken for valid."""
        height, width = before.shape[-2:]
        valid, whole = np.ones((height, width), np.bool_), Window(0, 0, height, width)
        answers = self.network.predict(before, after)
        chips = (Chip(*dates, valid, whole) for dates in zip(before, after, strict=True))
        return np.stack([self.join(answer, chip, whole) for answer, chip in zip(answers, chips, strict=True)])

    def around(self, core: Window, chip: Chip) -> Window:
        """Return the part of a chip, in its own pixels, whose answers `join` needs for its core."""
        return _within(chip, core.grown(self._reach))

    def join(self, answer: NDArray[np.float32], chip: Chip, core: Window) -> NDArray[np.float32]:
        """Return the network's answer (K, h, w) at the core of a chip, joined with the statistic and what is around.

        Args:
            answer: probabilities `around` the core; of an ensemble also their deviations, which stay as they are.
            chip: it is of.
            core: in the chip's own pixels.
        """
        around = self.around(core, chip)
        statistic = self._statistic(chip, around)
        # A copy, as the answer to equal dates is that of many chips.
        both = answer.copy()
        for part in strips(both.shape[1], both.shape[2]):
            both[:1, part] = joined(answer[:1, part], statistic[:, part], self.card.urban_weight)
        if self._reach:
            both[0] = reinforced(both[0], chip.valid[around.slices], self.card.neighbour_weight, **self._scale())
        return both[:, *core.relative_to(around).slices]

    def _statistic(self, chip: Chip, part: Window) -> NDArray[np.float32]:
        about = _within(chip, part.grown(self.term.statistic.halo))
        seen = about.slices
        image = self.term.statistic.image(chip.before[:, *seen], chip.after[:, *seen], chip.valid[seen])
        return image[:, *part.relative_to(about).slices]

    def _scale(self) -> dict[str, float]:
        calibration = self.card.calibration
        return {} if calibration is None else {"slope": calibration.slope, "offset": calibration.offset}

    def _compute(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.predict(before, after)


def fit_term(pair: BiTemporalPair, progress: Callable[[str, int, int], None]) -> PairTerm:
    """Fit the statistic to a bounded number of blocks of a pair that has valid pixels.

    Raises:
        PairError: at one date no band varies.
        SceneError: a block cannot be read.
    """
    return _term_of(_moments(pair, progress), pair)


def _moments(pair: BiTemporalPair, progress: Callable[[str, int, int], None]) -> Moments:
    height, width = map(int, pair.geobox.shape)
    return moments_of(pair.read, (height, width), len(pair.bands), progress)


def _term_of(moments: Moments, pair: BiTemporalPair) -> PairTerm:
    return PairTerm(fit_urban(moments, pair.bands), int(moments.weight))


def fused(detector: ChangeDetector, pair: BiTemporalPair, progress: Callable[[str, int, int], None]) -> ChangeDetector:
    """Return a detector as it maps a pair: a network whose card says so joined with what is fitted to the pair.

    Where no pixel is valid there is nothing to fit to, and nothing to join.
    """
    if not (isinstance(detector, NetworkDetector) and detector.card.urban_weight):
        return detector
    moments = _moments(pair, progress)
    return FusedDetector(detector, _term_of(moments, pair)) if moments.weight else detector


def around_core(detector: ChangeDetector, core: Window, chip: Chip) -> Window:
    """Return the part of a chip, in its own pixels, that a detector has to answer for its core."""
    return detector.around(core, chip) if isinstance(detector, FusedDetector) else core


def _within(chip: Chip, window: Window) -> Window:
    inside = window.intersect(Window(0, 0, *chip.valid.shape))
    assert inside is not None  # noqa: S101 - it holds the core
    return inside


def network_of(detector: ChangeDetector) -> ChangeDetector:
    """Return what is asked chip by chip: the network of a fused detector, any other itself."""
    return detector.network if isinstance(detector, FusedDetector) else detector
