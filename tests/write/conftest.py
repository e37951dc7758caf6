import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from affine import Affine
from odc.geo.geobox import GeoBox


@pytest.fixture
def geobox() -> GeoBox:
    """A grid of 1300 x 1100 px of 10 m in UTM 33N: not a multiple of a block."""
    return GeoBox((1300, 1100), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32633")


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
