"""Batches: what two workers do against one, what a tile costs beside its work, and twenty kills at random moments.

    python -m benchmarks.batch throughput --folder FOLDER [--data FOLDER] [--tiles 400]
    python -m benchmarks.batch overhead --folder FOLDER [--tiles 10000]
    python -m benchmarks.batch kills --folder FOLDER [--kills 20]

Each adds its part to benchmarks/results/batch.json. Ratios count only on a machine with nothing else to do; the load
that was there when it began is written down with them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.batch.manifest_file import write_manifest
from changedet.batch.plan import plan_batch
from changedet.batch.run import run_batch
from changedet.grid.window import blocks
from changedet.write.raster import RasterLayout
from changedet.write.vrt import TileFile, write_vrt

RESULT = Path(__file__).parent / "results" / "batch.json"
BANDS = ("B04", "B03", "B02", "B08")
CRS, ORIGIN, PIXEL = "EPSG:32633", (400_000, 5_800_000), 10
# Of a tile of the mosaic, and of its chips' cores.
SIDE = 192
MODEL, MAX_MEMORY = "s2-urban-rgbn", 585_000_000


def main() -> None:
    """Measure one part, and add it to the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["throughput", "overhead", "kills"])
    parser.add_argument("--folder", type=Path, required=True, help="for mosaics and results")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/oscd"), help="folder of the OSCD download")
    parser.add_argument("--tiles", type=int)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    measured = {"throughput": throughput, "overhead": overhead, "kills": kills}[options.part](options)
    conditions = {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": load,
    }
    content = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    content[options.part] = {**conditions, **measured}
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content[options.part], indent=1))


