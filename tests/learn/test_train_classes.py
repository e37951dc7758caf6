"""Kinds of change from labels to polygons: `changedet train` on folders of class values, then `run` and `evaluate`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely.geometry
import yaml
from affine import Affine
from numpy.typing import NDArray

from changedet.config import Candidate, DatasetConfig, ModelPlan, TrainConfig
from changedet.detect.run import RunResult, run
from changedet.errors import ConfigError
from changedet.learn import card
from changedet.learn.class_counts import ClassCounts
from changedet.learn.datasets import LabelledScene
from changedet.learn.train import train
from changedet.network.package import load_model
from tests.commands import call
from tests.data import UTM, write_raster

MakeConfig = Callable[..., TrainConfig]
_BANDS = ("B04", "B08")
_SIZE = 128
_KINDS = ("field to house", "house to field")
_SMALL = {"encoder_depth": 1, "decoder_channels": [8]}


def _place(seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]:
    """Two dates (2, H, W) and the truth: 1 where fields became houses, red and bright; 2 where houses became fields."""
    rng = np.random.default_rng(seed)
    field, house = (np.array(values)[:, None, None] for values in ([800, 3000], [2600, 2000]))
    before = np.broadcast_to(field, (2, _SIZE, _SIZE)).copy()
    after, truth = before.copy(), np.zeros((_SIZE, _SIZE), np.uint8)
    for kind, corner in enumerate(rng.permutation(4)[:2], start=1):
        row, col = np.array(divmod(int(corner), 2)) * 64 + rng.integers(6, 30, 2)
        at = (slice(None), slice(row, row + 24), slice(col, col + 28))
        truth[at[1:]] = kind
        (after if kind == 1 else before)[at] = house
    return *((image + rng.normal(0, 60, image.shape)).astype(np.uint16) for image in (before, after)), truth


def _write(folder: Path, name: str, seed: int) -> None:
    place = {"transform": Affine(10, 0, 500_000 + 5000 * seed, 0, -10, 5_600_000)}
    before, after, truth = _place(seed)
    for part, array, names in (("A", before, _BANDS), ("B", after, _BANDS), ("label", truth * 10, None)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        write_raster(folder / part / f"{name}.tif", array, names=names, **place)


@dataclass(frozen=True)
class _Trained:
    models: tuple[Path, ...]
    folder: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> _Trained:
    """A network with a channel a kind, and one of land cover at both dates, learned from class values 10 and 20."""
    root = tmp_path_factory.mktemp("classes")
    for seed, name in enumerate("abcd"):
        _write(root / "set", name, seed)
    data = DatasetConfig(kind="folders", root=root / "set", covers=("field", "house"), class_values=(10, 20))
    candidates = {
        "kinds": Candidate(architecture="siamese_smp", arguments={**_SMALL, "fusion": "diff"}),
        "covers": Candidate(architecture="semantic_smp", arguments=_SMALL),
    }
    config = make_config(
        data=data,
        out=root / "runs",
        models={name: ModelPlan(summary="", bands=_BANDS, candidates=(name,)) for name in candidates},
        candidates=candidates,
        folds=[["a", "b"], ["c", "d"]],
        steps=40,
        batch=4,
        learning_rate=0.02,
        ema=0.8,
        hard_share=0.25,
    )
    (root / "train.yaml").write_text(yaml.safe_dump({"train": config.model_dump(mode="json")}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "measure_memory", lambda architecture, arguments: 500.0)
        done = call("train", root / "train.yaml")
    assert done.exit_code == 0, done.output
    return _Trained(tuple(root / "runs" / f"{name}.safetensors" for name in candidates), root)


@pytest.fixture(scope="module", params=[0, 1], ids=["kinds", "covers"])
def result(request: pytest.FixtureRequest, trained: _Trained, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("run")
    _write(folder, "new", 9)
    pair = (str(folder / part / "new.tif") for part in "AB")
    return run(*pair, folder / "out", model=str(trained.models[request.param]), backend="torch", report=False)


def test_the_card_names_the_kinds_and_scores_each(trained: _Trained) -> None:
    for path in trained.models:
        model = load_model(path)
        assert model.card.classes == _KINDS
        assert model.card.calibration is not None
        figures = model.card.figures["by_class"]
        assert isinstance(figures, dict)
        assert figures["classes"].keys() == set(_KINDS)
        assert figures["mean_f1"] > 0.8


def test_the_mask_and_the_polygons_have_the_kinds(result: RunResult) -> None:
    truth = _place(9)[2]
    with rasterio.open(result.path("mask.tif")) as dataset:
        mask, tags = dataset.read(1), dataset.tags()
    assert (tags["CLASS_1"], tags["CLASS_2"]) == _KINDS
    assert ClassCounts.of(mask, truth, np.ones_like(truth, dtype=bool), classes=2).mean_f1 > 0.8
    changes = (
        gpd.read_file(result.path("changes.gpkg"), layer="changes").sort_values("area_m2").groupby("class").tail(1)
    )
    assert set(changes["class"]) == {1, 2}
    for kind, area in zip(changes["class"], changes["area_m2"], strict=True):
        assert area == pytest.approx(24 * 28 * 100, rel=0.15)
        polygon = changes.loc[changes["class"] == kind].geometry.iloc[0]
        inside = rasterio.features.rasterize([polygon], truth.shape, transform=_transform(9)) > 0
        assert np.bincount(truth[inside]).argmax() == kind


def _transform(seed: int) -> Affine:
    return Affine(10, 0, 500_000 + 5000 * seed, 0, -10, 5_600_000)


def test_evaluate_scores_the_kinds_on_polygons_with_a_class(trained: _Trained, tmp_path: Path) -> None:
    _write(tmp_path, "new", 9)
    folder = tmp_path / "pair"
    folder.mkdir()
    (tmp_path / "A" / "new.tif").rename(folder / "before.tif")
    (tmp_path / "B" / "new.tif").rename(folder / "after.tif")
    truth = _place(9)[2]
    shapes = rasterio.features.shapes(truth, truth > 0, transform=_transform(9))
    polygons = [(shapely.geometry.shape(shape), _KINDS[int(kind) - 1]) for shape, kind in shapes]
    table = gpd.GeoDataFrame({"class": [k for _, k in polygons]}, geometry=[p for p, _ in polygons], crs=UTM)
    table.to_file(folder / "labels.gpkg")
    for names, covers, known in (("set", ["field", "house"], True), ("other", ["house", "field"], False)):
        file = tmp_path / f"{names}.yaml"
        dataset = {"kind": "polygons", "root": str(folder), "covers": covers}
        file.write_text(yaml.safe_dump({"dataset": dataset}))
        call("evaluate", trained.models[0], file, "--device", "cpu", "-o", tmp_path / names)
        content = json.loads((tmp_path / names / "evaluation.json").read_text())
        (model,) = content["models"]
        assert model["pooled"]["f1"] > 0.8
        assert (model["classes"] is not None) == known
        assert bool(content["warnings"]) != known
    of_set = json.loads((tmp_path / "set" / "evaluation.json").read_text())["models"][0]["classes"]
    assert min(figures["f1"] for figures in of_set["classes"].values()) > 0.8
    assert "by class of change" in (tmp_path / "set" / "evaluation.md").read_text()


@pytest.mark.parametrize("arguments", [{}, {"covers": 4}])
def test_refuses_a_network_of_other_kinds_than_the_labels(
    arguments: dict[str, int], tmp_path: Path, make_scene: Callable[..., LabelledScene], make_config: MakeConfig
) -> None:
    data = DatasetConfig(kind="folders", root=tmp_path, classes=("built", "cleared", "flooded"))
    semantic = Candidate(architecture="semantic_smp", arguments={**_SMALL, **arguments})
    with pytest.raises(ConfigError, match=r"semantic_smp tells \d+ kinds of change apart, the labels 3"):
        train([make_scene()], _BANDS, semantic, make_config(data=data), tmp_path, lambda step, loss: None)
