"""A finished run to report on."""

from pathlib import Path

import pytest

from changedet.detect.run import RunResult, run
from tests.pairs import crop_sample, tiny_model


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small part of the sample pair, a good half of it nodata at the second date."""
    return crop_sample(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def done(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run with random weights and so low a threshold that it finds something."""
    folder = tmp_path_factory.mktemp("done")
    model = tiny_model(folder / "tiny.safetensors")
    return run(*pair, folder / "out", model=str(model), threshold=0.45)
