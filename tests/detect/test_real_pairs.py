"""The real pairs, where they are: what the project's own data folder holds, or CHANGEDET_DATA names."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio

from changedet.detect.inspect import inspect
from changedet.detect.run import run
from changedet.detect.series import run_series
from changedet.read import open_pair
from changedet.read.coregister import estimate_shift
from tests.pairs import ROOT, tiny_model

DATA = Path(os.environ.get("CHANGEDET_DATA", ROOT.parent / "shared" / "data"))


def _files(folder: str) -> list[Path]:
    files = sorted(path for path in (DATA / folder).glob("*") if path.suffix in (".tif", ".gtif"))
    if not files:
        pytest.skip(f"no {folder} in {DATA} (CHANGEDET_DATA names another place)")
    return files


def test_chiapas_counts_neither_nodata_nor_cloud_as_change(tmp_path: Path) -> None:
    before, after = _files("landsat7_chiapas")
    options = {"bands": "landsat-7", "valid_mask": ("cfmask:#8",), "detector": "irmad"}
    result = run(before, after, tmp_path / "out", **options)
    with rasterio.open(after) as dataset:
        hidden = np.isin(dataset.read(8), (2, 4)) | (dataset.read(1) == -9999)
    with rasterio.open(result.path("mask.tif")) as dataset:
        mask = dataset.read(1)
    assert 0.2 < hidden.mean() < 0.4
    assert (mask[hidden] == 255).all()
    assert (mask[~hidden] != 255).all()
    assert result.record["areas"]["unknown_m2"] == pytest.approx(hidden.sum() * 900, rel=0.01)
    nodata = result.record["pair"]["before"]["nodata"], result.record["pair"]["after"]["nodata"]
    assert nodata == ("nodata tag: -9999", "nodata tag of the other date: -9999")


def test_prairie_grids_that_are_almost_the_same_are_resampled_to_be() -> None:
    _, before, after = _files("naip_prairie")
    with open_pair(before, after, mapping="naip") as pair:
        assert next(iter(pair.readers[1].placements.values())).how == "warped"
        aligned = estimate_shift(pair)
    assert aligned.reliable
    assert aligned.size < 0.25
    # As the files lie, row by row, they are a fifth of a pixel apart each way: what alignment takes away.
    with rasterio.open(before) as first, rasterio.open(after) as second:
        apart = (first.transform.c - second.transform.c) / 5, (first.transform.f - second.transform.f) / 5
    assert np.abs(apart) == pytest.approx([0.2, 0.2])


def test_prairie_is_stretched_by_one_line_and_runs(tmp_path: Path) -> None:
    before, after, _ = _files("naip_prairie")
    result = run(before, after, tmp_path / "out", bands="naip", detector="cva", report=False)
    curves = result.record["preparation"]["curves_before"], result.record["preparation"]["curves_after"]
    assert curves[0] == curves[1]
    assert len(set(map(tuple, curves[0]["values"]))) == 1
    assert "stretched by one line" in result.record["pair"]["radiometry"]


def test_ucayali_is_a_series_of_eight_dates(tmp_path: Path) -> None:
    dates = _files("landsat_ucayali")
    model = tiny_model(tmp_path / "rgb.safetensors", bands=("B04", "B03", "B02"))
    names = [f"{path.stem}-01-01" for path in dates]
    options = {"bands": "rgb", "any_resolution": True, "threshold": 1.0, "report": False, "model": str(model)}
    series = run_series(dates, tmp_path / "out", dates=tuple(names), **options)
    assert len(series.intervals) == 7
    assert [interval["dates"]["after"] for interval in series.record["intervals"]] == names[1:]
    valid = []
    for path in dates:
        with rasterio.open(path) as dataset:
            valid.append((dataset.read([1, 2, 3]) != 0).any(axis=0))  # the tag says 0
            shape, transform = dataset.shape, dataset.transform
    comparable = []
    for number, interval in enumerate(series.intervals):
        with rasterio.open(interval.path("mask.tif")) as mask:
            comparable.append(mask.read(1) != 255)
        assert np.array_equal(comparable[-1], valid[number] & valid[number + 1])
    assert not all(there.all() for there in comparable)
    with rasterio.open(tmp_path / "out" / "first_change.tif") as first:
        assert (first.shape, first.transform) == (shape, transform)
        assert np.array_equal(first.read(1) == 65_535, ~np.any(comparable, axis=0))


def test_guiana_is_small_and_runs(tmp_path: Path) -> None:
    before, after = _files("forest_guiana")
    result = run(before, after, tmp_path / "out", detector="irmad", normalize="irmad", report=False)
    with rasterio.open(result.path("probability.tif")) as dataset:
        assert dataset.shape == (216, 216)


def test_inspect_tells_of_a_real_pair_all_there_is(tmp_path: Path) -> None:
    before, after = _files("landsat7_chiapas")
    report = inspect(before, after, bands="landsat-7", valid_mask=("cfmask:#8",), normalize="irmad", coregister=True)
    rows = {name: told for name, *told in report.rows()}
    assert rows["quality"] == ["cfmask as asked", "cfmask as asked"]
    assert "invariant pixels" in rows["radiometry"][0]
    assert {"alignment", "radiometry", "remaining", "shift"} <= set(report.as_json())
    assert report.valid_share < 0.8
