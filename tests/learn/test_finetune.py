"""Fine-tuning, on parts small enough for seconds; the real gain is measured by the slow test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
import torch

from changedet.config import AugmentConfig, FinetuneConfig, RunConfig
from changedet.detect.run import run
from changedet.errors import ModelError
from changedet.learn.finetune import Finetuned, _Draw, finetune
from changedet.learn.reviewed import ReviewedPair
from changedet.network.card import Place
from changedet.network.package import load_model, save_model
from changedet.network.shipped import read_card
from changedet.network.siamese import SiameseSMP
from changedet.read import open_scene
from tests.commands import call
from tests.data import write_raster
from tests.pairs import SAMPLE, tiny_model

_TINY = {"steps": 3, "batch": 2, "chip_px": 48, "mine_every": 2, "precision": "float32", "augment": {"crop_px": 32}}


def _finetuned(model: Path | str, pair: tuple[Path, Path], labels: Path, **changes: Any) -> Finetuned:
    config = FinetuneConfig.model_validate({**_TINY, **changes})
    scenes = open_scene(pair[0]), open_scene(pair[1])
    return finetune(str(model), scenes, labels, RunConfig(), config, lambda _: None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Path, Path], Path]:
    """New bright squares on dark ground, and as many squares that darken, which are no change."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    before = rng.normal(1500, 60, (4, 192, 192))
    after = before + rng.normal(0, 60, before.shape)
    shapes = []
    for row in range(12, 180, 44):
        for col in range(12, 180, 44):
            after[:, row : row + 10, col : col + 10] += 2500
            after[:, row + 20 : row + 30, col + 20 : col + 30] -= 800
            x, y = 500_000 + 10 * col, 5_600_000 - 10 * row
            shapes.append(shapely.box(x, y - 100, x + 100, y))
    names = ["red", "green", "blue", "nir"]
    pair = tuple(
        write_raster(folder / f"{role}.tif", image.astype(np.uint16), names=names)
        for role, image in (("before", before), ("after", after))
    )
    gpd.GeoDataFrame(geometry=shapes, crs="EPSG:32633").to_file(folder / "labels.gpkg")
    return (pair[0], pair[1]), folder / "labels.gpkg"


def test_it_learns_what_the_polygons_show(tmp_path: Path, place: tuple[tuple[Path, Path], Path]) -> None:
    """From random weights, in seconds: held-out squares are found that were not before."""
    model = tiny_model(tmp_path / "tiny.safetensors")
    tuned = _finetuned(model, *place, steps=80, batch=6, learning_rate=1e-2, ema=0.8, mine_every=20, keep=0)
    figures: Any = tuned.model.card.figures
    assert tuned.polygons == (16, 4)
    assert tuned.steps == 80
    assert figures["held_out_after"]["average_precision"] > 0.75
    assert figures["held_out_after"]["average_precision"] > figures["held_out_before"]["average_precision"] + 0.3
    assert tuned.after.changed.sum() == tuned.before.changed.sum() == 400


