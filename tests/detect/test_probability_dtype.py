"""How probability.tif is stored changes nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from changedet.detect.run import run
from changedet.errors import ConfigError
from changedet.grid.quantise import as_bytes
from changedet.report.histograms import probability_counts
from tests.commands import call
from tests.pairs import crop_sample, tiny_model
from tests.vectorize.tables import tables


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return crop_sample(tmp_path_factory.mktemp("corner"))


def _read(path: Path) -> Any:
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.mark.parametrize("options", [{"detector": "cva"}, {"tta": True, "threshold": 0.49}])
def test_all_but_probability_tif_is_the_same(
    corner: tuple[Path, Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    if "tta" in options:
        options = {**options, "model": str(tiny_model(tmp_path / "tiny.safetensors"))}
    bytes_ = run(*corner, tmp_path / "bytes", **options)
    floats = run(*corner, tmp_path / "floats", probability_dtype="float32", **options)
    assert floats.results == bytes_.results
    for name in set(floats.results) & {"mask.tif", "statistic.tif", "uncertainty.tif"}:
        np.testing.assert_array_equal(_read(floats.path(name)), _read(bytes_.path(name)))
    with rasterio.open(floats.path("probability.tif")) as dataset:
        assert (dataset.dtypes, dataset.scales, dataset.descriptions) == (("float32",), (1.0,), ("probability",))
        assert np.isnan(dataset.nodata)
        assert "STATISTICS_MEAN" in dataset.tags(1)
        stored = dataset.read()
    assert np.array_equal(as_bytes(stored), _read(bytes_.path("probability.tif")))
    assert np.nanmin(stored) >= 0
    assert np.nanmax(stored) <= 1
    assert len(np.unique(stored[np.isfinite(stored)])) > 254
    assert len(floats.changes) > 0
    same = ["id", "area_m2", "direction", "touches_edge", "threshold"]
    assert floats.changes[same].equals(bytes_.changes[same])
    assert np.abs(floats.changes.probability_mean - bytes_.changes.probability_mean).max() <= 1 / 508 + 1e-6
    assert floats.record["areas"] == bytes_.record["areas"]
    counts = [probability_counts(result.path("probability.tif")) for result in (floats, bytes_)]
    assert np.array_equal(*counts)
    again = tables(floats.path("mask.tif"), floats.path("probability.tif")).changes
    assert np.allclose(again.probability_mean, floats.changes.probability_mean, atol=1e-9)


def test_only_a_run_that_is_stored_alike_is_reused(corner: tuple[Path, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"detector": "cva", "report": False, "probability_dtype": "float32"}
    first = run(*corner, tmp_path / "first", **options)
    new = run(*corner, tmp_path / "new", threshold=0.3, **options)
    reused = run(*corner, tmp_path / "reused", threshold=0.3, reuse_from=str(first.out), **options)
    for name in ("probability.tif", "mask.tif", "statistic.tif"):
        np.testing.assert_array_equal(_read(reused.path(name)), _read(new.path(name)))
    with pytest.raises(ConfigError, match=r"another parameters \(probability_dtype\)"):
        run(*corner, tmp_path / "bytes", reuse_from=str(first.out), **{**options, "probability_dtype": "uint8"})


def test_the_command_takes_it(corner: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = [*corner, "-o", tmp_path / "out", "--detector", "cva", "--no-report"]
    assert call("run", *arguments, "--probability-dtype", "float32").exit_code == 0
    with rasterio.open(tmp_path / "out" / "probability.tif") as dataset:
        assert dataset.dtypes == ("float32",)
    assert call("run", *arguments, "--probability-dtype", "int16").exit_code == 2
