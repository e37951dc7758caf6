"""Batches on real processes that are killed: begun again, the result is that of one that never stopped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import dask
import geopandas as gpd
import numpy as np
import psutil
import pytest
import rasterio

from changedet.batch import engine
from changedet.batch import run as batch_run
from changedet.batch.ledger import NAME
from changedet.batch.manifest_file import write_manifest
from changedet.batch.outcome import DONE, FAILED, LEFT
from changedet.batch.run import run_batch
from changedet.batch.status import status_of
from changedet.errors import ClusterError, OutputExistsError, exit_code
from tests.batch.cluster import cluster, is_sound, kill, run, tiles_in, wait_for
from tests.batch.kernel import (
    MEMORY,
    POISON,
    InlineEngine,
    expected,
    kernel_method,
    manifest_over,
    stored,
    write_scenes,
)

TILES, WITHOUT_PIXELS = 24, 2
# Seconds a chip takes; a tile of two chips twice that.
SLOW = 0.05


@dataclass(frozen=True)
class Uninterrupted:
    """A manifest of 24 tiles, what all of them together have to hold, and the polygons of a run that nothing killed."""

    manifest: Path
    stored: np.ndarray
    changes: gpd.GeoDataFrame


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    folder = tmp_path_factory.mktemp("batch")
    scenes = write_scenes(folder, 240, 360)
    write_manifest(folder / "m.parquet", manifest_over(*scenes, 60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_run, "Engine", InlineEngine)
        run_batch(folder / "m.parquet", folder / "out", method_of=kernel_method, max_memory=MEMORY)
    return Uninterrupted(folder / "m.parquet", expected(*scenes), _changes(folder / "out"))


def _changes(out: Path) -> gpd.GeoDataFrame:
    table = gpd.read_file(out / "changes.gpkg", layer="changes").sort_values("id", ignore_index=True)
    return table.set_geometry(table.geometry.normalize())


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that this process begins need no others."""
    monkeypatch.setattr(batch_run, "Engine", InlineEngine)


def _finish(batch: Uninterrupted, out: Path) -> None:
    """Run a batch to its end, and check that it is whole."""
    result = run_batch(batch.manifest, out, method_of=kernel_method, max_memory=MEMORY)
    assert (result.outcomes.counts[FAILED], result.outcomes.counts[LEFT]) == (0, 0)
    assert result.redone == {"inputs": 0, "parameters": 0, "model": 0}
    np.testing.assert_array_equal(stored(out, result.outcomes), batch.stored)
    assert _changes(out).equals(batch.changes)
    assert is_sound(out)
    assert not list(out.glob("tiles/*/.changedet-*"))


def _moment(seed: int) -> int:
    """Return how many tiles are there when something is killed."""
    return int(np.random.default_rng(seed).integers(TILES - 4))


def _has_the_ledger_open(process: int) -> bool:
    return any(Path(file.path).name == NAME for file in psutil.Process(process).open_files())


def test_a_run_killed_at_any_moment_goes_on_and_gives_the_same(
    batch: Uninterrupted, tmp_path: Path, here: None
) -> None:
    """With its scheduler, which lives in it; its workers find that out by themselves."""
    with run(batch.manifest, tmp_path / "out", "workers=2", pause=SLOW) as child:
        wait_for(lambda: tiles_in(tmp_path / "out") >= _moment(0), child)
        kill(child)
        assert tiles_in(tmp_path / "out") < TILES - WITHOUT_PIXELS
        _finish(batch, tmp_path / "out")


