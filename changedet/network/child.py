"""Work in a process of its own, for what would leave its memory or its peak behind in ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from changedet.errors import ModelError

# Taking torch and all it loaded apart again takes a second, and the system does it anyway.
_AT_ONCE = "\nimport os, sys; sys.stdout.flush(); os._exit(0)"


def run_child(code: str, *arguments: str) -> str:
    """Run Python code in another interpreter that finds modules where this one does, and return what it prints.

    Raises:
        ModelError: it fails; the message is the last line of its traceback.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(  # noqa: S603  # our own command
        [sys.executable, "-c", code + _AT_ONCE, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ModelError(f"the model cannot be made ready: {reason}")
    return done.stdout


def peak_bytes() -> int:
    """Return the peak resident memory of this process, 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would do, but on Linux a child begins with the peak of its parent there.
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
