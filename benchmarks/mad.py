"""MAD on a large pair, beside the Orfeo ToolBox where that is installed: seconds and peak resident memory.

    python -m benchmarks.mad --size 10000 --folder /tmp/mad

The pair repeats sample_data (red, green, blue). Theirs writes the variates. Ours is the whole run, the probability, the
statistic, the mask and the polygons included; what theirs does too is the fit and the map (`same_work`). Prints JSON,
and writes it to benchmarks/results/mad.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.large_pair import make_scene
from benchmarks.probe import measure

OTB: Final = "otbcli_MultivariateAlterationDetector"
RESULT: Final = Path(__file__).parent / "results" / "mad.json"
# Stages of a run that do what the other program does.
_SAME: Final = ("fit of the detector", "stitch")


def ours(before: Path, after: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the command, and return what it took."""
    chosen = ("--detector", options.detector, "--max-memory", options.max_memory, "--no-report")
    out = options.folder / "out"
    found = measure(options.folder / "mad.json", "run", before, after, "-o", out, "--overwrite", *chosen)
    same = {name: round(sum(found[name][stage] for stage in _SAME), 1) for name in ("stages", "stages_process")}
    return {
        "seconds": round(found["seconds"], 1),
        "processor_seconds": round(found["processor_seconds"], 1),
        "peak_gb": round(found["peak_bytes"] / 1e9, 2),
        "same_work": {"seconds": same["stages"], "processor_seconds": same["stages_process"]},
    }


def theirs(before: Path, after: Path, folder: Path) -> dict[str, Any]:
    """Run the other program, and return what it took."""
    used, started = _children(), time.perf_counter()
    command = [OTB, "-in1", before, "-in2", after, "-out", folder / "otb.tif", "float"]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{OTB} failed")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(_children() - used, 1),
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
    }


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Make the pair, run both on it, and tell what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000, help="side of the pair, px")
    parser.add_argument("--folder", type=Path, required=True, help="for the pair and the results")
    parser.add_argument("--detector", default="mad")
    parser.add_argument("--max-memory", default="1GB")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    before, after = (make_scene(name, options.folder, options.size) for name in ("before", "after"))
    result = {"size": options.size, "max_memory": options.max_memory, "load_before": os.getloadavg()[0]}
    result[options.detector] = ours(before, after, options)
    if shutil.which(OTB):
        result["orfeo_toolbox"] = theirs(before, after, options.folder)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
