"""Outputs appear whole or not at all: work in a hidden folder beside them, then rename."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from changedet.errors import ChangeDetError, OutputError, OutputExistsError

RUN_JSON = "run.json"
# All that a run may leave. With `overwrite`, those of an earlier run that the new one does not write are removed, as
# they would pass for its results.
OUTPUTS = (
    *("probability.tif", "mask.tif", "statistic.tif", "uncertainty.tif"),
    *("first_change.tif", "first_change.qml"),
    *("changes.gpkg", "changes.parquet", "changes.fgb", "changes.geojson", "report.html", "stac.json", RUN_JSON),
)
# What GDAL, QGIS and SQLite put beside a file. Left beside its successor, an old write-ahead log or statistics of an
# old raster would corrupt or misstate it.
_SIDECARS = (".aux.xml", ".ovr", ".msk", "-wal", "-shm", "-journal")

# Host and process that own a work folder are in its name, so a later run can tell one left by a kill from one in use
# by another machine on a shared disk.
_HOST = re.sub(r"\W", "_", platform.node()) or "localhost"
_WORK_FOLDER = re.compile(rf"\.changedet-{_HOST}-(\d+)-\w+")
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class Staging:
    """The output folder of a run, as a context manager: nothing is seen in it until everything is done.

    Files are made in a hidden work folder inside the output folder, so that publishing is a rename on one disk. On
    leaving without an exception, the published ones are renamed into place, run.json last; on any exception,
    KeyboardInterrupt included, the work folder goes, and the output folder too where this run made it.

    Args:
        out_dir: the output folder, made where it does not exist.
        overwrite: replace what an earlier run left there.

    Raises:
        OutputExistsError: on entering, `out_dir` is a file, or holds anything visible and `overwrite` is not set.
        OutputError: the folder cannot be made, or the disk is full.
    """

    def __init__(self, out_dir: str | os.PathLike[str], overwrite: bool = False) -> None:
        self.out_dir = Path(out_dir)
        self.overwrite = overwrite
        self._published: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Staging:
        refuse_existing(self.out_dir, overwrite=self.overwrite)
        self._work = self._stack.enter_context(_work_folder(self.out_dir))
        return self

    @property
    def work(self) -> Path:
        """The work folder."""
        return self._work

    def path(self, name: str) -> Path:
        """Return the path of a file to make in the work folder; unless published, it is temporary."""
        return self._work / name

    def publish(self, name: str) -> Path:
        """Say that the file `name` of the work folder is a result, and return the path that it will have."""
        if name not in self._published:
            self._published.append(name)
        return self.out_dir / name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            with self._stack:
                self._move()
        else:
            self._stack.__exit__(kind, error, trace)

    def _move(self) -> None:
        # Without its run.json an output folder is not complete, so it is the first to go and the last to come.
        names = sorted(self._published, key=lambda name: name == RUN_JSON)
        moved: list[Path] = []
        try:
            if self.overwrite:
                _remove_outputs(self.out_dir)
            for name in names:
                target = self.out_dir / name
                (self._work / name).replace(target)
                moved.append(target)
        except BaseException:
            for target in moved:
                target.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give a path of the same name to write to, and rename it to `path` when the block ends well.

    Raises:
        OutputExistsError: `path` is a folder, or exists and `overwrite` is not set.
        OutputError: its folder cannot be written to, or the disk is full.
    """
    target = Path(path)
    with atomic_paths(target.parent, (target.name,), overwrite=overwrite) as work:
        yield work / target.name


@contextmanager
def atomic_paths(folder: str | os.PathLike[str], names: Iterable[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to make files in, and move them to `folder` when the block ends well.

    Raises:
        OutputExistsError: one of them is a folder, or exists and `overwrite` is not set.
        OutputError: `folder` cannot be written to, or the disk is full.
    """
    targets = [Path(folder) / name for name in names]
    for target in targets:
        if target.is_dir() or (target.exists() and not overwrite):
            raise OutputExistsError(
                f"{target} exists", expected="a new file", remedy="--overwrite to replace it, or another -o"
            )
    with _work_folder(Path(folder)) as work:
        yield work
        for target in targets:
            _remove_sidecars(target)
            (work / target.name).replace(target)


def refuse_existing(out_dir: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that is a file, or that holds anything visible unless `overwrite`.

    Raises:
        OutputExistsError: see above.
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise OutputExistsError(f"{out_dir} is a file", expected="a folder", remedy="another -o")
    visible = [entry.name for entry in out_dir.iterdir() if entry.name[0] != "."] if out_dir.is_dir() else []
    if visible and not overwrite:
        raise OutputExistsError(
            f"{out_dir} already holds {len(visible)} file(s), {min(visible)} among them",
            expected="an empty or a new folder",
            remedy="--overwrite to replace the results in it, or another -o",
        )


@contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    """Make a hidden folder in `parent`; in the end remove it, and what was made to hold it where that is empty."""
    created = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    try:
        work = _make_work_folder(parent)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        if error.errno in _DISK_FULL and not isinstance(error, ChangeDetError):
            raise disk_full(parent, error) from error
        raise
    finally:
        for folder in created:
            with suppress(OSError):
                folder.rmdir()


def _make_work_folder(parent: Path) -> Path:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(parent)
        return Path(tempfile.mkdtemp(prefix=f".changedet-{_HOST}-{os.getpid()}-", dir=parent))
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise
        raise OutputError(
            f"nothing can be written in {parent} ({error.strerror})",
            expected="a folder that can be written to",
            remedy="another -o, or its permissions",
        ) from error


def disk_full(folder: Path, error: object) -> OutputError:
    """Return the error that tells of a disk without room."""
    return OutputError(
        f"the disk of {folder} is full ({error})",
        expected="room for every output twice while it is made",
        remedy="free some space, or another -o",
    )


def remove_work_folders(parent: Path) -> None:
    """Remove all work folders in a folder, whoever made them: only where none can be in use."""
    for entry in parent.glob(".changedet-*"):
        shutil.rmtree(entry, ignore_errors=True)


def _remove_stale(parent: Path) -> None:
    """Remove the work folders of processes of this machine that were killed and could not do it."""
    for entry in parent.iterdir():
        match = _WORK_FOLDER.fullmatch(entry.name)
        if match and not _is_alive(int(match[1])):
            shutil.rmtree(entry, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # where signal 0 is Ctrl-C, not a question
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_outputs(out_dir: Path) -> None:
    for name in (RUN_JSON, *OUTPUTS):
        (out_dir / name).unlink(missing_ok=True)
        _remove_sidecars(out_dir / name)


def _remove_sidecars(path: Path) -> None:
    for suffix in _SIDECARS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
