"""The table of ratios: what was measured beside the bars, on the machine at hand.

    python -m benchmarks [--folder FOLDER] [--size 10000] [--large-times 2] [--torchgeo FOLDER] [--parts run start …]
    python -m benchmarks --page

Makes its pairs in FOLDER, prints every part's figures as they come and the table in the end. They go into
benchmarks/results/performance-PRECISION.json, as a processor that computes in bfloat16 and one that does not give
different tables; all tables there are go into docs/performance.md. With --parts the others stay as they were measured
before; with --page nothing is measured and the page alone is written. Ratios count only on a machine with nothing else
to do; the load that was there when a part began is written down with it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from benchmarks.pairs import make_pair, make_specks, repeat_as_vrt
from benchmarks.probe import measure

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_FOLDER = Path(tempfile.gettempdir()) / "changedet-benchmarks"
MARKS = "<!-- figures: by python -m benchmarks -->\n", "<!-- end of figures -->\n"
MAX_MEMORY = 2_000_000_000
MODEL, MODEL_ALL = "s2-urban-rgb", "s2-urban"
ARGUMENTS = ("--model", MODEL, "--any-resolution", "--overwrite")
_LIBRARIES = ("changedet", "openvino", "torch", "numpy", "rasterio")


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="for pairs and results")
    parser.add_argument("--size", type=int, default=10_000, help="side of the pair of 3 x uint8, px")
    parser.add_argument("--all-size", type=int, default=5_000, help="side of the pair of 13 x uint16, px")
    parser.add_argument("--loop-size", type=int, default=5_000, help="side of what the plain loop does, px")
    parser.add_argument("--large-times", type=int, default=2, help="side of the VRT, in sides of the pair")
    parser.add_argument("--polygons", type=int, default=1_000_000)
    parser.add_argument(
        "--torchgeo", type=Path, help="folder of pip install --target FOLDER torchgeo; not timed without"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], help="of the table; the others stay")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--page", action="store_true", help="only write the page, from the results that are there")
    options = parser.parse_args()
    if options.page:
        write_page()
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    # It says which precision it is here, and converts the model.
    precision = _job(options.folder, make_pair(options.folder, 512, "rgb"), "warm", *ARGUMENTS)["precision"]
    path = options.results / f"performance-{precision}.json"
    for name in options.parts:
        conditions, begun = _conditions(options), time.perf_counter()
        found = PARTS[name](options)
        print(json.dumps(found), f"({time.perf_counter() - begun:.0f} s)", file=sys.stderr)
        # At once, as a part that fails must not cost those before it.
        keep(path, name, {"conditions": conditions, "measured": found})
    if options.results == RESULTS:
        write_page()
    _print(rows_of(json.loads(path.read_text())))


def keep(path: Path, name: str, part: dict[str, Any]) -> None:
    """Put a part of the figures, with the conditions it was measured in, into the JSON of its precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {**(json.loads(path.read_text()) if path.exists() else {}), name: part}
    path.write_text(json.dumps(parts, indent=1) + "\n")


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
        **{name: value for name, value in vars(options).items() if type(value) is int},
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


def _run(options: argparse.Namespace) -> dict[str, Any]:
    pair = make_pair(options.folder, options.size, "rgb")
    first = _job(options.folder, pair, "rgb", *ARGUMENTS)
    files = sum(path.stat().st_size for path in pair)
    again = _job(options.folder, pair, "rgb", *ARGUMENTS[:-1], "--reuse", "--threshold", "0.6", "--min-area", "5000")
    share = first["stages"]["bytes read"] / files
    return {"rgb": first, "floor": _floor(MODEL, first), "reuse": again, "bytes_read_over_files": share}


def _floor(model: str, job: dict[str, Any]) -> dict[str, Any]:
    chip = job["chips"]
    return _told("benchmarks.floor", model, chip["chip_height"], chip["chip_width"])


def _bands(options: argparse.Namespace) -> dict[str, Any]:
    pair = make_pair(options.folder, options.all_size, "all")
    arguments = ("--model", MODEL_ALL, *ARGUMENTS[2:])
    # So that the model is converted.
    _job(options.folder, make_pair(options.folder, 512, "all"), "warm_all", *arguments)
    found = _job(options.folder, pair, "all", *arguments)
    return {"all": found, "floor_all": _floor(MODEL_ALL, found)}


def _large(options: argparse.Namespace) -> dict[str, Any]:
    pair = [repeat_as_vrt(path, options.large_times) for path in make_pair(options.folder, options.size, "rgb")]
    found = _job(options.folder, (pair[0], pair[1]), "vrt", *ARGUMENTS)
    return {"large": found}


