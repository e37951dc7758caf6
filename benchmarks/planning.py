"""A plan of a million tiles: how long `changedet batch plan` takes, and how much memory.

python -m benchmarks.planning --folder FOLDER

The imagery is the sample, stretched by a virtual raster until that many tiles fit in: a plan reads headers and a few
chips only.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path
from xml.sax.saxutils import escape

import rasterio
from rasterio.io import DatasetReader

from changedet.batch.manifest_file import read_manifest

_SAMPLE = Path(__file__).parent.parent / "sample_data"
_RESULT = Path(__file__).parent / "results" / "planning.json"
# The bar: a minute and 2 GB for a million tiles.
_SECONDS, _BYTES = 60, 2e9
# Side of a chip's core with the model and the memory below, about; tiles of one chip each are the smallest there are.
_CORE_PX = 1836
_OPTIONS = ("--model", "s2-urban-rgbn", "--any-resolution")


def stretch(source: DatasetReader, path: Path, side: int) -> Path:
    """Write a virtual raster of `side` squared px that shows another stretched over all of it."""
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{number}"><Description>{escape(name)}</Description><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{escape(source.name)}</SourceFilename><SourceBand>{number}</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="{source.width}" ySize="{source.height}"/>'
        f'<DstRect xOff="0" yOff="0" xSize="{side}" ySize="{side}"/></SimpleSource></VRTRasterBand>'
        for number, name in enumerate(source.descriptions, start=1)
    )
    # Ten metres a pixel around the middle of the projection, where a country would lie.
    path.write_text(
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>EPSG:3035</SRS>'
        f"<GeoTransform>{4_321_000 - side / 2}, 1, 0, {3_210_000 + side / 2}, 0, -1</GeoTransform>{bands}</VRTDataset>"
    )
    return path


def plan(folder: Path, side: int, *options: str) -> dict[str, float]:
    """Run the command as a user would, and return what it took."""
    scenes = []
    for date in ("before", "after"):
        with rasterio.open(_SAMPLE / f"{date}.tif") as source:
            scenes.append(stretch(source, folder / f"{date}.vrt", side))
    manifest = folder / "manifest.parquet"
    command = [sys.executable, "-m", "changedet", "batch", "plan", *scenes, "-o", manifest, "--overwrite", *_OPTIONS]
    earlier = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run([*map(str, command), *options], check=True)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    tiles = len(read_manifest(manifest))
    return {
        "tiles": tiles,
        "seconds": round(seconds, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime - earlier.ru_utime - earlier.ru_stime, 1),
        "peak_resident_bytes": used.ru_maxrss * 1024,
        "manifest_bytes": manifest.stat().st_size,
        "seconds_to_read": round(time.perf_counter() - started, 1),
        "seconds_over_bar": round(seconds / _SECONDS * 1e6 / tiles, 3),
        "bytes_over_bar": round(used.ru_maxrss * 1024 / _BYTES, 3),
    }


def main() -> None:
    """Plan tiles by size and tiles of a web map, print what they took, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for the virtual rasters and the manifests")
    parser.add_argument("--tiles", type=int, default=1_000_000)
    parser.add_argument("--keep", action="store_true", help=f"write {_RESULT.name}")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    across = math.isqrt(asked.tiles - 1) + 4  # and some more, as cores are not quite of one size
    # The peak is that of all commands so far: the larger one, by outlines, comes last.
    figures = {
        "by size": plan(asked.folder, across * _CORE_PX, "--tile-size", str(_CORE_PX)),
        "xyz": plan(asked.folder, round(across * 95), "--xyz", "18"),
    }
    print(json.dumps(figures, indent=1))
    if asked.keep:
        _RESULT.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
