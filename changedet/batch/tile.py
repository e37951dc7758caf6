"""What a worker does: one tile at a time, with the model and the pair open from one tile to the next."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeVar

import numpy as np
import rasterio

from changedet.batch.job import JobRef
from changedet.batch.ledger import TileResult
from changedet.batch.manifest import IDENTICAL, Mosaic, Tile
from changedet.batch.mosaics import MethodOf, OpenMosaic, open_mosaic, prepare_mosaic
from changedet.batch.outcome import DONE, FAILED, SKIPPED, tile_folder
from changedet.config import RunConfig
from changedet.detect.method import Method
from changedet.detect.pipe import Shifted
from changedet.detect.rasters import CHANGED, open_sinks, write_cogs, write_plain_mask
from changedet.detect.stitch import stitch
from changedet.errors import ChangeDetError, OutputError
from changedet.grid.quantise import NODATA
from changedet.read.pair import BiTemporalPair, OneScene
from changedet.read.scene import Scene
from changedet.write.staging import Staging, remove_work_folders

INVALID: Final = "no valid pixel"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """What all tasks of one run of a batch have in common.

    Attributes:
        ref: of the batch.
        threads: that compute in a worker.
        method_of: from scenes to what maps them.
    """

    ref: JobRef
    threads: int
    method_of: MethodOf


@dataclass(frozen=True, slots=True)
class MosaicRef:
    """A mosaic as tasks carry it.

    Attributes:
        mosaic: what it is.
        record: name of the file with what was learned of it, see `prepare_mosaic`.
        digest: of that file.
    """

    mosaic: Mosaic
    record: str
    digest: str


def learn_mosaic(session: Session, mosaic: Mosaic, lattice: dict[str, Any] | None) -> dict[str, Any]:
    """Return what `prepare_mosaic` learns, in a worker."""
    job = session.ref.job()
    return _alone(lambda _: prepare_mosaic(job, mosaic, session.method_of, session.threads, lattice))


def process_tile(session: Session, mosaic: MosaicRef, tile: Tile, identical: bool) -> TileResult:
    """Map a tile and write its rasters into its folder, in a worker.

    Args:
        session: that the task belongs to.
        mosaic: that the tile is of.
        tile: to map.
        identical: its inputs are the same files at both dates.

    Returns:
        What became of it. An input that is broken is no exception.

    Raises:
        OutputError: the disk is full, or cannot be written to: no other tile would fare better.
    """
    started = perf_counter()
    try:
        valid, changed = _alone(lambda bench: _map(bench, session, mosaic, tile, identical))
    except OutputError:
        raise
    except ChangeDetError as error:
        return failed(error, seconds=perf_counter() - started)
    seconds = perf_counter() - started
    if not valid:
        return skipped(INVALID, seconds=seconds)
    state, why = (SKIPPED, IDENTICAL) if identical else (DONE, None)
    return TileResult(state, has_files=True, message=why, seconds=seconds, known_px=valid, changed_px=changed)


def failed(error: BaseException, *, seconds: float | None = None) -> TileResult:
    """Return the result of a tile that failed."""
    return TileResult(FAILED, error=type(error).__name__, message=str(error), seconds=seconds)


def skipped(why: str, *, seconds: float | None = None) -> TileResult:
    """Return the result of a tile without files, as there is nothing to say of it."""
    return TileResult(SKIPPED, message=why, seconds=seconds)


def _map(bench: Workbench, session: Session, mosaic: MosaicRef, tile: Tile, identical: bool) -> tuple[int, int]:
    """Write the rasters of a tile that has a valid pixel, and return how many there are, and how many changed."""
    job, opened = session.ref.job(), bench.open(session, mosaic)
    pairs: Sequence[BiTemporalPair] = opened.pairs
    if identical and OneScene.fits(opened.pairs[0]):
        pairs = [OneScene(pair) for pair in opened.pairs]
    window = tile.window.relative_to(mosaic.mosaic.window)
    folder = tile_folder(job.out, tile.id)
    # Of a worker that died at this tile, here or on another machine; nobody else is at it.
    remove_work_folders(folder)
    with Staging(folder, overwrite=True) as staging:
        geobox = job.crop(tile.window)
        dtype = job.config.probability_dtype
        sinks = open_sinks(staging.work, geobox, opened.detector, opened.classes, opened.tags, dtype=dtype)
        with sinks as (sink, statistic):
            stitch(
                pairs[0],
                opened.detector,
                opened.plan.within(window),
                Shifted(sink, window),
                more=pairs[1:],
                statistic=statistic and Shifted(statistic, window),
                dtype=dtype,
                answers=opened.answers,
            )
        write_plain_mask(staging.work, opened.threshold, opened.tags)
        valid, changed = _count(staging.path(CHANGED))
        for name in write_cogs(staging.work, job.config.co, session.threads) if valid else ():
            staging.publish(name)
        session.ref.check_current()
    return valid, changed


def _count(mask: Path) -> tuple[int, int]:
    """Return how many pixels of a mask are valid, and how many of them changed."""
    valid = changed = 0
    with rasterio.open(mask) as dataset:
        for _, window in dataset.block_windows(1):
            block = dataset.read(1, window=window)
            known = block != NODATA
            valid += int(known.sum())
            changed += int(np.count_nonzero(block[known]))
    return valid, changed


class Workbench:
    """What a process keeps open from one tile to the next: the pair of one mosaic, and the model."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._key: tuple[Session, str] | None = None
        self._opened: OpenMosaic | None = None
        self._method: Method | None = None
        self._method_key = ""

    def open(self, session: Session, mosaic: MosaicRef) -> OpenMosaic:
        """Return a mosaic, opened now unless it was the last that was asked for."""
        key = session, mosaic.digest
        if self._opened is None or key != self._key:
            self.close()
            record = json.loads((Path(session.ref.out) / mosaic.record).read_text(encoding="utf-8"))
            with ExitStack() as stack:
                self._opened = open_mosaic(
                    stack, session.ref.job(), mosaic.mosaic, record, self._method_of(session, record), session.threads
                )
                self._stack, self._key = stack.pop_all(), key
        return self._opened

    def close(self) -> None:
        """Close the mosaic; the model stays, as the next one will mostly be mapped by it too."""
        self._opened = self._key = None
        self._stack.close()

    def _method_of(self, session: Session, record: Mapping[str, Any]) -> MethodOf:
        """Return what gives the method of a record, opened now unless it was the last that was asked for."""
        key = json.dumps([session.threads, *(record[name] for name in ("model", "backend", "device", "precision"))])

        def kept(scenes: tuple[Scene, Scene], config: RunConfig) -> Method:
            if self._method is None or key != self._method_key:
                if self._method is not None:
                    self._method.release()
                self._method, self._method_key = session.method_of(scenes, config), key
            return self._method

        return kept


@cache
def _thread() -> ThreadPoolExecutor:
    """Return the one thread of this process that maps tiles, as what it keeps open serves one thread at a time.

    A Dask worker of several threads is sent as many tiles at once; they wait for each other, and each takes all of the
    worker's cores in turn.
    """
    return ThreadPoolExecutor(1, "changedet-tile")


@cache
def _bench() -> Workbench:
    return Workbench()


def _alone(work: Callable[[Workbench], T]) -> T:
    """Do what is to be done in the thread for it."""
    return _thread().submit(_tidily, work).result()


def _tidily(work: Callable[[Workbench], T]) -> T:
    """Do what is to be done; after an error nothing stays open.

    A virtual raster reports a file of its own that cannot be opened once: open still, it would give the next tile what
    happened to lie in memory.
    """
    try:
        return work(_bench())
    except BaseException:
        _bench().close()
        raise
