"""The table of ratios: what was measured beside the bars, on the machine at hand.

    python -m benchmarks --folder FOLDER [--size 10000] [--loop-size 2000] [--polygons 1000000]

Makes its pairs in FOLDER, and writes benchmarks/results/performance.json. Ratios count only on a machine with nothing
else to do; the load that was there when it began is written down with them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from benchmarks.large_pair import make_model
from benchmarks.pairs import make_pair, make_specks, repeat_as_vrt
from benchmarks.probe import measure

RESULT = Path(__file__).parent / "results" / "performance.json"
MAX_MEMORY = 2_000_000_000
_LIBRARIES = ("changedet", "openvino", "torch", "numpy", "rasterio")


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for pairs and results")
    parser.add_argument("--size", type=int, default=10_000, help="side of the pairs, px; the VRT has four times that")
    parser.add_argument("--loop-size", type=int, default=2_000, help="side of the part that the plain loop does, px")
    parser.add_argument("--polygons", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    conditions = _conditions(options)
    model = make_model(options.folder)
    measured: dict[str, Any] = {}
    for part in (_run, _bands, _vrt, _loop, _start, _specks):
        print(f"{part.__name__.strip('_')} …", file=sys.stderr)
        measured |= part(options, model)
    rows = _rows(measured)
    _print(rows)
    content = {"conditions": conditions, "measured": measured, "table": rows}
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")


def _conditions(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures depend on."""
    models = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _LIBRARIES},
        "size_px": options.size,
        "loop_size_px": options.loop_size,
        "polygons": options.polygons,
    }


def _job(folder: Path, pair: tuple[Path, Path], name: str, *more: object) -> dict[str, Any]:
    """Run changedet on a pair, and return its figures with what run.json says of the chips."""
    out = folder / name
    found = measure(folder / f"{name}.json", "run", *pair, "-o", out, "--max-memory", MAX_MEMORY, *more)
    record = json.loads((out / "run.json").read_text())
    return {
        **found,
        "chips": record["chips"],
        "polygons": record["areas"]["polygons"],
        "precision": record["precision"],
    }


def _run(options: argparse.Namespace, model: Path) -> dict[str, Any]:
    pair = make_pair(options.folder, options.size, "rgb")
    arguments = ("--model", model, "--any-resolution", "--overwrite")
    _job(options.folder, pair, "warm", *arguments, "--bounds", *_corner(pair[0], 512))
    first = _job(options.folder, pair, "rgb", *arguments)
    files = sum(path.stat().st_size for path in pair)
    chip = first["chips"]
    floor = _told("benchmarks.floor", model, chip["chip_height"], chip["chip_width"])
    again = _job(options.folder, pair, "rgb", *arguments[:3], "--reuse", "--threshold", "0.6", "--min-area", "5000")
    share = first["stages"]["bytes read"] / files
    return {"rgb": first, "floor": floor, "reuse": again, "bytes_read_over_files": share}


def _bands(options: argparse.Namespace, _: Path) -> dict[str, Any]:
    pair = make_pair(options.folder, options.size, "all")
    found = _job(options.folder, pair, "all", "--model", "s2-urban", "--any-resolution", "--overwrite")
    chip = found["chips"]
    return {"all": found, "floor_all": _told("benchmarks.floor", "s2-urban", chip["chip_height"], chip["chip_width"])}


def _vrt(options: argparse.Namespace, model: Path) -> dict[str, Any]:
    first, second = (repeat_as_vrt(path, 4) for path in make_pair(options.folder, options.size, "rgb"))
    return {"vrt": _job(options.folder, (first, second), "vrt", "--model", model, "--any-resolution", "--overwrite")}


def _loop(options: argparse.Namespace, model: Path) -> dict[str, Any]:
    """Compare with the plain loop and with plain float32, on a pair of its own that both do whole."""
    pair = make_pair(options.folder, options.loop_size, "rgb")
    arguments = ("--model", model, "--any-resolution", "--overwrite")
    loop = _told("benchmarks.loop", *pair, model, options.folder)
    fast = _job(options.folder, pair, "fast", *arguments)
    _job(
        options.folder, pair, "plain", *arguments, "--backend", "torch", "--precision", "float32", "--max-memory", "4GB"
    )
    return {"loop": loop, "fast": fast, "agreement": _agreement(options.folder)}


