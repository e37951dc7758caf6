"""How the cores and the memory of a machine are shared out among workers."""

import pytest

from changedet.batch.engine import shared_out
from changedet.config import BatchConfig


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
