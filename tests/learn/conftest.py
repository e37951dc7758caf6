import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from scipy.ndimage import gaussian_filter

from changedet.config import Candidate, ModelPlan, TrainConfig
from changedet.learn.datasets import LabelledScene

BANDS = ("B02", "B03", "B04", "B08")
_ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def oscd() -> Path:
    """The folder of the real set."""
    folder = Path(os.environ.get("CHANGEDET_DATA", _ROOT.parent / "shared" / "data")) / "oscd"
    if not folder.is_dir():
        pytest.skip(f"no OSCD under {folder}; set CHANGEDET_DATA to the folder that holds oscd/")
    return folder


@pytest.fixture
def make_scene() -> Callable[..., LabelledScene]:
    return _scene


def _scene(size: int = 64, seed: int = 0) -> LabelledScene:
    """A textured place, one bright square of which is new."""
    before, after, changed = _place(size, seed)
    return LabelledScene(f"place{seed}", before, after, changed, np.ones_like(changed))


def _place(size: int, seed: int) -> tuple[NDArray[np.float16], NDArray[np.float16], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    texture = gaussian_filter(rng.standard_normal((len(BANDS), size, size)), (0, 1, 1))
    before = 0.15 + 0.1 * texture
    changed = np.zeros((size, size), np.bool_)
    row, col = rng.integers(size // 4, size // 2, 2)
    changed[row : row + 10, col : col + 12] = True
    after = np.where(changed, before + 0.3, before)
    return (*(image.clip(0.01, 1).astype(np.float16) for image in (before, after)), changed)


@pytest.fixture(scope="session")
def make_oscd() -> Callable[..., Path]:
    return _write_oscd


def _write_oscd(root: Path, cities: tuple[str, ...], size: int) -> Path:
    """Write cities as the set's own download lays them out: a file a band in degrees, labels without georeference."""
    for seed, city in enumerate(cities):
        before, after, changed = _place(size, seed)
        for date, image in (("imgs_1", before), ("imgs_2", after)):
            for band, values in zip(BANDS, image, strict=True):
                # Each city in a degree of its own: scenes of different folds must not share ground.
                place = {"crs": "EPSG:4326", "transform": rasterio.Affine(1e-4, 0, 15 + seed, 0, -1e-4, 48)}
                _write(root / "Set - Images" / city / date / f"T33_{band}.tif", values * 1e4, np.uint16, **place)
        _write(root / "Set - Train Labels" / city / "cm" / f"{city}-cm.tif", np.where(changed, 2, 1), np.uint8)
    return root


def _write(path: Path, values: NDArray[np.generic], dtype: type[np.generic], **place: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", "GTiff", height=height, width=width, count=1, dtype=dtype, **place) as dataset:
            dataset.write(values.astype(dtype), 1)


@pytest.fixture(scope="session")
def make_config() -> Callable[..., TrainConfig]:
    return _config


def _config(**changes: object) -> TrainConfig:
    """A recipe small enough for seconds."""
    fields = {
        "data": "nowhere",
        "out": "nowhere",
        "models": {"tiny": ModelPlan(summary="A model for tests.", bands=BANDS)},
        "candidates": {
            "diff": Candidate(architecture="fc_siam_diff", arguments={"width": 4}),
            "early": Candidate(architecture="fc_ef", arguments={"width": 4}),
        },
        "folds": [["a"], ["b"]],
        "steps": 6,
        "batch": 2,
        "chip_px": 48,
        "checkpoint_every": 2,
        "precision": "float32",
        "augment": {"crop_px": 32},
        "licence": "CC0-1.0",
        "licence_note": "random numbers",
        "description": "made by a test",
    }
    return TrainConfig.model_validate({**fields, **changes})
