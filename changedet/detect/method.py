"""How a pair is to be mapped: by a network, or by a detector that is fitted to the pair itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from changedet.config import Detector, RunConfig
from changedet.detect.choose import check_resolution, choose_encoder, choose_model, told_missing
from changedet.detect.detector import ChangeDetector, NetworkDetector
from changedet.detect.ensemble import open_detectors
from changedet.detect.fused import FusedDetector, PairTerm, fit_term
from changedet.detect.label_free import Fitted, StatisticDetector, fit, fit_posterior
from changedet.detect.prepare import Preparation
from changedet.detect.sample import sample_pair
from changedet.detect.stitch import Progress
from changedet.detect.threshold import Threshold, threshold_of_model, threshold_of_statistic
from changedet.errors import ConfigError
from changedet.read.pair import BiTemporalPair, RasterPair, common_bands
from changedet.read.scene import Scene


class Method(Protocol):
    """What is known before the pair is read, and how to get from there to a detector."""

    name: str
    digest: str
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    backend: str
    device: str
    precision: str

    def notes(self, pair: RasterPair, config: RunConfig) -> list[str]:
        """Return what the user should know before trusting the map.

        Raises:
            PairError: the pair is of no use to it.
        """
        ...

    def fit(
        self, pair: BiTemporalPair, preparation: Preparation, progress: Progress
    ) -> tuple[ChangeDetector, Preparation]:
        """Return the detector, and the preparation with what it learned of the pair."""
        ...

    def restored(self, preparation: Mapping[str, Any]) -> ChangeDetector:
        """Return the detector that `fit` gave, from the JSON of the preparation: elsewhere, or later."""
        ...

    def threshold(self, asked: float | str | None, preparation: Preparation) -> Threshold:
        """Return from where a pixel is changed.

        Raises:
            ConfigError: the rule asked for does not go with it.
        """
        ...

    def as_json(self) -> dict[str, Any]:
        """Return what it is, for run.json."""
        ...

    def release(self) -> None:
        """Let go of what it holds, once every chip is done."""
        ...


class NetworkMethod:
    """A network, joined with a statistic of the pair where its card says so."""

    def __init__(self, detector: NetworkDetector) -> None:
        self._detector = detector
        self._card = detector.card
        self.name, self.digest, self.bands = detector.card.name, detector.digest, detector.bands
        self.classes = detector.card.classes
        self.backend, self.device, self.precision = detector.backend, detector.device, detector.precision

    def notes(self, pair: RasterPair, config: RunConfig) -> list[str]:
        """See `Method`."""
        resolutions = [check_resolution(pair, card, config) for card in self._detector.cards]
        told = *resolutions, told_missing(self._card, self.bands)
        return [note for note in told if note]

    def fit(
        self, pair: BiTemporalPair, preparation: Preparation, progress: Progress
    ) -> tuple[ChangeDetector, Preparation]:
        """See `Method`."""
        if not self._card.urban_weight:
            return self._detector, preparation
        term = fit_term(pair, progress)
        return FusedDetector(self._detector, term), replace(preparation, term=term)

    def restored(self, preparation: Mapping[str, Any]) -> ChangeDetector:
        """See `Method`."""
        if not self._card.urban_weight:
            return self._detector
        return FusedDetector(self._detector, PairTerm.from_json(preparation["joined"]))

    def threshold(self, asked: float | str | None, preparation: Preparation) -> Threshold:
        """See `Method`."""
        del preparation
        return threshold_of_model(asked, self._card.threshold)

    def as_json(self) -> dict[str, Any]:
        """See `Method`."""
        card = self._card
        return {
            "name": card.name,
            "sha256": self.digest,
            "architecture": card.architecture,
            "bands": list(self.bands),
            "classes": list(card.classes),
            "bands_missing": [band for band in card.bands if band not in self.bands],
            "licence": card.licence,
            "commercial_use": card.commercial_use,
        }

    def release(self) -> None:
        """See `Method`."""
        self._detector.release()


class LabelFreeMethod:
    """A detector without labels, fitted to each pair. It holds no weights, and so nobody's licence."""

    def __init__(self, name: Detector, bands: tuple[str, ...], digest: str = "") -> None:
        self.name: str = name
        self.bands, self.digest = bands, digest
        self.classes: tuple[str, ...] = ("change",)
        self.backend, self.device, self.precision = "numpy", "cpu", "float64"

    def notes(self, pair: RasterPair, config: RunConfig) -> list[str]:
        """See `Method`."""
        del pair, config
        return []

    def fit(
        self, pair: BiTemporalPair, preparation: Preparation, progress: Progress
    ) -> tuple[ChangeDetector, Preparation]:
        """See `Method`."""
        fitted = fit(self.name, sample_pair(pair, progress))
        return self._of(fitted), replace(preparation, fitted=fitted)

    def restored(self, preparation: Mapping[str, Any]) -> ChangeDetector:
        """See `Method`."""
        return self._of(Fitted.from_json(preparation["fitted"]))

    def _of(self, fitted: Fitted) -> StatisticDetector:
        return StatisticDetector(fitted, self.bands)

    def threshold(self, asked: float | str | None, preparation: Preparation) -> Threshold:
        """See `Method`."""
        return threshold_of_statistic(asked, preparation.known())

    def as_json(self) -> dict[str, Any]:
        """See `Method`."""
        return {
            "name": self.name,
            "sha256": None,
            "architecture": None,
            "bands": list(self.bands),
            "classes": list(self.classes),
            "bands_missing": [],
            "licence": None,
            "commercial_use": True,
        }

    def release(self) -> None:
        """See `Method`: it holds little."""


