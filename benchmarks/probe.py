"""One job in a process of its own, and what it took: seconds, peak memory, the first chip, its stages.

    python -m benchmarks.probe STARTED FIGURES.json run BEFORE AFTER … | vectorize MASK …

STARTED is the parent's clock as it started this process. The job is a command line of changedet.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

_CLOCKS: dict[str, float] = defaultdict(float)
# Seconds of the processor in the thread that a stage runs in, which other work on the machine hardly changes; and in
# all threads meanwhile.
_PROCESSOR: dict[str, float] = defaultdict(float)
_PROCESS: dict[str, float] = defaultdict(float)


def measure(figures: Path, *job: object, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Do a job in a process of its own and return its figures."""
    command = [sys.executable, "-m", "benchmarks.probe", repr(time.time()), figures, *job]
    subprocess.run([*map(str, command)], check=True, env=env, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(figures.read_text())
    return found


def main() -> None:
    """Do the job and write its figures."""
    started, figures, *job = sys.argv[1:]
    from changedet.cli import cli

    with _watched(float(started)) if job[0] == "run" else nullcontext():
        cli(["-q", *job], standalone_mode=False)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "seconds": time.time() - float(started),
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": _peak_bytes(),
        "stages": dict(_CLOCKS),
        "stages_processor": dict(_PROCESSOR),
        "stages_process": dict(_PROCESS),
    }
    Path(figures).write_text(json.dumps(found, indent=1))


@contextmanager
def _watched(started: float) -> Iterator[None]:
    """Time the stages of a run, and when its first chip comes to the network."""
    from changedet.detect import detector, fused, method, reuse, run
    from changedet.read.pair import RasterPair
    from changedet.write.raster import RasterSink

    def first_chip() -> None:
        _CLOCKS.setdefault("until the first chip", time.time() - started)

    _time(RasterPair, "read", "read")
    _time(detector.NetworkDetector, "predict", "network", before=first_chip)
    _time(RasterSink, "write", "store")
    _time(fused.FusedDetector, "join", "statistic of the pair")
    _time(method, "fit_term", "fit of the statistic")
    _time(method.LabelFreeMethod, "fit", "fit of the detector")
    _time(run, "prepare", "prepare")
    _time(run, "stitch", "stitch", after=_watch_finish)
    _time(reuse.Earlier, "restore", "restore", after=_watch_finish)
    read_before = _bytes_read()
    yield
    _CLOCKS["bytes read"] = _bytes_read() - read_before


def _watch_finish() -> None:
    """Time what follows the last chip, too; a run imports it then, so that the first does not wait for it."""
    from changedet.detect import finish

    for name, stage in STAGES.items():
        _time(finish, name, stage)


# Functions of `changedet.detect.finish` and what the table calls them. `stitch` holds read, network, statistic and
# store, of which reading and storing go on beside the others; COGs and pictures are made beside the polygons.
STAGES = {
    "write_plain_mask": "mask",
    "vectorize": "polygons and statistics",
    "write_cogs": "COGs and overviews",
    "draw_pictures": "pictures of the report",
    "write_file": "vector files",
    "write_report": "report",
}


def _nothing() -> None:
    pass


def _time(
    owner: Any, name: str, stage: str, *, before: Callable[[], None] = _nothing, after: Callable[[], None] = _nothing
) -> None:
    real = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        before()
        begun, used, together = time.perf_counter(), time.thread_time(), time.process_time()
        try:
            return real(*arguments, **options)
        finally:
            _CLOCKS[stage] += time.perf_counter() - begun
            _PROCESSOR[stage] += time.thread_time() - used
            _PROCESS[stage] += time.process_time() - together
            after()

    setattr(owner, name, timed)


def _peak_bytes() -> int:
    return 1024 * _proc("/proc/self/status", "VmHWM:")


def _bytes_read() -> int:
    return _proc("/proc/self/io", "rchar:")


def _proc(path: str, name: str) -> int:
    return next(int(line.split()[1]) for line in Path(path).read_text().splitlines() if line.startswith(name))


if __name__ == "__main__":
    main()