def _loop(options: argparse.Namespace) -> dict[str, Any]:
    """Compare with the plain loop and with plain float32, on a pair that all do whole."""
    pair = make_pair(options.folder, options.loop_size, "rgb")
    fast = _job(options.folder, pair, "fast", *ARGUMENTS)
    loop = _told("benchmarks.loop", *pair, MODEL, options.folder)
    found = {"loop": loop, "fast": fast}
    if options.torchgeo:
        small = make_pair(options.folder, min(options.loop_size, 2_000), "rgb")
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([os.fspath(PAGE.parent.parent), os.fspath(options.torchgeo)]),
        }
        try:
            found["torchgeo"] = _told("benchmarks.loop", *small, "torchgeo", options.folder, env=env)
        except subprocess.CalledProcessError:
            print("torchgeo does not run here: its row is left out", file=sys.stderr)
    plain = ("--backend", "torch", "--precision", "float32", "--max-memory", "4GB")
    _job(options.folder, make_pair(options.folder, 2_000, "rgb"), "plain", *ARGUMENTS, *plain)
    _job(options.folder, make_pair(options.folder, 2_000, "rgb"), "compared", *ARGUMENTS)
    return {**found, "agreement": _agreement(options.folder / "compared", options.folder / "plain")}


def _start(options: argparse.Namespace) -> dict[str, Any]:
    """Time small runs with an empty cache of converted models, each with one after it, and `--help`, five times."""
    pair = make_pair(options.folder, 512, "rgb")
    job = ("run", *pair, "-o", options.folder / "start", "--model", MODEL, "--any-resolution", "--overwrite")
    show_help = [sys.executable, "-m", "changedet", "--help"]
    chips: dict[str, list[float]] = {"first": [], "second": []}
    seconds = []
    with tempfile.TemporaryDirectory() as bytecode:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        # All modules are compiled by a first run, as pip does when it installs: those of a repository may not be.
        env["PYTHONPYCACHEPREFIX"] = bytecode
        measure(options.folder / "start.json", *job, env=env)
        for _ in range(5):
            with tempfile.TemporaryDirectory() as cache:
                fresh = {**env, "CHANGEDET_CACHE": cache}
                for times in chips.values():
                    found = measure(options.folder / "start.json", *job, env=fresh)
                    times.append(found["stages"]["until the first chip"])
        for _ in range(5):
            begun = time.perf_counter()
            subprocess.run(show_help, check=True, stdout=subprocess.DEVNULL, env=env)
            seconds.append(time.perf_counter() - begun)
    return {"first_chip": chips, "help_seconds": statistics.median(seconds)}


def _specks(options: argparse.Namespace) -> dict[str, Any]:
    mask = make_specks(options.folder, options.polygons)
    job = ("vectorize", mask, "-o", options.folder / "specks.gpkg", "--overwrite")
    return {"specks": measure(options.folder / "specks.json", *job)}


def _told(module: str, *arguments: object, env: dict[str, str] | None = None) -> dict[str, Any]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _agreement(one_run: Path, other_run: Path) -> dict[str, float]:
    """Return how far the map of one run lies from that of the other, in 8-bit steps."""
    with rasterio.open(one_run / "probability.tif") as one, rasterio.open(other_run / "probability.tif") as two:
        fast, plain = one.read(1), two.read(1)
    known = plain != 255
    distance = np.abs(fast[known].astype(np.int16) - plain[known])
    return {"share_within_2": float((distance <= 2).mean()), "largest": int(distance.max())}


PARTS = {"run": _run, "start": _start, "specks": _specks, "loop": _loop, "bands": _bands, "large": _large}


def rows_of(parts: dict[str, Any]) -> list[list[str]]:
    """Return what, bar and measured figure of the parts that were measured, as `keep` has them."""
    m = {name: figure for part in parts.values() for name, figure in part["measured"].items()}
    needed = {
        _rows_of_run: {"rgb"},
        _rows_of_start: {"first_chip"},
        _rows_of_loop: {"loop"},
        _rows_of_bands: {"all"},
        _rows_of_large: {"large", "rgb"},
        _rows_of_specks: {"specks"},
        _rows_of_stages: {"rgb"},
    }
    return [row for rows, names in needed.items() if names <= m.keys() for row in rows(m)]


def _rows_of_run(m: dict[str, Any]) -> list[list[str]]:
    run, floor = m["rgb"], m["floor"]["seconds_per_px"] * _px(m["rgb"])
    return [
        [f"run, {_size(run)} x 3 x uint8, wall time over the floor", "<= 1.8", f"{run['seconds'] / floor:.2f}"],
        ["halo over useful pixels, --max-memory 2GB", "<= 25 %", f"{run['chips']['redundancy']:.1%}"],
        [f"peak memory, {_size(run)}", "<= 2 GB", f"{run['peak_bytes'] / 1e9:.2f} GB"],
        ["--reuse over the first run", "< 25 %", f"{m['reuse']['seconds'] / run['seconds']:.0%}"],
    ]


