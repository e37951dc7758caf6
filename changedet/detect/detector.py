"""What the pipeline asks of anything that detects change, and what networks have in common whatever computes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.errors import ModelError
from changedet.network.card import Card


class ChangeDetector(Protocol):
    """Two dates in, probabilities of change out, chip by chip.

    For `tiling` "exact", an output pixel depends on nothing further than `field` px away and on no chip's place, as
    long as chips start at multiples of `stride`.
    """

    @property
    def bands(self) -> tuple[str, ...]:
        """Sentinel-2 names of the channels it takes, in order."""
        ...

    @property
    def classes(self) -> int:
        """Channels of its answer: 1 for change or no change."""
        ...

    @property
    def stride(self) -> int:
        """Chips start at its multiples (px)."""
        ...

    @property
    def halo(self) -> int:
        """The halo it needs in practice (px)."""
        ...

    @property
    def field(self) -> int:
        """The halo that makes chips exact (px)."""
        ...

    @property
    def tiling(self) -> Literal["exact", "fixed_chip"]:
        """Whether chips can be exact at all."""
        ...

    @property
    def chip_px(self) -> int | None:
        """Side of a chip (px), a multiple of the stride, where `tiling` is "fixed_chip"; else None, any will do."""
        ...

    @property
    def base_bytes(self) -> int:
        """Resident memory of a whole run with it, less what grows with the chip: libraries, weights, caches."""
        ...

    @property
    def bytes_per_px(self) -> float:
        """Peak memory of `predict` for each px of a chip."""
        ...

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (N, K, H, W), float32 0..1, for reflectance (N, C, H, W) at both dates."""
        ...


class NetworkDetector(ABC):
    """A trained network behind the `ChangeDetector` protocol, described by its card.

    Args:
        card: of the model.
        digest: SHA-256 of the model file, in hexadecimal.
        bands: those of the model's bands that will be given, in its order; None for all. The model's optional bands may
            be left out: it sees the neutral reflectance there at both dates, as it did in training.

    Attributes:
        backend: the library that computes it.
        device: where it computes.
        precision: of its arithmetic, `float32` or `bfloat16`.
        in_flight: chips that threads ask it about at a time, while the one before them is stored: 0 where it computes
            on the processor, which has nothing else to do then.

    Raises:
        ModelError: a band that is not optional is left out.
    """

    in_flight = 0
    backend: str
    device: str
    precision: str

    def __init__(self, card: Card, digest: str, bands: tuple[str, ...] | None = None) -> None:
        self.card = card
        self.digest = digest
        self._bands = card.bands if bands is None else bands
        _check_bands(card, self._bands)

    @property
    def bands(self) -> tuple[str, ...]:
        """See `ChangeDetector`."""
        return self._bands

    @property
    def cards(self) -> tuple[Card, ...]:
        """Of the models whose answer it is: its own, of an ensemble those of its members."""
        return (self.card,)

    @property
    def classes(self) -> int:
        """See `ChangeDetector`."""
        return len(self.card.classes)

    @property
    def stride(self) -> int:
        """See `ChangeDetector`."""
        return self.card.stride

    @property
    def halo(self) -> int:
        """See `ChangeDetector`."""
        return self.card.halo_px

    @property
    def field(self) -> int:
        """See `ChangeDetector`."""
        return self.card.receptive_field_px or 0

    @property
    def tiling(self) -> Literal["exact", "fixed_chip"]:
        """See `ChangeDetector`."""
        return self.card.tiling

    @property
    def chip_px(self) -> int | None:
        """See `ChangeDetector`."""
        return self.card.chip_px

    @property
    @abstractmethod
    def base_bytes(self) -> int:
        """See `ChangeDetector`."""

    @property
    @abstractmethod
    def bytes_per_px(self) -> float:
        """See `ChangeDetector`."""

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `ChangeDetector`; H and W are multiples of the stride."""
        return self._compute(self._completed(before), self._completed(after))

    @abstractmethod
    def release(self) -> None:
        """Give back the memory of the network; no more chips come."""

    @abstractmethod
    def _compute(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (N, K, H, W) for reflectance (N, C, H, W) in all of the model's bands."""

    def _completed(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return all channels of the model (N, C, H, W), those that are not given neutral."""
        if self._bands == self.card.bands:
            return image
        count, _, height, width = image.shape
        complete = np.full((count, len(self.card.bands), height, width), NEUTRAL_REFLECTANCE, np.float32)
        complete[:, [self.card.bands.index(band) for band in self._bands]] = image
        return complete


def _check_bands(card: Card, given: tuple[str, ...]) -> None:
    needed = tuple(band for band in card.bands if band in given or band not in card.optional_bands)
    if needed != given:
        raise ModelError(f"model {card.name} is given the bands {', '.join(given)}", expected=", ".join(needed))
