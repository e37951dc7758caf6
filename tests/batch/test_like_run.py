"""A batch is one run cut into tiles: pixels, polygons, attributes and ids, with every kind of detector."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from changedet.batch import run as batch_run
from changedet.batch.manifest_file import write_manifest
from changedet.batch.run import BatchResult, run_batch
from changedet.detect.run import RunResult, run
from tests.batch.kernel import InlineEngine, manifest_over
from tests.pairs import crop_sample, tiny_model

# Half of it without data at the second date; several chips a side with the smallest memory a network takes.
SIZE = {"row": 200, "col": 260, "height": 190, "width": 230}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return crop_sample(tmp_path_factory.mktemp("scenes"), **SIZE)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    changes = {"halo_px": 16, "threshold": 0.45}
    fixed = {**changes, "tiling": "fixed_chip", "chip_px": 128, "halo_px": 0, "receptive_field_px": None}
    each = {"one": changes, "two": changes, "fixed": fixed}
    return {name: str(tiny_model(folder / f"{name}.safetensors", **own)) for name, own in each.items()}


def _both(scenes: tuple[Path, Path], folder: Path, **options: Any) -> tuple[RunResult, BatchResult]:
    whole = run(*scenes, folder / "whole", report=False, **options)
    write_manifest(folder / "m.parquet", manifest_over(*scenes, 100))
    return whole, run_batch(folder / "m.parquet", folder / "out", **options)


def _changes(path: Path) -> gpd.GeoDataFrame:
    table = gpd.read_file(path, layer="changes").sort_values("id", ignore_index=True)
    return table.set_geometry(table.geometry.normalize())


@pytest.mark.parametrize(
    ("options", "rasters"),
    [
        ({"model": "one"}, ()),
        ({"model": "one", "coregister": True, "normalize": "histogram", "min_area": 500.0, "readers": 2}, ()),
        ({"model": "fixed", "probability_dtype": "float32"}, ()),
        ({"model": "one", "ensemble": ("two",)}, ("uncertainty",)),
        ({"model": "one", "tta": True, "probability_dtype": "float32"}, ("uncertainty",)),
        ({"detector": "irmad", "max_memory": "603MB"}, ("statistic",)),
        ({"detector": "pca-kmeans", "threshold": "otsu", "max_memory": "603MB"}, ("statistic",)),
        ({"detector": "deep"}, ("statistic",)),
    ],
    ids=["network", "corrected", "fixed chips", "ensemble", "tta", "irmad", "pca-kmeans", "deep"],
)
def test_a_batch_leaves_what_one_run_does(
    options: dict[str, Any],
    rasters: tuple[str, ...],
    scenes: tuple[Path, Path],
    models: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_run, "Engine", InlineEngine)
    if "model" in options:
        named = {"model": models[options["model"]], "ensemble": [models[name] for name in options.get("ensemble", ())]}
        options = {"max_memory": "505MB", **options, **named}
    whole, batch = _both(scenes, tmp_path, **options)
    assert whole.record["chips"]["chips"] > 1 or options.get("detector") == "deep"
    for name in ("probability", "mask", *rasters):
        with rasterio.open(whole.path(f"{name}.tif")) as one, rasterio.open(batch.out / f"{name}.vrt") as other:
            np.testing.assert_array_equal(one.read(), other.read(), err_msg=name)
            assert (one.descriptions, one.dtypes, one.scales) == (other.descriptions, other.dtypes, other.scales)
            assert {key: other.tags().get(key) for key in ("MODEL", "THRESHOLD")} == {
                key: one.tags().get(key) for key in ("MODEL", "THRESHOLD")
            }
    one, other = (_changes(folder / "changes.gpkg") for folder in (whole.out, batch.out))
    assert len(one) > 0
    assert other.equals(one)
    record = json.loads((batch.out / "run.json").read_text())
    assert record["areas"] == whole.record["areas"]
    assert record["warnings"] == whole.record["warnings"]
    assert record["chips"] == json.loads(json.dumps(whole.record["chips"]))
