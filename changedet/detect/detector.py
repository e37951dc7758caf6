"""What the pipeline asks of anything that detects change, and the network that answers it."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from changedet.errors import ConfigError
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

    Raises:
        ConfigError: the device is not there.
    """

    def __init__(self, model: ChangeModel, device: str = "auto") -> None:
        self.card = model.card
        self.digest = model.digest
        self._device = _device(device)
        self._model = model.to(self._device)

    @property
    def bands(self) -> tuple[str, ...]:
        """See `ChangeDetector`."""
        return self.card.bands

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
        images = (torch.from_numpy(image).to(self._device) for image in (before, after))
        probability: NDArray[np.float32] = self._model.probability(*images).cpu().numpy()
        return probability


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if int(index or 0) >= there.get(kind, 0):
        raise ConfigError(f"device {name} is not on this machine", expected="auto, cpu, or a device that torch finds")
    return torch.device(name)
