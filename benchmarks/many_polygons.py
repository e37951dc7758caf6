"""A million polygons from noise: how long `changedet vectorize` takes, and how much memory.

python -m benchmarks.many_polygons --folder FOLDER
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

_STRIP = 512
# The bar: five minutes and 1.5 GB for a million polygons.
_SECONDS, _BYTES = 300, 1.5e9


def make_noise(folder: Path, size: int, share: float) -> tuple[Path, Path]:
    """Write a mask of which a share of the pixels is changed, drawn one by one, and probabilities; return the paths."""
    random = np.random.default_rng(1810)
    profile = {
        "driver": "GTiff",
        "height": size,
        "width": size,
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:32633",
        "transform": Affine(10, 0, 5e5, 0, -10, 5.6e6),
        "nodata": 255,
        "tiled": True,
        "blockxsize": _STRIP,
        "blockysize": _STRIP,
        "compress": "deflate",
    }
    paths = folder / "mask.tif", folder / "probability.tif"
    with rasterio.open(paths[0], "w", **profile) as mask, rasterio.open(paths[1], "w", **profile) as probability:
        probability.scales = (1 / 254,)
        for row in range(0, size, _STRIP):
            window = Window(0, row, size, min(_STRIP, size - row))
            changed = random.random((window.height, size), dtype=np.float32) < share
            mask.write(changed.astype(np.uint8), 1, window=window)
            noise = random.integers(0, 100, changed.shape, dtype=np.uint8)
            probability.write(np.where(changed, 127 + noise, noise), 1, window=window)
    return paths


def main() -> None:
    """Make the rasters, run the command on them as a user would, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for the rasters and the polygons")
    parser.add_argument("--size", type=int, default=4400, help="side of the mask, px")
    parser.add_argument("--share", type=float, default=0.07, help="share of the pixels that is changed")
    parser.add_argument("options", nargs="*", help="of changedet vectorize, after --")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    mask, probability = make_noise(asked.folder, asked.size, asked.share)
    out = asked.folder / "changes.gpkg"
    command = [sys.executable, "-m", "changedet", "vectorize", mask, "--probability", probability, "-o", out]
    started = time.perf_counter()
    done = subprocess.run(
        [*map(str, command), "--overwrite", *asked.options], check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    polygons, peak = int(done.stdout.split()[0]), used.ru_maxrss * 1024
    figures = {
        "size_px": asked.size,
        "polygons": polygons,
        "seconds": round(seconds, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_resident_bytes": peak,
        "seconds_over_bar": round(seconds / _SECONDS * 1e6 / polygons, 3),
        "memory_over_bar": round(peak / _BYTES, 3),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
