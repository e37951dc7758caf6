"""A date's features, computed once though the date is compared with the one before it and the one after."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from changedet.detect.detector import ChangeDetector


@runtime_checkable
class KeepsFeatures(Protocol):
    """A detector that encodes each date apart."""

    @property
    def keeps_features(self) -> bool:
        """Whether it does with the model it has: `compare(features(before), features(after))` is what it predicts."""
        ...

    def features(self, image: NDArray[np.float32]) -> Any:
        """Return the features of reflectance (N, C, H, W) at one date, for `compare`."""
        ...

    def compare(self, before: Any, after: Any) -> NDArray[np.float32]:
        """Return probabilities (N, K, H, W) of two dates, from the features of each."""
        ...


class Encoder:
    """Asks a detector about dates that follow each other, keeping the features of the last.

    They are used again only where the next comparison begins with the very same pixels: what is invalid at one of two
    dates is neutral at both, so a date may look different beside another one. Where the detector cannot keep features
    apart, it is asked for both dates each time.

    Attributes:
        encoded: how many images were encoded so far.
    """

    def __init__(self, detector: ChangeDetector) -> None:
        self._detector = detector
        self._keeping = detector if isinstance(detector, KeepsFeatures) and detector.keeps_features else None
        self._last: tuple[NDArray[np.float32], Any] | None = None
        self.encoded = 0

    def probability(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (K, H, W) for reflectance (C, H, W) at both dates."""
        if self._keeping is None:
            self.encoded += 2
            answer: NDArray[np.float32] = self._detector.predict(before[None], after[None])[0]
            return answer
        first = self._features(self._keeping, before)
        second = self._features(self._keeping, after)
        self._last = after, second
        compared: NDArray[np.float32] = self._keeping.compare(first, second)[0]
        return compared

    def _features(self, detector: KeepsFeatures, image: NDArray[np.float32]) -> Any:
        if self._last is not None and np.array_equal(self._last[0], image):
            return self._last[1]
        self.encoded += 1
        return detector.features(image[None])
