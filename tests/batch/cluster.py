"""A Dask scheduler and workers as processes of their own on loopback, and a run that they serve: all can be killed."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from changedet.batch.ledger import NAME
from tests.batch.kernel import PAUSE
from tests.pairs import ROOT

# Long enough for a busy machine; nothing waits for it that goes well.
_PATIENCE = 120.0


def _start(*command: str, pause: float = 0.0) -> subprocess.Popen[bytes]:
    own = {"PYTHONPATH": str(ROOT), PAUSE: str(pause), "OMP_NUM_THREADS": "1"}
    # A session of its own: whatever the process has started can be ended with it.
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | own,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@contextmanager
def process(*command: str, pause: float = 0.0) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python with a command, and end it, with all it started, if it does not end by itself."""
    child = _start(*command, pause=pause)
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


@contextmanager
def cluster(pause: float = 0.0, workers: int = 2) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and workers; gives its address, and the processes, the scheduler's first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        scheduler = ("-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        worker = ("-m", "dask", "worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny")
        children = [stack.enter_context(process(*scheduler))]
        children += [stack.enter_context(process(*worker, pause=pause)) for _ in range(workers)]
        yield address, children


@contextmanager
def run(manifest: Path, out: Path, *options: str, pause: float = 0.0) -> Iterator[subprocess.Popen[bytes]]:
    """Begin a run of a batch."""
    with process("-m", "tests.batch.coordinator", str(manifest), str(out), *options, pause=pause) as child:
        yield child


def kill(child: subprocess.Popen[bytes]) -> None:
    """End a process as nothing can prevent, and no process that it started."""
    child.send_signal(signal.SIGKILL)
    child.wait()


def wait_for(condition: Callable[[], bool], child: subprocess.Popen[bytes]) -> None:
    """Wait until something is so, as long as a process runs."""
    end = time.monotonic() + _PATIENCE
    while not condition():
        if child.poll() is not None or time.monotonic() > end:
            told = child.communicate()[1].decode() if child.poll() is not None else "it takes too long"
            raise AssertionError(f"{child.args}: {told}")
        time.sleep(0.02)


def tiles_in(out: Path) -> int:
    """Return how many tiles have their files."""
    return len(list(out.glob("tiles/*/mask.tif")))


def is_sound(out: Path) -> bool:
    """Return whether SQLite finds nothing wrong with a ledger that nobody has open."""
    with sqlite3.connect(out / NAME) as ledger:
        return ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)
