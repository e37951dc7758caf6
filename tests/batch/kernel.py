"""A batch with a fixed 3 x 3 kernel for its detector, which workers can import."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.batch.engine import Finished
from changedet.batch.manifest import Manifest, Mosaic
from changedet.batch.outcome import Outcomes, tile_folder
from changedet.config import BatchConfig, RunConfig
from changedet.detect.detector import ChangeDetector
from changedet.detect.prepare import Preparation
from changedet.detect.stitch import Progress, stitch
from changedet.detect.threshold import Threshold, threshold_of_model
from changedet.grid import Window, plan_chips
from changedet.read.pair import RasterPair, open_pair
from changedet.read.scene import Scene
from tests.batch.manifests import manifest_of, whole
from tests.data import texture, write_raster
from tests.detect.test_stitch import ArraySink, KernelDetector

# Seconds a chip takes, so that a run can be killed in the midst of it.
PAUSE = "CHANGEDET_TEST_PAUSE"
# Memory that makes chips of 62 px: cores of 60.
MEMORY = 100_000_000
THRESHOLD = 0.2
# Reflectance that kills whoever looks at it.
POISON = 9.0
BANDS = ("B04", "B08")


class SlowKernel(KernelDetector):
    """Takes its time, and little memory."""

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        time.sleep(float(os.environ.get(PAUSE, "0")))
        if before.max() >= POISON:
            os._exit(9)
        return super().predict(before, after)


class KernelMethod:
    """The kernel behind the `Method` protocol."""

    name, digest, bands, classes = "kernel", "k" * 64, BANDS, ("change",)
    backend, device, precision = "numpy", "cpu", "float32"

    def __init__(self) -> None:
        self.detector = SlowKernel(base_bytes=MEMORY - 62**2 * 1000, bytes_per_px=1000 - 2 * 38)

    def notes(self, pair: RasterPair, config: RunConfig) -> list[str]:
        return []

    def fit(self, pair: RasterPair, preparation: Preparation, progress: Progress) -> tuple[ChangeDetector, Preparation]:
        return self.detector, preparation

    def restored(self, preparation: Mapping[str, Any]) -> ChangeDetector:
        return self.detector

    def threshold(self, asked: float | str | None, preparation: Preparation) -> Threshold:
        return threshold_of_model(asked, THRESHOLD)

    def as_json(self) -> dict[str, Any]:
        own = {"name": self.name, "sha256": self.digest, "bands": list(self.bands), "classes": list(self.classes)}
        return {**own, "architecture": None, "bands_missing": [], "licence": None, "commercial_use": True}

    def release(self) -> None:
        pass


def kernel_method(scenes: tuple[Scene, Scene], config: RunConfig) -> KernelMethod:
    return KernelMethod()


def write_scenes(folder: Path, height: int = 180, width: int = 240) -> tuple[Path, Path]:
    """Write two dates of two bands that differ in a disc, with a corner without data at the second."""
    before = np.stack([texture(height, width, seed=seed) for seed in range(2)])
    after = before.copy()
    rows, cols = np.ogrid[:height, :width]
    after[:, (rows - height / 2) ** 2 + (cols - width / 2) ** 2 < (height / 4) ** 2] += 0.3
    after[:, : height // 4, : width // 3] = -1
    paths = folder / "before.tif", folder / "after.tif"
    for path, array in zip(paths, (before, after), strict=True):
        write_raster(path, array.astype(np.float32), names=BANDS, nodata=-1)
    return paths


def manifest_over(before: Path, after: Path, size: int) -> Manifest:
    """Return a manifest of square tiles over two scenes of one grid."""
    with open_pair(before, after) as pair:
        geobox: GeoBox = pair.geobox
    height, width = map(int, geobox.shape)
    windows = [
        Window(row, col, min(size, height - row), min(size, width - col))
        for row in range(0, height, size)
        for col in range(0, width, size)
    ]
    return manifest_of(geobox, windows, [Mosaic("all", str(before), str(after), whole(geobox))])


def expected(before: Path, after: Path) -> NDArray[np.uint8]:
    """Return the stored probabilities (H, W) of the whole as one chip."""
    with open_pair(before, after, bands=BANDS) as pair:
        height, width = map(int, pair.geobox.shape)
        sink = ArraySink((height, width))
        stitch(pair, KernelDetector(), plan_chips(height, width, chip=1024, halo=1, stride=1), sink)
    return sink.stored[0]


def stored(out: Path, outcomes: Outcomes, name: str = "probability.tif") -> NDArray[np.uint8]:
    """Return what the tiles of a batch hold (H, W), 255 where none has files."""
    import rasterio

    array = np.full(outcomes.manifest.geobox.shape, 255, np.uint8)
    for tile in outcomes.with_files():
        with rasterio.open(tile_folder(out, tile.id) / name) as dataset:
            array[tile.window.slices] = dataset.read(1)
    return array


class InlineEngine:
    """Carries tasks out here and now; says what it was asked."""

    threads = 1
    asked: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, config: BatchConfig) -> None:
        del config

    def __enter__(self) -> "InlineEngine":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Any, tasks: Iterator[tuple[Any, tuple[Any, ...]]]) -> Iterator[Finished[Any]]:
        for item, arguments in tasks:
            self.asked.append(arguments)
            try:
                yield Finished(item, function(*arguments), None)
            except Exception as error:  # as a worker's
                yield Finished(item, None, error)
