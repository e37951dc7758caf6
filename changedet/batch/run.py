"""`changedet batch run`: every tile of a manifest that is not done yet, on all workers, whatever happened before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from changedet.batch.agenda import Agenda
from changedet.batch.engine import Engine, Finished
from changedet.batch.inputs import Files
from changedet.batch.job import Job
from changedet.batch.learned import FOLDER, learn
from changedet.batch.ledger import Ledger, TileResult
from changedet.batch.manifest import Manifest
from changedet.batch.manifest_file import read_manifest, write_manifest
from changedet.batch.mosaics import MethodOf
from changedet.batch.outcome import FAILED, LEFT, TILES, Outcomes, tile_folder
from changedet.batch.outputs import CHANGES, MANIFEST, write_outputs
from changedet.batch.status import Telling
from changedet.batch.tile import Session, failed, process_tile
from changedet.config import BatchConfig, check_batch_options
from changedet.detect.method import choose_method
from changedet.detect.run import deliver, targets_of
from changedet.detect.stitch import Progress, silent
from changedet.errors import OutputError, OutputExistsError
from changedet.write.layers import stored_layers
from changedet.write.staging import refuse_existing


@dataclass(frozen=True, eq=False)
class BatchResult:
    """What became of a batch.

    Attributes:
        out: its output folder.
        outcomes: of its tiles.
        redone: `inputs`, `parameters`, `model` → tiles that were done before, and again for a change of it.
        record: run.json, as it was written.
        results: names of the files in `out` that are of the whole batch.
    """

    out: Path
    outcomes: Outcomes
    redone: dict[str, int]
    record: dict[str, Any]
    results: tuple[str, ...]

    @property
    def failed(self) -> int:
        """How many tiles failed."""
        return self.outcomes.counts[FAILED]

    def failures(self, most: int) -> list[dict[str, Any]]:
        """Return the first tiles that failed, with what they failed of; see `Outcomes.rows`."""
        return list(islice(self.outcomes.rows(FAILED), most))


def run_batch(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    progress: Progress = silent,
    method_of: MethodOf = choose_method,
    **options: Any,
) -> BatchResult:
    """Map all tiles of a manifest that are not done yet.

    It may be stopped in any way, and begun again by the same call: what is done is not done again, unless its inputs,
    the options or the model are others. Called from a script, it belongs under `if __name__ == "__main__":`, as every
    program that starts processes.

    Args:
        manifest: file that `changedet batch plan` wrote.
        out: output folder.
        progress: hears how far each stage has come.
        method_of: from scenes and options to what maps them; a function that workers can import.
        **options: see `changedet.config.BatchConfig`.

    Raises:
        ChangeDetError: one of its children, see `changedet.errors`, where the batch as a whole cannot go on. A tile
            that fails is no exception.
    """
    config = check_batch_options(options)
    return _carry_out(read_manifest(manifest), Path(out), config, progress, method_of)


def retry_batch(
    out: str | os.PathLike[str], *, progress: Progress = silent, method_of: MethodOf = choose_method, **options: Any
) -> BatchResult:
    """Map the tiles of a batch again that failed, and those that are left.

    Args:
        out: output folder of the batch.
        progress: hears how far each stage has come.
        method_of: see `run_batch`.
        **options: instead of those of the batch's last run.

    Raises:
        NotFoundError: there is no batch.
        ChangeDetError: see `run_batch`.
    """
    then = Job.read(out).config.model_dump(exclude={"overwrite", *(["workers"] if "scheduler" in options else [])})
    config = check_batch_options({**then, **options})
    return _carry_out(read_manifest(Path(out) / MANIFEST), Path(out), config, progress, method_of, forgive=True)


def _carry_out(
    manifest: Manifest,
    out: Path,
    config: BatchConfig,
    progress: Progress,
    method_of: MethodOf,
    *,
    forgive: bool = False,
) -> BatchResult:
    started, resumed = datetime.now(UTC), Ledger.lies_in(out)
    refuse_existing(out, overwrite=config.overwrite or resumed)
    # What lies elsewhere is this batch's own by then.
    elsewhere = config.model_copy(update={"overwrite": config.overwrite or resumed})
    targets = targets_of(elsewhere)
    with Ledger(out) as ledger, Engine(config) as engine:
        _begin(manifest, out, ledger, overwrite=config.overwrite)
        if forgive:
            ledger.forgive()
        job = Job(out.absolute(), manifest.digest, manifest.geobox, manifest.aoi, config)
        session = Session(job.write(), engine.threads, method_of)
        files = Files(ledger.known_files())
        records = learn(job, session, manifest.mosaics, files, engine, progress)
        ledger.remember_files(files.seen)
        agenda = Agenda.of(manifest, records, config)
        redone = ledger.expect(agenda.causes)
        _map(agenda, session, ledger, engine, progress)
        outcomes = Outcomes(manifest, ledger.outcomes())
        learned = {mosaic.name: record for mosaic, record in zip(manifest.mosaics, records, strict=True)}
        record, results = write_outputs(job, outcomes, learned, started, progress)
    result = BatchResult(out, outcomes, redone, record, results)
    deliver(stored_layers(out / CHANGES), targets, elsewhere)
    return result


def _begin(manifest: Manifest, out: Path, ledger: Ledger, *, overwrite: bool) -> None:
    """Enter the tiles of a batch that is new here; refuse another than the one that was begun here."""
    if ledger.batch is not None and overwrite:
        ledger.clear()
        for folder in (TILES, FOLDER):
            shutil.rmtree(out / folder, ignore_errors=True)
    if ledger.batch is None:
        (out / TILES).mkdir(exist_ok=True)
        write_manifest(out / MANIFEST, manifest, overwrite=True)
        ledger.begin(manifest.digest, (tile.id for tile in manifest.tiles()))
    elif ledger.batch != manifest.digest:
        raise OutputExistsError(
            f"{out} holds another batch: its grid, mosaics or tiles are not those of this manifest",
            expected="the manifest it was begun with",
            remedy="another -o, or --overwrite to begin anew there",
        )


def _map(agenda: Agenda, session: Session, ledger: Ledger, engine: Engine, progress: Progress) -> None:
    """Map the tiles that are left, and enter what becomes of each as it is known."""
    telling = Telling(ledger.out, ledger.counts())
    total = telling.counts[LEFT]

    def enter(position: int, result: TileResult) -> None:
        ledger.record(position, result)
        telling.count(result.state)
        if telling.is_due():
            ledger.save()
            telling.tell()
        progress("tiles", total - telling.counts[LEFT], total)

    telling.tell()
    for finished in engine.map(process_tile, _tasks(agenda, session, ledger, enter)):
        enter(finished.item, _result(finished))
    ledger.save()
    telling.tell()


def _tasks(
    agenda: Agenda, session: Session, ledger: Ledger, enter: Callable[[int, TileResult], None]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the tiles that need a worker; of the others it is known what becomes of them."""
    for position in ledger.left():
        tile = agenda.tile(position)
        known = agenda.known(position, tile)
        if known is None:
            yield position, (session, agenda.record(position).ref, tile, agenda.identical[position])
        else:
            shutil.rmtree(tile_folder(ledger.out, tile.id), ignore_errors=True)
            enter(position, known)


def _result(finished: Finished[int]) -> TileResult:
    """Return what became of a tile; a full disk is no tile's failure."""
    if isinstance(finished.error, OutputError):
        raise finished.error
    if finished.error is not None:
        return failed(finished.error)
    result: TileResult = finished.value
    return result
