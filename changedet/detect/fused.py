"""A network's answer, moved by how far the change is above the noise of that very pair.

A network that has learned from other places knows what change looks like, but not how different the dates of this pair
are where nothing changed: another season, sun and haze. `UrbanChange`, fitted to the pair, knows that, and nothing
else. Their logits are added, as those of independent witnesses are; how much the second counts is on the model's card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from changedet.detect.detector import ChangeDetector, NetworkDetector
from changedet.detect.sample import moments_of
from changedet.read.pair import BiTemporalPair, Chip
from changedet.stats.urban import UrbanChange, fit_urban, joined, strips

# The statistic and the joined answer, float32. All else of it is of a strip, 50 MB that the base has room for.
_BYTES_PER_PX: Final = 8.0


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
        # A margin for the statistic, in whole strides, as chips begin at multiples of one.
        self._least = -(-term.statistic.halo // self.stride) * self.stride

    @property
    def halo(self) -> int:
        """See `ChangeDetector`."""
        return max(self.network.halo, self._least)

    @property
    def field(self) -> int:
        """See `ChangeDetector`."""
        return max(self.network.field, self._least)

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
        return self.network.bytes_per_px + _BYTES_PER_PX

    def release(self) -> None:
        """See `NetworkDetector`."""
        self.network.release()

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `ChangeDetector`; every pixel is taken for valid."""
        answer = self.network.predict(before, after)
        valid = np.ones(before.shape[-2:], np.bool_)
        values = np.stack([self.term.statistic.image(*dates, valid) for dates in zip(before, after, strict=True)])
        answer[:, :1] = joined(answer[:, :1], values, self.card.urban_weight)
        return answer

    def join(self, answer: NDArray[np.float32], chip: Chip, core: tuple[slice, slice]) -> NDArray[np.float32]:
        """Join the network's answer (K, h, w) about the core of a chip with the statistic.

        Args:
            answer: probabilities; of an ensemble also their deviations, which stay as they are.
            chip: it is of.
            core: rows and columns of the chip.
        """
        (rows, cols), (height, width), halo = core, chip.valid.shape, self.term.statistic.halo
        top, left = max(rows.start - halo, 0), max(cols.start - halo, 0)
        around = slice(top, min(rows.stop + halo, height)), slice(left, min(cols.stop + halo, width))
        statistic = self.term.statistic.image(chip.before[:, *around], chip.after[:, *around], chip.valid[around])[
            :, rows.start - top : rows.stop - top, cols.start - left : cols.stop - left
        ]
        # A copy, as the answer to equal dates is that of many chips.
        both = answer.copy()
        for part in strips(both.shape[1], both.shape[2]):
            both[:1, part] = joined(answer[:1, part], statistic[:, part], self.card.urban_weight)
        return both

    def _compute(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.predict(before, after)


def fit_term(pair: BiTemporalPair, progress: Callable[[str, int, int], None]) -> PairTerm:
    """Fit the statistic to a bounded number of blocks of a pair.

    Raises:
        PairError: at one date no band varies.
        SceneError: a block cannot be read.
    """
    height, width = map(int, pair.geobox.shape)
    moments = moments_of(pair.read, (height, width), len(pair.bands), progress)
    return PairTerm(fit_urban(moments, pair.bands), int(moments.weight))


def fused(detector: ChangeDetector, pair: BiTemporalPair, progress: Callable[[str, int, int], None]) -> ChangeDetector:
    """Return a detector as it maps a pair: a network whose card says so joined with what is fitted to the pair."""
    if isinstance(detector, NetworkDetector) and detector.card.urban_weight:
        return FusedDetector(detector, fit_term(pair, progress))
    return detector


def network_of(detector: ChangeDetector) -> ChangeDetector:
    """Return what is asked chip by chip: the network of a fused detector, any other itself."""
    return detector.network if isinstance(detector, FusedDetector) else detector
