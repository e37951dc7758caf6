"""The processes that share the work: Dask's, on this machine or wherever a scheduler has them.

Dask is imported by `Engine` alone, and late: it takes half a second that no other command need spend.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from queue import Empty, SimpleQueue
from time import monotonic
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from changedet.config import BatchConfig
from changedet.errors import ClusterError

# Tasks that are with the scheduler for each thread of a worker: one to be at, and some so that it never waits.
_AHEAD: Final = 4
# Seconds between two looks at whether all is well.
_TICK: Final = 0.5
# Seconds without any worker after which nobody comes any more: a nanny starts a new one in a few.
_PATIENCE: Final = 60.0
# Seconds in which a scheduler that is there answers.
_REACHED: Final = 30.0

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Finished(Generic[Item]):
    """A task that is done.

    Attributes:
        item: that it was of.
        value: that it returned; None where it failed.
        error: that it raised, after all its retries, or that its worker died of; None where it returned.
    """

    item: Item
    value: Any
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class _Task(Generic[Item]):
    """What is to be done; `alone` where nothing else is done meanwhile."""

    item: Item
    arguments: tuple[Any, ...]
    alone: bool = False


class Engine:
    """Processes that carry tasks out, as a context manager. None is started before there is something to do.

    Args:
        config: `workers`, `scheduler`, `threads`, `retries` and `max_memory` of it.
    """

    def __init__(self, config: BatchConfig) -> None:
        self._config = config
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stack.close()
        except Exception:
            # What ended the batch matters more than that its scheduler does not answer the farewell.
            if error is None:
                raise

    @cached_property
    def threads(self) -> int:
        """How many compute in each worker.

        Raises:
            ClusterError: the scheduler cannot be reached, or has no worker.
        """
        if self._config.scheduler is None:
            return shared_out(self._config)[1]
        return self._config.threads or min(self._client.nthreads().values())

    @cached_property
    def _client(self) -> Any:
        where = self._config.scheduler
        if where is None:
            import dask

            # Else a worker that died again while it was started again, 15 s after the first time, is given up for good.
            self._stack.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}))
            cluster = self._stack.enter_context(_local_cluster(shared_out(self._config)[0]))
            return self._stack.enter_context(_client_of(cluster))
        client = self._stack.enter_context(_client_of(where))
        _wait_for_worker(client, where)
        return client

    def map(
        self, function: Callable[..., Any], tasks: Iterator[tuple[Item, tuple[Any, ...]]]
    ) -> Iterator[Finished[Item]]:
        """Carry tasks out, in any order, a bounded number at a time; what is not asked for any more is given up.

        A task whose worker died is begun again on another. Dask holds the death of a worker against every task that
        waited there, so one that is given up for that has its turn in the end, with no other beside it: whose worker
        dies then too is to blame.

        Args:
            function: what a task is.
            tasks: what each is of, and the arguments of the function; taken as they are needed.

        Raises:
            ClusterError: the scheduler cannot be reached or is gone, or all workers are gone and none came back.
        """
        done: SimpleQueue[Any] = SimpleQueue()
        running: dict[Any, _Task[Item]] = {}
        suspects: deque[_Task[Item]] = deque()
        first = next(tasks, None)
        if first is None:
            return
        waiting, watch = (_Task(*task) for task in chain([first], tasks)), _Watch(self._client)
        try:
            while True:
                for task in islice(waiting, max(0, watch.room() - len(running))):
                    running[self._started(function, task, done)] = task
                if not running and suspects:
                    task = replace(suspects.popleft(), alone=True)
                    running[self._started(function, task, done)] = task
                if not running:
                    return
                try:
                    future = done.get(timeout=_TICK)
                except Empty:
                    continue
                task = running.pop(future)
                if future.status in ("lost", "pending"):
                    # Its worker died before the result was fetched, and Dask does it again.
                    running[future] = task
                    future.add_done_callback(done.put)
                elif _lost_its_workers(future) and not task.alone:
                    suspects.append(task)
                else:
                    yield self._finished(future, task.item)
        finally:
            for future in running:
                future.release()

    def _started(self, function: Callable[..., Any], task: _Task[Any], done: SimpleQueue[Any]) -> Any:
        with _telling_whether_gone(self._client):
            future = self._client.submit(function, *task.arguments, pure=False, retries=self._config.retries)
            future.add_done_callback(done.put)
        return future

    def _finished(self, future: Any, item: Item) -> Finished[Item]:
        if future.status == "finished":
            try:
                return Finished(item, future.result(), None)
            # The task returned, so what fails is to fetch what it did: before the client knows that it is alone, too.
            except Exception as error:
                raise _gone(error) from error
        if future.status == "error":
            return Finished(item, None, future.exception())
        raise _gone(f"a task was {future.status}")


def _lost_its_workers(future: Any) -> bool:
    from distributed import KilledWorker

    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def shared_out(config: BatchConfig) -> tuple[int, int]:
    """Return how many workers this machine has, and how many threads compute in each, so that all cores are used once.

    Unless told otherwise there are as many workers as cores, or as many as the memory holds.
    """
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    most = max(1, min(CPU_COUNT, MEMORY_LIMIT // config.max_memory))
    workers = config.workers or most
    return workers, config.threads or max(1, CPU_COUNT // workers)


def _local_cluster(workers: int) -> Any:
    import dask
    from distributed import LocalCluster

    _hush()

    # One thread of a worker takes tiles; how many compute in it is another matter. The memory is bounded by the chip
    # size, and a limit of Dask's own would only pause workers or kill them. Its page is on any free port.
    options = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    with dask.config.set({"distributed.worker.profile.enabled": False}):
        return LocalCluster(  # type: ignore[no-untyped-call]
            processes=True, host="127.0.0.1", silence_logs=logging.CRITICAL, **options
        )


def _client_of(where: Any) -> Any:
    from distributed import Client

    _hush()
    try:
        if isinstance(where, str):
            _check_encryption(where)
        return Client(  # type: ignore[no-untyped-call]
            where, timeout=_REACHED, set_as_default=False
        )
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"the scheduler {where} cannot be reached ({error})",
            expected="a running Dask scheduler, tcp://HOST:PORT",
            remedy="dask scheduler, or --workers N for processes on this machine",
        ) from error


def _check_encryption(where: str) -> None:
    """Refuse what Dask would not tell well, and only after a minute.

    Raises:
        ClusterError: an address of TLS without certificates, or of none where Dask is to encrypt.
        OSError: a certificate cannot be read.
    """
    from distributed.security import Security

    told = Security().get_connection_args("client")  # type: ignore[no-untyped-call]
    if (told["ssl_context"] is None) if where.startswith("tls://") else told["require_encryption"]:
        raise ClusterError(
            f"the scheduler {where} cannot be reached as Dask is configured here",
            expected="tls://HOST:PORT with certificates, or tcp://HOST:PORT in a closed network",
            remedy="the variables DASK_DISTRIBUTED__COMM__TLS__…, see docs/scaling.md",
        )


def _hush() -> None:
    """Let Dask say nothing in this process: it tells of every connection, and what goes wrong we tell ourselves."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


