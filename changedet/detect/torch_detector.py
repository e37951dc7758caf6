"""A network computed by torch, on the CPU or an accelerator."""

from __future__ import annotations

import threading
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from changedet.detect.detector import NetworkDetector
from changedet.errors import ConfigError
from changedet.network.base import SiameseNetwork, lay_out
from changedet.network.package import ChangeModel

Precision = Literal["auto", "float32", "bfloat16"]

# Measured on Linux before the first chip, torch 2.14 for the CPU: torch with smp takes 0.88 GB, half of that pages of
# its libraries; rasterio, geopandas and pyproj 0.21; the model 0.11; GDAL's cache and the pair's sample 0.07.
TORCH_BASE_BYTES = 1_400_000_000


class TorchDetector(NetworkDetector):
    """A model computed by torch.

    Args:
        model: loaded, in eval mode.
        device: `auto` takes CUDA, then MPS, then the CPU.
        bands: see `NetworkDetector`.
        precision: `auto` is bfloat16 where the device has instructions for it, else float32.

    Raises:
        ConfigError: the device is not there.
        ModelError: a band that is not optional is left out.
    """

    backend = "torch"

    def __init__(
        self,
        model: ChangeModel,
        device: str = "auto",
        bands: tuple[str, ...] | None = None,
        *,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(model.card, model.digest, bands)
        self._device = _device(device)
        self.device = str(self._device)
        self.precision = _native_precision(self._device) if precision == "auto" else precision
        self._half = self.precision == "bfloat16"
        self._model = model.to(self._device)
        self._layout = lay_out(self._model, half=self._half)
        # The next chip is sent while one is computed, and both while the one before them is joined and stored.
        self.in_flight = 2 if self._device.type == "cuda" else 0
        self._lanes = threading.local()

    @property
    def base_bytes(self) -> int:
        """See `ChangeDetector`."""
        return TORCH_BASE_BYTES

    @property
    def bytes_per_px(self) -> float:
        """See `ChangeDetector`; in float32, which bounds bfloat16."""
        return self.card.memory_bytes_per_px

    @property
    def keeps_features(self) -> bool:
        """See `changedet.detect.encode.KeepsFeatures`."""
        return isinstance(self._model.network, SiameseNetwork)

    def features(self, image: NDArray[np.float32]) -> list[Tensor]:
        """See `changedet.detect.encode.KeepsFeatures`."""
        tensor = torch.from_numpy(self._completed(image)).to(self._device, memory_format=self._layout)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            return self._model.features(tensor)

    def compare(self, before: list[Tensor], after: list[Tensor]) -> NDArray[np.float32]:
        """See `changedet.detect.encode.KeepsFeatures`."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            probability: NDArray[np.float32] = self._model.compared(before, after).cpu().numpy()
        return probability

    def release(self) -> None:
        """See `NetworkDetector`."""
        del self._model

    def _compute(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._device.type == "cuda":
            return self._computed_in_lane(before, after)
        images = (torch.from_numpy(image).to(self._device, memory_format=self._layout) for image in (before, after))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            probability: NDArray[np.float32] = self._model.probability(*images).cpu().numpy()
        return probability

    def _computed_in_lane(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        if not hasattr(self._lanes, "own"):
            self._lanes.own = _Lane(self._device)
        lane: _Lane = self._lanes.own
        with torch.cuda.stream(lane.stream), torch.autocast("cuda", torch.bfloat16, enabled=self._half):
            images = [
                lane.sent(name, image).contiguous(memory_format=self._layout)
                for name, image in (("before", before), ("after", after))
            ]
            return lane.fetched(self._model.probability(*images))


class _Lane:
    """A thread's own way to a CUDA device and back: a stream, and memory that its transfers need not wait for.

    Memory that the system may not move is copied from and to without the processor, beside what other streams compute.

    Args:
        device: with an index or the current one.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._device = device
        self._pinned: dict[tuple[str, torch.Size], Tensor] = {}

    def sent(self, name: str, image: NDArray[np.float32]) -> Tensor:
        """Return an image on the device, where it will be by the time that the stream comes to use it."""
        array = torch.from_numpy(np.ascontiguousarray(image))
        pinned = self._memory(name, array.shape)
        pinned.copy_(array)
        return pinned.to(self._device, non_blocking=True)

    def fetched(self, answer: Tensor) -> NDArray[np.float32]:
        """Return what the device computed; waits for this stream alone."""
        pinned = self._memory("answer", answer.shape)
        pinned.copy_(answer, non_blocking=True)
        self.stream.synchronize()
        return pinned.numpy().copy()

    def _memory(self, name: str, shape: torch.Size) -> Tensor:
        if (name, shape) not in self._pinned:
            self._pinned[name, shape] = torch.empty(shape, dtype=torch.float32, pin_memory=True)
        return self._pinned[name, shape]


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if int(index or 0) >= there.get(kind, 0):
        raise ConfigError(f"device {name} is not on this machine", expected="auto, cpu, or a device that torch finds")
    return torch.device(name)


def _native_precision(device: torch.device) -> Literal["float32", "bfloat16"]:
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return "bfloat16" if features.get("avx512_bf16") or features.get("amx_bf16") else "float32"
