"""Which library computes a network here."""

from __future__ import annotations

import ctypes
import platform
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from changedet.config import RunConfig
from changedet.detect.detector import NetworkDetector
from changedet.errors import ConfigError


def open_detector(model: str, bands: tuple[str, ...], config: RunConfig) -> NetworkDetector:
    """Open a model with the backend and on the device that the options ask for.

    With `auto` that is torch where there is an accelerator it can use, OpenVINO on a CPU where it is installed, and
    torch elsewhere.

    Args:
        model: file or name of a shipped model.
        bands: of the model that will be given.
        config: `backend`, `device` and `precision` of it.

    Raises:
        NotFoundError, ModelError: the model cannot be used.
        ConfigError: the backend or the device is not there, or they do not go together.
    """
    # Only the backend that is used is imported: torch and smp alone take seconds and most of a gigabyte.
    if choose_backend(config) == "openvino":
        from changedet.detect.openvino_detector import OpenVinoDetector

        return OpenVinoDetector(model, bands, precision=config.precision, threads=config.threads)
    from changedet.detect.torch_detector import TorchDetector
    from changedet.network.package import load_model

    limit_torch(config.threads)
    return TorchDetector(load_model(model), config.device, bands, precision=config.precision)


def limit_torch(threads: int | None) -> None:
    """Let torch compute with so many threads in this process; None leaves it as it is, by default at all cores."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def choose_backend(config: RunConfig) -> str:
    """Return the backend to use, `torch` or `openvino`.

    Raises:
        ConfigError: OpenVINO is asked for on another device than the CPU.
    """
    if config.backend == "openvino" and config.device not in ("auto", "cpu"):
        raise ConfigError(f"--backend openvino on device {config.device}", expected="the CPU", remedy="--backend torch")
    if config.backend != "auto":
        return config.backend
    on_cpu = config.device == "cpu" or (config.device == "auto" and not _has_accelerator())
    return "openvino" if on_cpu and find_spec("openvino") is not None else "torch"


def _has_accelerator() -> bool:
    """Return whether torch finds an accelerator; it is imported only where the system has one to offer."""
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    if not (apple or Path("/dev/kfd").exists() or _cuda_devices()):  # /dev/kfd: AMD's
        return False
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _cuda_devices() -> int:
    """Return how many devices NVIDIA's driver shows to this process."""
    with suppress(OSError, AttributeError):  # no driver
        driver = ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
        count = ctypes.c_int()
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0