def _wait_for_worker(client: Any, where: str) -> None:
    from distributed import TimeoutError as DaskTimeoutError

    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except (TimeoutError, DaskTimeoutError) as error:
        raise ClusterError(
            f"the scheduler {where} has no workers", expected="at least one", remedy=f"dask worker {where}"
        ) from error


class _Watch:
    """Sees whether scheduler and workers are there, once a tick."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._threads = 1
        self._due = 0.0
        # When the first look was that missed them; looks can be far apart, as to fetch a result takes its time.
        self._missed: float | None = None

    def room(self) -> int:
        """Return how many tasks may be with the scheduler.

        Raises:
            ClusterError: nothing will come any more.
        """
        if monotonic() >= self._due:
            self._look()
            self._due = monotonic() + _TICK
        return _AHEAD * self._threads

    def _look(self) -> None:
        if self._client.status != "running":
            raise _gone(f"its connection is {self._client.status}")
        try:
            with _telling_whether_gone(self._client):
                threads = sum(self._client.nthreads().values())
        except OSError as error:
            # A busy scheduler may answer late; that it died, the client's own connection tells.
            if self._missed_for() > _PATIENCE:
                raise _gone(error) from error
            return
        if threads:
            self._threads, self._missed = threads, None
        elif self._missed_for() > _PATIENCE:
            raise ClusterError("all workers are gone, and none came back", remedy="start workers, and run it again")

    def _missed_for(self) -> float:
        now = monotonic()
        self._missed = now if self._missed is None else self._missed
        return now - self._missed


@contextmanager
def _telling_whether_gone(client: Any) -> Iterator[None]:
    """Tell of what goes wrong without a connection as of that: Dask raises errors of many classes then."""
    try:
        yield
    except Exception as error:
        if client.status == "running":
            raise
        raise _gone(error) from error


def _gone(why: object) -> ClusterError:
    return ClusterError(
        f"the scheduler is gone ({why})",
        expected="that it stays until the batch is done",
        remedy="start it again, and run the same command: it goes on where it stopped",
    )
