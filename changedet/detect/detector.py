"""What the pipeline asks of anything that detects change, and the network that answers it."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.errors import ConfigError, ModelError
from changedet.network.card import Card
from changedet.network.package import ChangeModel

# Measured on Linux before the first chip, torch 2.14 for the CPU: torch with smp takes 0.88 GB, half of that pages of
# its libraries; rasterio, geopandas and pyproj 0.21; the model 0.11; GDAL's cache and the pair's sample 0.07.
TORCH_BASE_BYTES = 1_400_000_000


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


class NetworkDetector:
    """A model behind the `ChangeDetector` protocol, on a device of torch.

    Args:
        model: loaded, in eval mode.
        device: `auto` takes CUDA, then MPS, then the CPU.
        bands: those of the model's bands that will be given, in its order; None for all. The model's optional bands may
            be left out: it sees the neutral reflectance there at both dates, as it did in training.

    Raises:
        ConfigError: the device is not there.
        ModelError: a band that is not optional is left out.
    """

    def __init__(self, model: ChangeModel, device: str = "auto", bands: tuple[str, ...] | None = None) -> None:
        self.card = model.card
        self._bands = model.card.bands if bands is None else bands
        _check_bands(self.card, self._bands)
        self.digest = model.digest
        self._device = _device(device)
        self._model = model.to(self._device)

    @property
    def bands(self) -> tuple[str, ...]:
        """See `ChangeDetector`."""
        return self._bands

    @property
    def classes(self) -> int:
        """See `ChangeDetector`."""
        return int(self.card.arguments.get("classes", 1))  # type: ignore[arg-type]  # checked when the network was built

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
    def base_bytes(self) -> int:
        """See `ChangeDetector`."""
        return TORCH_BASE_BYTES

    @property
    def bytes_per_px(self) -> float:
        """See `ChangeDetector`."""
        return self.card.memory_bytes_per_px

    @property
    def device(self) -> str:
        """Where it computes."""
        return str(self._device)

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `ChangeDetector`."""
        images = (torch.from_numpy(self._completed(image)).to(self._device) for image in (before, after))
        probability: NDArray[np.float32] = self._model.probability(*images).cpu().numpy()
        return probability

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


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if int(index or 0) >= there.get(kind, 0):
        raise ConfigError(f"device {name} is not on this machine", expected="auto, cpu, or a device that torch finds")
    return torch.device(name)
