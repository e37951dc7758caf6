"""Peak memory of `changedet run` on a large pair, which this script makes.

    python -m benchmarks.large_pair --size 20000 --folder /tmp/large

The pair repeats sample_data (red, green, blue) until it fills the size; the model is s2-urban-rgb. Prints JSON: seconds
and peak resident bytes.
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
from rasterio.windows import Window

SAMPLE = Path(__file__).parent.parent / "sample_data"
BLOCK = 512


def make_scene(name: str, folder: Path, size: int) -> Path:
    """Write a `size` x `size` px scene of three uint16 bands that repeats a sample scene, and return its path."""
    path = folder / f"{name}.tif"
    with rasterio.open(SAMPLE / f"{name}.tif") as sample:
        tile = sample.read([1, 2, 3])
        profile = sample.profile | {"height": size, "width": size, "count": 3, "blockxsize": BLOCK, "blockysize": BLOCK}
    strip = np.tile(tile, (1, 1, -(-size // tile.shape[2])))[:, :, :size]
    with rasterio.open(path, "w", **profile | {"BIGTIFF": "IF_SAFER"}) as scene:
        for row in range(0, size, BLOCK):
            rows = np.arange(row, min(row + BLOCK, size)) % tile.shape[1]
            scene.write(strip[:, rows], window=Window(0, row, size, len(rows)))
        scene.descriptions = ("B04", "B03", "B02")
    return path


def main() -> None:
    """Make the pair, run the command on it as a user would, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=20_000, help="side of the pair, px")
    parser.add_argument("--folder", type=Path, required=True, help="for the pair and the results")
    parser.add_argument("--max-memory", default="2GB")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    before, after = (make_scene(name, options.folder, options.size) for name in ("before", "after"))
    out = options.folder / "out"
    command = [
        sys.executable,
        "-m",
        "changedet",
        "run",
        before,
        after,
        "-o",
        out,
        "--model",
        "s2-urban-rgb",
        "--overwrite",
    ]
    started = time.perf_counter()
    subprocess.run([*map(str, command), "--max-memory", options.max_memory], check=True)
    record = json.loads((out / "run.json").read_text())
    figures = {
        "size_px": options.size,
        "max_memory": options.max_memory,
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "seconds": round(time.perf_counter() - started, 1),
        "chips": record["chips"],
        "areas": record["areas"],
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