class DeepMethod(LabelFreeMethod):
    """The features of a frozen encoder: a model's, or one of random weights where no model's bands are there."""

    def __init__(self, scenes: Sequence[Scene], config: RunConfig) -> None:
        # Only here: torch takes seconds and most of a gigabyte.
        from changedet.detect.backend import limit_torch
        from changedet.detect.deep import FeatureDifference
        from changedet.network.package import load_model

        limit_torch(config.threads)
        name = choose_encoder(scenes, config)
        self._model = None if name is None else load_model(name)
        if self._model is None:
            super().__init__("deep", common_bands(*scenes))
            self._statistic = FeatureDifference.of_random_weights(len(self.bands))
        else:
            super().__init__("deep", self._model.card.bands, self._model.digest)
            self._statistic = FeatureDifference.of_model(self._model)
        self.backend, self.precision = "torch", "float32"

    def notes(self, pair: RasterPair, config: RunConfig) -> list[str]:
        """See `Method`."""
        if self._model is None:
            return ["no model's encoder fits or may be used: the features are those of random weights"]
        return list(filter(None, [check_resolution(pair, self._model.card, config)]))

    def fit(
        self, pair: BiTemporalPair, preparation: Preparation, progress: Progress
    ) -> tuple[ChangeDetector, Preparation]:
        """See `Method`."""
        fitted = fit_posterior("deep", self._statistic, sample_pair(pair, progress))
        return self._of(fitted), replace(preparation, fitted=fitted)

    def restored(self, preparation: Mapping[str, Any]) -> ChangeDetector:
        """See `Method`."""
        return self._of(Fitted.from_json(preparation["fitted"], self._statistic))

    def _of(self, fitted: Fitted) -> StatisticDetector:
        statistic = self._statistic
        return StatisticDetector(fitted, self.bands, stride=statistic.stride, bytes_per_px=statistic.bytes_per_px)

    def as_json(self) -> dict[str, Any]:
        """See `Method`."""
        if self._model is None:
            return super().as_json()
        card = self._model.card
        own = {"sha256": self._model.digest, "architecture": card.architecture, "licence": card.licence}
        return {**super().as_json(), **own, "encoder": card.name, "commercial_use": card.commercial_use}


def choose_method(scenes: Sequence[Scene], config: RunConfig, out: str = "OUT") -> Method:
    """Return what maps a pair or a series: the detector asked for, else the network asked for or the best that fits.

    Args:
        scenes: opened, in the order of their dates.
        config: options of the run.
        out: its output folder, for the command that an error offers.

    Raises:
        ModelError, PairError: see `choose_model`; or the dates have no bands in common.
        ConfigError: a device that is not there, or not for this detector.
    """
    if config.detector is None:
        name = choose_model(scenes, config, out)
        return NetworkMethod(open_detectors(name, scenes, config))
    if config.device not in ("auto", "cpu"):
        raise ConfigError(f"--device {config.device} with --detector {config.detector}", expected="cpu, or auto")
    if config.detector == "deep":
        return DeepMethod(scenes, config)
    return LabelFreeMethod(config.detector, common_bands(*scenes))
