"""How the cores and the memory of a machine are shared out among workers, and what the death of one means."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from changedet.batch import engine
from changedet.batch.engine import Engine, Finished, shared_out
from changedet.config import BatchConfig
from changedet.errors import ClusterError


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_memory": "1GB"}, (16, 1)),
        ({"max_memory": "8GB"}, (4, 4)),  # as many as the memory holds
        ({"max_memory": "99GB"}, (1, 16)),
        ({"workers": 3}, (3, 5)),
        ({"workers": 32}, (32, 1)),
        ({"workers": 2, "threads": 3}, (2, 3)),
    ],
)
def test_workers_use_every_core_once_and_no_more_memory_than_there_is(
    options: dict[str, object], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dask.system.CPU_COUNT", 16)
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 32 * 10**9)
    assert shared_out(BatchConfig.model_validate(options)) == expected


class _Future:
    """Of a task that is done, lost with its worker as often as told, and done again."""

    def __init__(self, result: str, losses: int) -> None:
        self._result, self._losses, self.status = result, losses, "pending"

    def add_done_callback(self, call: Callable[[Any], None]) -> None:
        self.status = "lost" if self._losses else "finished"
        self._losses -= 1
        call(self)

    def result(self) -> str:
        assert self.status == "finished"
        return self._result


class _Client:
    status = "running"

    def nthreads(self) -> dict[str, int]:
        return {"a": 1}

    def submit(self, function: Callable[..., str], *arguments: Any, **_: Any) -> _Future:
        return _Future(function(*arguments), losses=arguments[0])


def test_a_result_that_is_lost_with_its_worker_is_waited_for_again() -> None:
    with Engine(BatchConfig()) as computed:
        computed.__dict__["_client"] = _Client()  # a cached property
        found = list(computed.map(lambda losses: f"after {losses}", (("xyz"[n], (n,)) for n in range(3))))
    assert sorted(found, key=lambda each: each.item) == [
        Finished("x", "after 0", None),
        Finished("y", "after 1", None),
        Finished("z", "after 2", None),
    ]


def test_workers_are_gone_when_look_after_look_misses_them_and_not_when_one_look_comes_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Restarting(_Client):
        threads: ClassVar[list[dict[str, int]]] = [{"a": 1}, {}, {"a": 1}, {}, {}]

        def nthreads(self) -> dict[str, int]:
            return self.threads.pop(0)

    clock = iter(range(0, 1000, 50))
    monkeypatch.setattr(engine, "monotonic", lambda: next(clock))
    watch = engine._Watch(Restarting())
    for _ in range(4):
        watch.room()  # minutes apart, and each miss is the first
    with pytest.raises(ClusterError, match="all workers are gone"):
        watch.room()
