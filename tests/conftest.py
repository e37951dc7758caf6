import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Seeded, like every other test; without a deadline, because a busy machine is no failure.
settings.register_profile("changedet", derandomize=True, deadline=None)
settings.load_profile("changedet")


def pytest_configure(config: pytest.Config) -> None:
    """Leave out slow tests and those of other programs unless `-m` says otherwise.

    Converted models are kept in the folder of pytest's cache.
    """
    config.option.markexpr = config.option.markexpr or "not slow and not system"
    # Converted models: not in the user's cache, and kept from one run of the tests to the next.
    os.environ["CHANGEDET_CACHE"] = str(config.cache.mkdir("models"))
    if "PYTEST_XDIST_WORKER" in os.environ:
        # OpenMP's threads wait by spinning: those of processes beside each other slow them down to a tenth.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own with room for 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.name != "posix" or os.getuid() != 0:
        pytest.skip("only root may mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk could be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)
