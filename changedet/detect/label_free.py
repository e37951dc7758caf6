"""Detectors that need no labels: a statistic of change fitted to the pair itself, and its posterior by a mixture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from changedet.detect.sample import PairSample
from changedet.read.pair import Chip
from changedet.stats.chisquare import ChiSquare
from changedet.stats.cva import Cva
from changedet.stats.mad import Mad, fit_irmad
from changedet.stats.mixture import Mixture, fit_mixture
from changedet.stats.otsu import otsu_threshold
from changedet.stats.pca_kmeans import PcaKmeans, filled_magnitude, fit_pca_kmeans, neighbourhoods
from changedet.stats.sfa import SlowFeatures
from changedet.stats.statistic import Statistic
from changedet.stats.urban import UrbanChange, fit_urban

# Of a process with rasterio, geopandas and scipy loaded, the sample of the pair and its fits; torch takes more.
BASE_BYTES: Final = 600_000_000
_TORCH_BYTES: Final = 900_000_000
# The statistic, and the steps to its posterior in float64.
_BYTES_PER_PX: Final = 120.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a label-free detector learned of the whole pair.

    Attributes:
        name: of the detector.
        statistic: fitted.
        mixture: of the statistic's squares.
        otsu: threshold of the statistic, Otsu's of its root.
        sample: how large the sample was.
    """

    name: str
    statistic: Statistic
    mixture: Mixture
    otsu: float
    sample: dict[str, Any]

    def probability(self, statistic: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the posterior of change, float32 0..1, of values of the statistic."""
        if isinstance(self.statistic, UrbanChange):
            return self.statistic.probability(statistic)
        return self.mixture.posterior(self.statistic.squares(statistic)).astype(np.float32)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data, for run.json."""
        return {
            "detector": self.name,
            "statistic": self.statistic.as_json(),
            "mixture": self.mixture.as_json(),
            "otsu": self.otsu,
            "sample": self.sample,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], statistic: Statistic | None = None) -> Self:
        """Return what `as_json` wrote.

        Args:
            record: as it was written; JSON has no infinity, and null instead.
            statistic: of `deep`, whose encoder is no JSON.
        """
        name, otsu = record["detector"], record["otsu"]
        statistic = statistic or _restored_statistic(name, record["statistic"])
        mixture = Mixture.from_json(record["mixture"])
        return cls(name, statistic, mixture, float("inf") if otsu is None else otsu, record["sample"])


class StatisticDetector:
    """A fitted statistic behind the `ChangeDetector` protocol.

    Args:
        fitted: to the pair.
        bands: it is fitted to.
        stride: px, of the network that gives the features of `deep`.
        bytes_per_px: peak memory of that network; 0 where there is none.
    """

    def __init__(self, fitted: Fitted, bands: tuple[str, ...], *, stride: int = 1, bytes_per_px: float = 0.0) -> None:
        self.fitted = fitted
        self.bands = bands
        self.classes = 1
        self.stride = stride
        self.halo = self.field = fitted.statistic.halo
        self.tiling: Literal["exact", "fixed_chip"] = "exact"
        self.chip_px: int | None = None
        self.base_bytes = BASE_BYTES + (_TORCH_BYTES if bytes_per_px else 0)
        self.bytes_per_px = _BYTES_PER_PX + bytes_per_px

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `ChangeDetector`; every pixel is taken for valid."""
        valid = np.ones(before.shape[-2:], dtype=np.bool_)
        images = [self.fitted.statistic.image(*dates, valid)[:1] for dates in zip(before, after, strict=True)]
        return self.fitted.probability(np.stack(images))

    def measure(self, chip: Chip) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the probability (1, H, W) and the statistic (S, H, W) of a chip, both float32."""
        statistic = self.fitted.statistic.image(chip.before, chip.after, chip.valid)
        return self.fitted.probability(statistic[:1]), statistic


def fit(name: str, sample: PairSample) -> Fitted:
    """Fit a detector of single pixels or small neighbourhoods to a pair.

    Raises:
        PairError: at one date no band varies.
    """
    statistic = _fit_statistic(name, sample)
    return fit_posterior(name, statistic, sample)


def _fit_statistic(name: str, sample: PairSample) -> Statistic:
    match name:
        case "urban":
            return fit_urban(sample.moments, sample.pair.bands)
        case "cva":
            return Cva.from_moments(sample.moments)
        case "mad":
            return ChiSquare(Mad.from_moments(sample.moments))
        case "irmad":
            return ChiSquare(fit_irmad(sample.pixels))
        case "sfa":
            return ChiSquare(SlowFeatures.from_moments(sample.moments))
        case _:
            return _fit_pca_kmeans(sample)


def _restored_statistic(name: str, record: Mapping[str, Any]) -> Statistic:
    match name:
        case "urban":
            return UrbanChange.from_json(record)
        case "cva":
            return Cva.from_json(record)
        case "mad" | "irmad":
            return ChiSquare(Mad.from_json(record))
        case "sfa":
            return ChiSquare(SlowFeatures.from_json(record))
        case _:
            return PcaKmeans.from_json(record)


def _fit_pca_kmeans(sample: PairSample) -> PcaKmeans:
    cva = Cva.from_moments(sample.moments)
    fill = float(cva.magnitude(*np.split(sample.pixels, 2)).mean())

    def around(chip: Chip) -> NDArray[np.float32]:
        return neighbourhoods(filled_magnitude(cva, chip.before, chip.after, chip.valid, fill), fill)

    return fit_pca_kmeans(cva, fill, sample.of(around, PcaKmeans.halo))


def fit_posterior(name: str, statistic: Statistic, sample: PairSample) -> Fitted:
    """Fit the mixture, and Otsu's threshold, to a sample of a statistic."""
    values = _values(statistic, sample)
    squares = statistic.squares(values)
    otsu = statistic.from_square(otsu_threshold(np.sqrt(squares)) ** 2)
    return Fitted(name, statistic, fit_mixture(squares), otsu, sample.as_json())


def _values(statistic: Statistic, sample: PairSample) -> NDArray[np.float32]:
    """Return a sample of the first band of the statistic, float32 (N,)."""
    if statistic.halo == 0:
        before, after = np.split(sample.pixels[:, None], 2)
        values = statistic.image(before, after, np.ones(before.shape[1:], dtype=np.bool_))[0]
    else:
        values = sample.of(lambda chip: statistic.image(chip.before, chip.after, chip.valid)[:1], statistic.halo)
    first: NDArray[np.float32] = values[0]
    return first