def _start(options: argparse.Namespace, model: Path) -> dict[str, Any]:
    """Time a small run with an empty cache of converted models, and again; and `--help`."""
    pair = make_pair(options.folder, 512, "rgb")
    cache = options.folder / f"cache-{time.time_ns()}"
    env = {**os.environ, "CHANGEDET_CACHE": str(cache)}
    job = ("run", *pair, "-o", options.folder / "start", "--model", model, "--any-resolution", "--overwrite")
    first, second = (measure(options.folder / "start.json", *job, env=env)["stages"] for _ in range(2))
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "changedet", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begun)
    chip = "until the first chip"
    return {"first_chip": {"first": first[chip], "second": second[chip]}, "help_seconds": statistics.median(seconds)}


def _specks(options: argparse.Namespace, _: Path) -> dict[str, Any]:
    mask = make_specks(options.folder, options.polygons)
    job = ("vectorize", mask, "-o", options.folder / "specks.gpkg", "--overwrite")
    return {"specks": measure(options.folder / "specks.json", *job)}


def _told(module: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _corner(path: Path, side: int) -> tuple[float, ...]:
    with rasterio.open(path) as scene:
        left, top = scene.transform.c, scene.transform.f
        return left, top + side * scene.transform.e, left + side * scene.transform.a, top


def _agreement(folder: Path) -> dict[str, float]:
    """Return how far the fast map lies from plain float32, in 8-bit steps."""
    with (
        rasterio.open(folder / "fast" / "probability.tif") as one,
        rasterio.open(folder / "plain" / "probability.tif") as two,
    ):
        fast, plain = one.read(1), two.read(1)
    known = plain != 255
    distance = np.abs(fast[known].astype(np.int16) - plain[known])
    return {"share_within_2": float((distance <= 2).mean()), "largest": int(distance.max())}


def _rows(m: dict[str, Any]) -> list[list[str]]:
    """Return what, bar and measured figure."""
    px, px_all = (m[name]["chips"]["height"] * m[name]["chips"]["width"] for name in ("rgb", "all"))
    floor, floor_all = m["floor"]["seconds_per_px"] * px, m["floor_all"]["seconds_per_px"] * px_all
    loop = m["loop"]["seconds"] / m["loop"]["px"]
    quick = m["rgb"]["seconds"] / px
    peaks = [m[name]["peak_bytes"] / 1e9 for name in ("rgb", "vrt")]
    agreement = m["agreement"]
    return [
        ["run, 3 x uint8, wall time over the floor", "<= 1.8", f"{m['rgb']['seconds'] / floor:.2f}"],
        ["run, 13 x uint16, wall time over the floor", "", f"{m['all']['seconds'] / floor_all:.2f}"],
        ["the plain loop over run, a pixel", ">= 12", f"{loop / quick:.1f}"],
        ["8-bit pixels within 2 of float32", ">= 99.9 %", f"{agreement['share_within_2']:.3%}"],
        ["furthest 8-bit pixel from float32", "<= 8", f"{agreement['largest']}"],
        ["halo over useful pixels", "<= 25 %", f"{m['rgb']['chips']['redundancy']:.1%}"],
        ["peak memory", "<= 2 GB", f"{peaks[0]:.2f} GB"],
        ["peak memory at 16 times the pixels over that", "<= 1.1", f"{peaks[1] / peaks[0]:.2f}"],
        ["peak memory, 13 x uint16", "<= 2 GB", f"{m['all']['peak_bytes'] / 1e9:.2f} GB"],
        ["--reuse over the first run", "< 25 %", f"{m['reuse']['seconds'] / m['rgb']['seconds']:.0%}"],
        ["until the first chip, from the second run on", "<= 3 s", f"{m['first_chip']['second']:.1f} s"],
        ["until the first chip, the first time", "<= 10 s", f"{m['first_chip']['first']:.1f} s"],
        ["changedet --help", "<= 0.4 s", f"{m['help_seconds']:.2f} s"],
        ["many polygons: vectorize", "<= 300 s a million", f"{m['specks']['seconds']:.0f} s"],
        ["many polygons: peak memory", "<= 1.5 GB", f"{m['specks']['peak_bytes'] / 1e9:.2f} GB"],
        ["bytes read over bytes in the files", "", f"{m['bytes_read_over_files']:.2f}"],
        *[
            [f"stage: {name}", "", f"{value:.1f} s"]
            for name, value in m["rgb"]["stages"].items()
            if name != "bytes read"
        ],
    ]


def _print(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in [["what", "bar", "measured"], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