def test_the_same_seed_gives_the_same_weights(tmp_path: Path, place: tuple[tuple[Path, Path], Path]) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    one, same, other = (_finetuned(model, *place, seed=seed).model.network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_share_of_the_old_weights_is_kept(tmp_path: Path, place: tuple[tuple[Path, Path], Path]) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    old = dict(load_model(model).network.named_parameters())
    new, mixed = (dict(_finetuned(model, *place, keep=keep).model.network.named_parameters()) for keep in (0, 0.25))
    assert any(not torch.equal(new[name], old[name]) for name in old)
    for name, value in mixed.items():
        torch.testing.assert_close(value, 0.75 * new[name] + 0.25 * old[name], rtol=2e-3, atol=1e-5)


def test_time_ends_it_and_running_figures_of_batch_norms_stay(
    tmp_path: Path, place: tuple[tuple[Path, Path], Path]
) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    tuned = _finetuned(model, *place, steps=100_000, minutes=0.02, mine_every=1000)
    assert 0 < tuned.steps < 1000
    before, after = load_model(model).network.state_dict(), tuned.model.network.state_dict()
    running = [name for name in before if "running_" in name]
    assert running
    assert all(torch.equal(before[name], after[name]) for name in running)


def test_where_what_is_held_out_cannot_be_seen_no_gain_is_claimed_nor_denied(tmp_path: Path) -> None:
    """The clouds lie over the one block that the seed holds out."""
    image = np.random.default_rng(0).integers(500, 3000, (4, 160, 160)).astype(np.uint16)
    places = [(20, 20), (20, 40), (40, 20), (40, 40), (120, 120)]
    boxes = [
        shapely.box(500_000 + 10 * x, 5_600_000 - 10 * y - 80, 500_080 + 10 * x, 5_600_000 - 10 * y) for y, x in places
    ]
    gpd.GeoDataFrame(geometry=boxes, crs="EPSG:32633").to_file(tmp_path / "labels.gpkg")
    for role in ("before", "after"):
        image[:, 90:, 90:] = 0
        write_raster(tmp_path / f"{role}.tif", image, names=["red", "green", "blue", "nir"], nodata=0)
    model = tiny_model(tmp_path / "base.safetensors")
    pair, labels = (tmp_path / "before.tif", tmp_path / "after.tif"), ("--labels", tmp_path / "labels.gpkg")
    split = ("--steps", 2, "--held-out", 0.1, "--seed", 1)
    result = call("finetune", model, *pair, *labels, *split, "-o", tmp_path / "mine.safetensors")
    assert result.exit_code == 0, result.output
    assert "lie on no valid pixel, so the gain is not known" in result.stdout
    assert "did not gain" not in result.stderr


def test_the_command_writes_a_model_that_runs_and_says_where_it_comes_from(tmp_path: Path) -> None:
    elsewhere = Place(name="elsewhere", bounds=(0, 0, 1, 1))
    model = tiny_model(
        tmp_path / "base.safetensors", places=(elsewhere,), licence="CC-BY-4.0", commercial_use=False, halo_px=16
    )
    out = tmp_path / "mine.safetensors"
    pair = SAMPLE / "before.tif", SAMPLE / "after.tif"
    labels = SAMPLE / "labels.gpkg"
    options = ("--labels", labels, "--steps", 2, "--minutes", 0.2, "--held-out", 0.3, "--nodata", 0)
    result = call("finetune", model, *pair, *options, "-o", out)
    assert result.exit_code == 0, result.output
    assert "polygons held out and the ground around them" in result.stdout
    card, base = read_card(out), read_card(model)
    assert (card.name, card.licence, card.commercial_use) == ("mine", "CC-BY-4.0", False)
    assert card.parents == (f"base {load_model(model).digest}",)
    assert [p.name for p in card.places] == ["elsewhere", "labels"]
    assert card.threshold == base.threshold
    said = "--steps 2 --minutes 0.2 --held-out 0.3 --nodata 0.0"
    assert card.command == f"changedet finetune {model} {pair[0]} {pair[1]} --labels {labels} {said}"
    assert card.figures["parent"] == base.figures
    bounds = (437_000, 5_325_000, 437_800, 5_325_800)
    mapped = run(*pair, tmp_path / "out", model=str(out), bounds=bounds, backend="torch", device="cpu")
    assert mapped.record["model"]["name"] == "mine"
    again = call("finetune", model, *pair, "--labels", labels, "-o", out)
    assert (again.exit_code, "--overwrite" in again.stderr) == (7, True)


def test_refuses_a_model_of_several_kinds_of_change(tmp_path: Path, place: tuple[tuple[Path, Path], Path]) -> None:
    torch.manual_seed(0)
    network = SiameseSMP("resnet18", "unet", 4, 2, encoder_depth=1, decoder_channels=[8])
    card = read_card(tiny_model(tmp_path / "tiny.safetensors"))
    arguments = {"in_channels": 4, "classes": 2, "encoder_depth": 1, "decoder_channels": [8]}
    changes = {
        "architecture": "siamese_smp",
        "arguments": arguments,
        "classes": ("built", "cleared"),
        "stride": network.stride,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
    save_model(tmp_path / "kinds.safetensors", network, card.model_copy(update=changes))
    with pytest.raises(ModelError, match=r"(?s)built, cleared apart.*changedet train"):
        _finetuned(tmp_path / "kinds.safetensors", *place)


def test_hard_negatives_are_drawn_where_the_network_is_mistaken(make_scene: Callable[..., Any]) -> None:
    scene = make_scene(128)
    scene.truth[:] = 0
    scene.truth[5:9, 5:9] = 1
    refuted = np.zeros_like(scene.changed)
    refuted[100:104, 20:24] = True
    reviewed = ReviewedPair(scene, refuted, np.zeros_like(refuted), (1, 0), Place(name="drawn"))
    config = FinetuneConfig(batch=8, chip_px=16, changed_share=0, hard_share=1, augment=AugmentConfig(crop_px=16))
    draw = _Draw(reviewed, config)
    stored = np.zeros(scene.changed.shape, np.uint8)
    stored[60:64, 90:94] = 254
    draw.mine(stored)
    marked = np.zeros(scene.changed.shape, np.float16)
    marked[60:64, 90:94], marked[100:104, 20:24] = 1, 2
    scene.before[0] = marked
    chips = torch.cat([draw.batch(step).before[:, 0] for step in range(10)])
    seen = [{1: "mistaken", 2: "refuted"}.get(int(chip.max()), "elsewhere") for chip in chips]
    assert seen.count("mistaken") > 20
    assert seen.count("refuted") > 20
    assert seen.count("elsewhere") < 20


@pytest.mark.slow
def test_what_a_real_city_gains_is_told_and_little_is_lost(tmp_path: Path, oscd: Path) -> None:
    """A city's labels as the polygons of a user. The shipped model has learned from this city, so there is no gain to
    be had; that little is forgotten is all that can be asked.
    """
    (label,) = oscd.glob("*Labels/nantes/cm/nantes-cm.tif")
    (folder,) = oscd.glob("*Images/nantes")
    with rasterio.open(label) as dataset:
        changed = dataset.read(1) == 2
    (red,) = (folder / "imgs_1").glob("*B04.tif")
    with rasterio.open(red) as dataset:
        traced = rasterio.features.shapes(changed.astype(np.uint8), changed, 8, dataset.transform)
        polygons = [shapely.geometry.shape(shape) for shape, _ in traced]
        gpd.GeoDataFrame(geometry=polygons, crs=dataset.crs).to_file(tmp_path / "labels.gpkg")
    scenes = open_scene(folder / "imgs_1"), open_scene(folder / "imgs_2")
    reading, config = RunConfig(coregister="shift"), FinetuneConfig(minutes=30)
    tuned = finetune("s2-urban-rgbn", scenes, tmp_path / "labels.gpkg", reading, config, lambda _: None)
    figures: Any = tuned.model.card.figures
    before, after = (figures[f"held_out_{name}"]["average_precision"] for name in ("before", "after"))
    assert after > before - 0.05
    assert tuned.polygons == (43, 11)