def test_a_worker_killed_in_the_midst_of_a_tile_costs_that_tiles_time_and_nothing_else(
    batch: Uninterrupted, tmp_path: Path, here: None
) -> None:
    """Meanwhile the run alone has the ledger open, no other may begin there, and whoever asks is told how it goes."""
    out = tmp_path / "out"
    with cluster(pause=SLOW) as (address, (_, first, second)):
        with run(batch.manifest, out, f"scheduler={address}") as child:
            wait_for(lambda: tiles_in(out) >= _moment(1), child)
            assert [_has_the_ledger_open(it.pid) for it in (child, first, second)] == [True, False, False]
            kill(first)
            with pytest.raises(OutputExistsError, match=r"a batch is running[\s\S]*one at a time"):
                run_batch(batch.manifest, out, method_of=kernel_method, max_memory=MEMORY)
            status = status_of(out)
            assert (status.running, status.total, status.host is None) == (True, TILES, False)
            assert child.wait(timeout=100) == 0
        status = status_of(out)
        assert (status.running, status.counts[DONE], status.counts[LEFT]) == (False, TILES - WITHOUT_PIXELS, 0)
        assert status.tiles_per_second > 0
        _finish(batch, out)


def test_a_scheduler_that_dies_ends_the_run_with_a_message_and_the_run_can_go_on(
    batch: Uninterrupted, tmp_path: Path, here: None
) -> None:
    with cluster(pause=SLOW) as (address, (scheduler, *_)):
        with run(batch.manifest, tmp_path / "out", f"scheduler={address}") as child:
            wait_for(lambda: tiles_in(tmp_path / "out") >= _moment(2), child)
            kill(scheduler)
            _, told = child.communicate(timeout=100)
            assert child.returncode == exit_code(ClusterError("")), told.decode()
            assert b"the scheduler is gone" in told
        _finish(batch, tmp_path / "out")


def test_a_scheduler_that_is_not_there_is_told(
    batch: Uninterrupted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_REACHED", 0.5)
    with pytest.raises(ClusterError, match=r"cannot be reached[\s\S]*dask scheduler"):
        run_batch(batch.manifest, tmp_path / "out", method_of=kernel_method, scheduler="tcp://127.0.0.1:9")


def test_a_scheduler_with_certificates_is_not_reached_without(batch: Uninterrupted, tmp_path: Path) -> None:
    """Nor is one without, where Dask is to encrypt."""
    for address, required in (("tls://127.0.0.1:9", False), ("tcp://127.0.0.1:9", True)):
        with (
            dask.config.set({"distributed.comm.require-encryption": required}),
            pytest.raises(ClusterError, match=r"as Dask is configured here[\s\S]*TLS__…, see docs/scaling.md"),
        ):
            run_batch(batch.manifest, tmp_path / "out", method_of=kernel_method, scheduler=address)


def test_a_scheduler_that_answers_late_is_waited_for_and_one_that_stays_silent_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Busy:
        status = "running"
        answers: ClassVar[list[Any]] = [{"a": 2}, OSError("timed out"), {"a": 1, "b": 1}]

        def nthreads(self) -> dict[str, int]:
            answer = self.answers.pop(0) if self.answers else OSError("timed out")
            if isinstance(answer, OSError):
                raise answer
            return dict(answer)

    monkeypatch.setattr(engine, "_TICK", 0.0)
    watch = engine._Watch(Busy())
    assert [watch.room() for _ in range(4)] == [8, 8, 8, 8]
    monkeypatch.setattr(engine, "_PATIENCE", 0.0)
    with pytest.raises(ClusterError, match="the scheduler is gone"):
        watch.room()


@pytest.mark.slow
def test_tiles_that_kill_their_workers_fail_and_cost_no_other(tmp_path: Path) -> None:
    before, after = write_scenes(tmp_path, 240, 360)
    with rasterio.open(before, "r+") as dataset:
        array = dataset.read()
        array[:, 150, 150] = POISON
        dataset.write(array)
    write_manifest(tmp_path / "m.parquet", manifest_over(before, after, 60))
    result = run_batch(tmp_path / "m.parquet", tmp_path / "out", method_of=kernel_method, max_memory=MEMORY, workers=2)
    # The pixel lies in a chip whose core is 60 px from 121 on: four tiles have a part of it.
    failures = result.failures(TILES)
    assert {failure["id"] for failure in failures} == {"r120c120", "r120c180", "r180c120", "r180c180"}
    assert {failure["error"] for failure in failures} == {"KilledWorker"}
    assert result.outcomes.counts[LEFT] == 0
