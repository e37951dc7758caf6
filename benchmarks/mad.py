"""MAD on a large pair, beside the Orfeo ToolBox where that is installed: seconds and peak resident memory.

    python -m benchmarks.mad --size 10000 --folder /tmp/mad

The pair repeats sample_data (red, green, blue). Ours is the whole run, the probability, the mask and the polygons
included; theirs writes the variates alone. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.large_pair import make_scene

OTB = "otbcli_MultivariateAlterationDetector"


def timed(command: list[object]) -> dict[str, float]:
    """Run a command and return its seconds, and the peak resident bytes of the largest child so far."""
    started = time.perf_counter()
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"seconds": round(seconds, 1), "peak_gb": round(peak / 1e9, 2)}


def main() -> None:
    """Make the pair, run both on it, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000, help="side of the pair, px")
    parser.add_argument("--folder", type=Path, required=True, help="for the pair and the results")
    parser.add_argument("--detector", default="mad")
    parser.add_argument("--max-memory", default="1GB")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    before, after = (make_scene(name, options.folder, options.size) for name in ("before", "after"))
    ours = [sys.executable, "-m", "changedet", "-q", "run", before, after, "-o", options.folder / "out", "--overwrite"]
    result = {
        "size": options.size,
        options.detector: timed(
            [*ours, "--detector", options.detector, "--max-memory", options.max_memory, "--no-report"]
        ),
    }
    if shutil.which(OTB):
        theirs = [OTB, "-in1", before, "-in2", after, "-out", options.folder / "otb.tif", "float"]
        result["orfeo_toolbox"] = timed(theirs)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
