"""A network computed by OpenVINO on the CPU, without torch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from changedet.detect.detector import NetworkDetector
from changedet.network.ir import (
    Precision,
    compile_network,
    converts_here,
    load_openvino,
    measured_bytes_per_px,
    native_precision,
    network_ir,
)
from changedet.network.shipped import file_digest, read_card, resolve_model

# Measured on Linux before the first chip, OpenVINO 2026.4: rasterio, geopandas and pyproj take 0.28 GB, OpenVINO with a
# compiled model 0.1, GDAL's cache and the pair's sample 0.08.
OPENVINO_BASE_BYTES = 500_000_000
# Converting a model and measuring what it takes are seconds the first time; meanwhile a run looks at its pair. One
# after the other, as torch takes a gigabyte.
_MEANWHILE = ThreadPoolExecutor(1, thread_name_prefix="models")


class OpenVinoDetector(NetworkDetector):
    """A model computed by OpenVINO, converted once and cached under the model's hash.

    It is converted in the background, but where torch is in this process; whoever needs the result waits for it, and
    hears there if it failed: `ModelError` if OpenVINO cannot convert the model, `ConfigError` if the cache cannot be
    written.

    Args:
        path_or_name: model file or shipped model.
        bands: see `NetworkDetector`.
        precision: `auto` is bfloat16 where the processor has instructions for it, else float32.
        threads: that compute; all cores when None.

    Raises:
        NotFoundError: there is no such model.
        ConfigError: OpenVINO is not installed or cannot be loaded.
        ModelError: a band that is not optional is left out.
    """

    backend = "openvino"
    device = "cpu"

    def __init__(
        self,
        path_or_name: str | Path,
        bands: tuple[str, ...] | None = None,
        *,
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        threads: int | None = None,
    ) -> None:
        path = resolve_model(path_or_name)
        super().__init__(read_card(path), file_digest(path), bands)
        self._ir = _MEANWHILE.submit(network_ir, path, self.digest)
        if converts_here():
            # Tracing is kept from warning, and Python keeps or not all threads at once: while it lasts nothing may run
            # that does the same, as the reading of a pair does.
            wait([self._ir])
        load_openvino()  # before it is asked what is native: here, while a first conversion imports torch there
        self.precision: Precision = native_precision() if precision == "auto" else precision
        self._bytes_per_px = _MEANWHILE.submit(self._measured)
        self._threads = threads
        self._request: Any = None
        self._shape: tuple[int, ...] = ()

    @property
    def base_bytes(self) -> int:
        """See `ChangeDetector`."""
        return OPENVINO_BASE_BYTES

    @property
    def bytes_per_px(self) -> float:
        """See `ChangeDetector`."""
        return self._bytes_per_px.result()

    def release(self) -> None:
        """See `NetworkDetector`."""
        self._request, self._shape = None, ()

    def _measured(self) -> float:
        return measured_bytes_per_px(self._ir.result(), self.card, self.precision)

    def _compute(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        if before.shape != self._shape:
            self.release()  # before the next takes its memory
            self._request = compile_network(self._ir.result(), self.precision, before.shape, self._threads)
            self._shape = before.shape
        # The arrays are used where they lie. Of the result there is a copy, as the next chip overwrites it.
        images = [np.ascontiguousarray(image) for image in (before, after)]
        probability: NDArray[np.float32] = self._request.infer(images, share_inputs=True)[0]
        return probability
