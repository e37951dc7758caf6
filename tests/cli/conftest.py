"""What the commands are tried on: a small pair and a model of random weights."""

from pathlib import Path

import pytest

from tests.pairs import crop_sample, tiny_model


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return crop_sample(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")