def throughput(options: argparse.Namespace) -> dict[str, Any]:
    """Map a mosaic of OSCD's cities with one worker and with two, each of one thread."""
    before, after = _mosaics(options.data, options.folder, options.tiles or 400)
    manifest = options.folder / "cities.parquet"
    given = {"model": MODEL, "max_memory": MAX_MEMORY}
    planned = plan_batch(before, after, manifest, tile_size=str(SIDE), overwrite=True, **given)
    rates, memory = {}, {}
    for workers in (1, 2):
        out = options.folder / f"cities-{workers}"
        with _watched() as seen:
            result = _run(manifest, out, seen, workers=workers, threads=1, overwrite=True, **given)
        if result.failed:
            raise SystemExit(f"{result.failed} tiles failed: {result.failures(1)}")
        rates[workers], memory[workers] = seen.rate(), seen.quarters()
    return {
        "tiles": len(planned.manifest),
        "tile_px": SIDE,
        "model": MODEL,
        "tiles_per_second": {str(workers): round(rate, 3) for workers, rate in rates.items()},
        "of_twice_one_worker": round(rates[2] / (2 * rates[1]), 3),
        "bar": 0.85,
        # Of the largest worker, in each quarter of the tiles.
        "worker_megabytes": {str(workers): quarters for workers, quarters in memory.items()},
    }


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    """Map tiny tiles with two workers, and take from the time what was spent in the tiles."""
    # Imported here and below, or every worker would import it with this file, and torch with it.
    from tests.batch.kernel import manifest_over, write_scenes

    count = round((options.tiles or 10_000) ** 0.5)
    side, workers = 16, 2
    scenes = write_scenes(options.folder, count * side, count * side)
    write_manifest(options.folder / "tiny.parquet", manifest_over(*scenes, side), overwrite=True)
    # So little memory beside the detector's own that a chip is a tile.
    given = {"detector": "cva", "max_memory": 600_000_000 + side**2 * 176}
    out = options.folder / "tiny"
    with _watched() as seen:
        result = _run(options.folder / "tiny.parquet", out, seen, workers=workers, threads=1, overwrite=True, **given)
    chips = json.loads((out / "run.json").read_text())["chips"]
    seconds = result.outcomes.table["seconds"].to_pylist()
    inside = statistics.mean(seconds[len(seconds) // 10 :])  # as the rate is
    return {
        "tiles": len(result.outcomes.manifest),
        "tile_px": side,
        "chip_px": chips["chip_height"],
        "workers": workers,
        "tiles_per_second": round(seen.rate(), 1),
        "milliseconds_in_a_tile": round(1000 * inside, 2),
        "overhead_milliseconds": round(1000 * (workers / seen.rate() - inside), 2),
        "bar": 50,
        "coordinator_megabytes": seen.own(),
        "worker_megabytes": seen.quarters(),
    }


def kills(options: argparse.Namespace) -> dict[str, Any]:
    """Kill the run, a worker or the scheduler at random moments, run again, and compare with what has to come out."""
    from tests.batch import cluster
    from tests.batch.kernel import MEMORY, expected, kernel_method, manifest_over, stored, write_scenes

    scenes = write_scenes(options.folder, 240, 360)
    manifest = options.folder / "kills.parquet"
    write_manifest(manifest, manifest_over(*scenes, 60), overwrite=True)
    whole = expected(*scenes)
    random = np.random.default_rng(0)
    told = []
    for number in range(options.kills):
        victim = ("run", "worker", "scheduler")[int(random.integers(3))]
        # By tiles and not by the clock, so that on a busy machine too something is there to be killed in the midst of.
        moment, seconds = int(random.integers(20)), float(random.uniform(0, 0.5))
        out = options.folder / f"killed-{number:02d}"
        tiles = _kill(victim, moment, seconds, manifest, out)
        result = run_batch(manifest, out, method_of=kernel_method, max_memory=MEMORY, workers=1)
        is_same = np.array_equal(stored(out, result.outcomes), whole) and cluster.is_sound(out) and not result.failed
        told.append({"victim": victim, "tiles_then": tiles, "of": len(result.outcomes.manifest), "same": bool(is_same)})
        print(told[-1], file=sys.stderr)
    return {"kills": len(told), "same": sum(entry["same"] for entry in told), "of": told}


def _kill(victim: str, moment: int, seconds: float, manifest: Path, out: Path) -> int:
    """Kill something after so many tiles and seconds, wait for the run to end, and return how many tiles were there."""
    from tests.batch import cluster

    with ExitStack() as stack:
        address, (scheduler, worker, _) = stack.enter_context(cluster.cluster(pause=0.1))
        child = stack.enter_context(cluster.run(manifest, out, f"scheduler={address}"))
        cluster.wait_for(lambda: (out / "ledger.sqlite").exists() and cluster.tiles_in(out) >= moment, child)
        time.sleep(seconds)
        cluster.kill({"run": child, "worker": worker, "scheduler": scheduler}[victim])
        tiles = cluster.tiles_in(out)
        child.communicate(timeout=200)
    return tiles


class _Seen:
    """When tiles were done, and what the processes of a run held."""

    def __init__(self) -> None:
        self.done: list[float] = []
        self.memory: list[tuple[int, int, int]] = []
        self._total = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage == "tiles":
            self.done += [time.perf_counter()] * (done - len(self.done))
            self._total = total

    def look(self) -> None:
        """Note the memory of this process and of its largest child, bytes."""
        children = []
        for child in psutil.Process().children(recursive=True):
            try:
                children.append(child.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        self.memory.append((len(self.done), psutil.Process().memory_info().rss, max(children, default=0)))

    def rate(self) -> float:
        """Return tiles a second, once every worker has its model: without the first tenth."""
        first = len(self.done) // 10
        return (len(self.done) - 1 - first) / (self.done[-1] - self.done[first])

    def quarters(self) -> list[int]:
        """Return the largest worker's memory in each quarter of the tiles, MB."""
        return self._by_quarter(2)

    def own(self) -> list[int]:
        """Return the coordinator's, likewise."""
        return self._by_quarter(1)

    def _by_quarter(self, which: int) -> list[int]:
        edges = [self._total * part / 4 for part in range(5)]
        parts = [[row[which] for row in self.memory if low < row[0] <= high] for low, high in zip(edges, edges[1:])]  # noqa: B905, RUF007
        return [round(statistics.median(part) / 1e6) if part else 0 for part in parts]


@contextmanager
def _watched() -> Iterator[_Seen]:
    seen, stop = _Seen(), threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            seen.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def _run(manifest: Path, out: Path, seen: Callable[[str, int, int], None], **options: Any) -> Any:
    return run_batch(manifest, out, progress=seen, **options)


def _mosaics(data: Path, folder: Path, tiles: int) -> tuple[Path, Path]:
    """Write squares of OSCD's cities side by side, again and again until there are enough, as one mosaic a date."""
    cells = [cell for city in _cities(data) for cell in _cells(city, folder)]
    # One more, as the cores at the edges, where no halo is discarded, are half a tile longer: 20 a side on 4032 px.
    across = round(tiles**0.5) + 1
    geobox = GeoBox((across * SIDE, across * SIDE), Affine(PIXEL, 0, ORIGIN[0], 0, -PIXEL, ORIGIN[1]), CRS)
    paths = []
    for date in (0, 1):
        files = [
            TileFile(str(cells[number % len(cells)][date]), window)
            for number, window in enumerate(blocks(across * SIDE, across * SIDE, SIDE))
        ]
        path = folder / f"{('before', 'after')[date]}.vrt"
        write_vrt(path, RasterLayout(geobox, len(BANDS), "uint16", 0, descriptions=BANDS), files)
        paths.append(path)
    return paths[0], paths[1]


def _cities(data: Path) -> list[Path]:
    cities = sorted(path.parent for path in data.glob("*/*/imgs_1"))
    if not cities:
        raise SystemExit(f"no OSCD in {data}")
    return cities


def _cells(city: Path, folder: Path) -> list[tuple[Path, Path]]:
    """Write the whole squares of a city, both dates, and return their files."""
    dates = [np.stack([_band(city / f"imgs_{number}", band) for band in BANDS]) for number in (1, 2)]
    height, width = (min(date.shape[axis] for date in dates) for axis in (1, 2))
    cells = []
    for row in range(0, height - SIDE + 1, SIDE):
        for col in range(0, width - SIDE + 1, SIDE):
            paths = tuple(folder / f"{city.name}-{row}-{col}-{number}.tif" for number in (1, 2))
            for path, date in zip(paths, dates, strict=True):
                _write(path, date[:, row : row + SIDE, col : col + SIDE])
            cells.append((paths[0], paths[1]))
    return cells


def _band(folder: Path, band: str) -> NDArray[np.uint16]:
    (path,) = folder.glob(f"*{band}.tif")
    with rasterio.open(path) as dataset:
        array: NDArray[np.uint16] = dataset.read(1)
    return array


def _write(path: Path, array: NDArray[np.uint16]) -> None:
    size = {"count": len(array), "height": SIDE, "width": SIDE, "dtype": "uint16", "nodata": 0}
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", predictor=2, **size) as dataset:
        dataset.write(array)


if __name__ == "__main__":
    main()