def _rows_of_start(m: dict[str, Any]) -> list[list[str]]:
    return [
        ["until the first chip, from the second run on", "<= 3 s", _spread(m["first_chip"]["second"])],
        ["until the first chip, the first time", "<= 10 s", _spread(m["first_chip"]["first"])],
        ["changedet --help", "<= 0.4 s", f"{m['help_seconds']:.2f} s"],
    ]


def _rows_of_loop(m: dict[str, Any]) -> list[list[str]]:
    quick, agreement = m["fast"]["seconds"] / _px(m["fast"]), m["agreement"]
    rows = [
        [
            f"the plain loop over run, {_size(m['fast'])}",
            ">= 12",
            f"{m['loop']['seconds'] / m['loop']['px'] / quick:.1f}",
        ],
        ["8-bit pixels within 2 of float32", ">= 99.9 %", f"{agreement['share_within_2']:.3%}"],
        ["furthest 8-bit pixel from float32", "<= 8", f"{agreement['largest']}"],
    ]
    if "torchgeo" in m:
        other = m["torchgeo"]["seconds"] / m["torchgeo"]["px"]
        rows.insert(1, ["torchgeo's FCSiamDiff in that loop, a pixel", "", f"{other / quick:.1f}"])
    return rows


def _rows_of_bands(m: dict[str, Any]) -> list[list[str]]:
    run, floor = m["all"], m["floor_all"]["seconds_per_px"] * _px(m["all"])
    return [
        [f"run, {_size(run)} x 13 x uint16, wall time over the floor", "", f"{run['seconds'] / floor:.2f}"],
        ["peak memory, 13 x uint16", "<= 2 GB", f"{run['peak_bytes'] / 1e9:.2f} GB"],
    ]


def _rows_of_large(m: dict[str, Any]) -> list[list[str]]:
    large, run = m["large"], m["rgb"]
    return [
        [f"peak memory, {_size(large)}", "<= 2 GB", f"{large['peak_bytes'] / 1e9:.2f} GB"],
        [
            f"peak memory at {_size(large)} over that at {_size(run)}",
            "<= 1.1",
            f"{large['peak_bytes'] / run['peak_bytes']:.2f}",
        ],
    ]


def _spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"


def _rows_of_specks(m: dict[str, Any]) -> list[list[str]]:
    return [
        ["a million polygons: vectorize", "<= 300 s", f"{m['specks']['seconds']:.0f} s"],
        ["a million polygons: peak memory", "<= 1.5 GB", f"{m['specks']['peak_bytes'] / 1e9:.2f} GB"],
    ]


def _rows_of_stages(m: dict[str, Any]) -> list[list[str]]:
    run, floor = m["rgb"], m["floor"]["seconds_per_px"] * _px(m["rgb"])
    told = "bytes read, temporary files and libraries among them, over those in the pair"
    return [
        ["the floor", "", f"{floor:.1f} s"],
        ["run", "", f"{run['seconds']:.1f} s, {run['processor_seconds']:.1f} s of the processor"],
        *[
            [f"stage: {name}", "", f"{value:.1f} s, {value / run['seconds']:.0%} of the wall time"]
            for name, value in run["stages"].items()
            if name != "bytes read"
        ],
        [told, "", f"{m['bytes_read_over_files']:.1f}"],
    ]


def _px(job: dict[str, Any]) -> int:
    return int(job["chips"]["height"] * job["chips"]["width"])


def _size(job: dict[str, Any]) -> str:
    return f"{job['chips']['height']:,}²"


def write_page() -> None:
    """Put the table of each precision that was measured between the marks in docs/performance.md."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    tables = "\n".join(map(_table, sorted(RESULTS.glob("performance-*.json"))))
    PAGE.write_text(f"{head}{MARKS[0]}{tables}{MARKS[1]}{tail}", encoding="utf-8")


def _table(path: Path) -> str:
    """Return the figures of one precision, as Markdown."""
    parts = json.loads(path.read_text(encoding="utf-8"))
    conditions = [part["conditions"] for part in parts.values()]
    dates = sorted({each["date"] for each in conditions})
    told = (
        f"**{path.stem.partition('-')[2]}**, {' to '.join(dict.fromkeys([dates[0], dates[-1]]))},"
        f" {conditions[0]['processor']}, {conditions[0]['cores']} cores, load before a part at most"
        f" {max(each['load_before'] for each in conditions):.2f}, OpenVINO {conditions[0]['versions']['openvino']}:"
    )
    lines = [f"| {' | '.join(row)} |" for row in [["what", "bar", "measured"], ["---"] * 3, *rows_of(parts)]]
    return "\n".join([told, "", *lines, ""])


def _print(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in [["what", "bar", "measured"], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
