"""A local HTTP server with range requests, which counts what it is asked for.

`python -m tests.server FOLDER` serves from a process of its own, for whole runs: libraries that call back into Python
while they hold the interpreter's lock would wait for ever for a thread of the same process.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Served:
    """What a server was asked for.

    Attributes:
        url: of the folder, without a slash at its end.
        ranges: (path, first byte, byte after the last) of every answer with content.
        credentials: what came with each question, empty for none.
        forbids: answer nothing.
    """

    url: str = ""
    ranges: list[tuple[str, int, int]] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)
    forbids: bool = False

    def bytes_of(self, name: str) -> int:
        """Return how many bytes of a file were sent, those sent twice counted twice."""
        return sum(stop - start for path, start, stop in self.ranges if path.endswith(name))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: object, folder: Path, served: Served) -> None:
        self.folder, self.served = folder, served
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:  # the name that the base class calls
        self._answer(body=False)

    def do_GET(self) -> None:  # likewise
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.served.credentials.append(self.headers.get("Authorization", ""))
        if self.served.forbids:
            self.send_error(403)
            return
        path = self.folder / self.path.split("?")[0].lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = (int(asked[1]), int(asked[2] or len(data) - 1) + 1) if asked else (0, len(data))
        stop = min(stop, len(data))
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.end_headers()
        if body:
            self.served.ranges.append((self.path, start, stop))
            self.wfile.write(data[start:stop])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve(folder: Path) -> Iterator[Served]:
    """Serve a folder on a free port of the loopback."""
    served = Served()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, folder=folder, served=served)) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serve_apart(folder: Path) -> Iterator[Served]:
    """Serve a folder from another process; what was asked for is known after the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.server", os.fspath(folder)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        served = Served(process.stdout.readline().strip())
        try:
            yield served
        finally:
            # The server goes on until nobody could ask it any more.
            told, _ = process.communicate()
            for line in told.splitlines():
                start, stop, path = line.split(" ", 2)
                served.ranges.append((path, int(start), int(stop)))


if __name__ == "__main__":
    with serve(Path(sys.argv[1])) as known:
        sys.stdout.write(f"{known.url}\n")
        sys.stdout.flush()
        sys.stdin.read()
    for place, first, last in known.ranges:
        sys.stdout.write(f"{first} {last} {place}\n")
