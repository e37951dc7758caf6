"""Two kinds of change, from a network trained here in seconds to polygons with their class."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch

from changedet.detect.run import RunResult, run
from changedet.learn.class_counts import ClassCounts
from changedet.network.card import Card
from changedet.network.class_losses import class_cross_entropy
from changedet.network.normalise import LogReflectance
from changedet.network.package import save_model
from changedet.network.siamese import SiameseSMP
from changedet.write.palette import class_colours
from tests.data import write_raster

_BANDS = ("B04", "B08")
_ARGUMENTS = {
    "in_channels": 2,
    "classes": 2,
    "encoder_depth": 1,
    "decoder_channels": [8],
    "fusion": "diff",
}


def _pair(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two dates (2, 96, 96) and the truth: 1 where red rose, 2 where near infrared fell."""
    rng = np.random.default_rng(seed)
    before = rng.normal(0.2, 0.01, (2, 96, 96))
    after, truth = before + rng.normal(0, 0.005, before.shape), np.zeros((96, 96), np.uint8)
    for kind, (row, col) in enumerate(rng.integers(4, 64, (2, 2)), start=1):
        place = (slice(row, row + 20), slice(col, col + 24))
        truth[place] = kind
        after[(kind - 1, *place)] += 0.2 if kind == 1 else -0.15
    for place in (truth == 1, truth == 2):  # where one was built over the other, only the later counts
        after[0][place] = before[0][place] + (0.2 if truth[place][0] == 1 else 0)
        after[1][place] = before[1][place] - (0.15 if truth[place][0] == 2 else 0)
    return before, after, truth


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    network = SiameseSMP("resnet18", "unet", **_ARGUMENTS)  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    before, after, truth = (torch.from_numpy(np.stack(part)) for part in zip(*map(_pair, range(4)), strict=True))
    dates = [LogReflectance()(date.float()) for date in (before, after)]
    target = truth[:, None].long()
    for _ in range(40):
        loss = class_cross_entropy(network(*dates), target, torch.ones_like(target, dtype=torch.bool))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    path = tmp_path_factory.mktemp("model") / "kinds.safetensors"
    card = Card(
        name="kinds",
        summary="A model for tests.",
        architecture="siamese_smp",
        arguments=_ARGUMENTS,
        bands=_BANDS,
        classes=("built", "cleared"),
        resolution_m=10,
        threshold=0.5,
        stride=network.stride,
        receptive_field_px=16,
        halo_px=16,
        tiling="exact",
        directional=True,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        licence="CC0-1.0",
        licence_note="made by a test",
        commercial_use=True,
        data="none",
        trained="2026-01-31",
        seed=5,
        command="none",
        figures={},
        memory_bytes_per_px=800.0,
        versions={},
    )
    save_model(path, network.eval(), card)
    return path


@pytest.fixture(scope="module")
def result(model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("pair")
    before, after, _ = _pair(9)
    for name, image in (("before", before), ("after", after)):
        write_raster(folder / f"{name}.tif", np.rint(image * 1e4).astype(np.uint16), names=_BANDS)
    return run(
        folder / "before.tif", folder / "after.tif", folder / "out", model=str(model), backend="torch", scale=1e-4
    )


def test_the_mask_holds_the_classes_each_in_its_colour(result: RunResult) -> None:
    with rasterio.open(result.path("mask.tif")) as dataset:
        mask, colours, tags = dataset.read(1), dataset.colormap(1), dataset.tags()
    truth = _pair(9)[2]
    counts = ClassCounts.of(mask, truth, np.ones_like(truth, dtype=bool), classes=2)
    assert counts.mean_f1 > 0.9
    assert [colours[index] for index in (1, 2)] == class_colours(2)
    assert (tags["CLASS_1"], tags["CLASS_2"]) == ("built", "cleared")


def test_the_probability_has_a_band_a_class_and_makes_the_mask(result: RunResult) -> None:
    with rasterio.open(result.path("probability.tif")) as dataset:
        stored = dataset.read().astype(int)
        assert dataset.descriptions == ("probability of built", "probability of cleared")
    with rasterio.open(result.path("mask.tif")) as dataset:
        mask = dataset.read(1)
    assert stored.sum(axis=0).max() <= 255
    assert np.array_equal(mask, np.where(stored.sum(axis=0) >= 127, stored.argmax(axis=0) + 1, 0))


def test_polygons_say_their_class(result: RunResult) -> None:
    changes = gpd.read_file(result.path("changes.gpkg"), layer="changes")
    with rasterio.open(result.path("mask.tif")) as dataset:
        mask = dataset.read(1)
    largest = changes.sort_values("area_m2").groupby("class").tail(1).set_index("class")
    assert set(largest.index) == {1, 2}
    assert largest["probability_mean"].min() > 0.5
    for kind in (1, 2):
        assert changes.loc[changes["class"] == kind, "area_m2"].sum() == pytest.approx(
            (mask == kind).sum() * 100, rel=0.02
        )
