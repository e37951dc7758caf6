"""Runs that take the probabilities of an earlier one over."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from changedet.detect.run import RunResult, run
from changedet.errors import ConfigError, OutputExistsError
from changedet.write.provenance import FORM
from tests.data import write_raster
from tests.pairs import crop_sample, tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return crop_sample(tmp_path_factory.mktemp("corner"))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Says how often the network was asked."""
    asked: list[str] = []
    real = run.__globals__["stitch"]
    monkeypatch.setitem(run.__globals__, "stitch", lambda *a, **k: (asked.append("asked"), real(*a, **k)))
    return asked


def _bytes(result: RunResult) -> dict[str, bytes]:
    return {name: result.path(name).read_bytes() for name in ("probability.tif", "mask.tif")}


@pytest.mark.parametrize("how", ["reuse", "reuse_from"])
def test_a_reused_run_leaves_what_a_new_one_would(
    how: str, corner: tuple[Path, Path], model: str, tmp_path: Path, network: list[str]
) -> None:
    changes: dict[str, Any] = {"threshold": 0.49, "min_area": 150.0, "connectivity": 4}
    expected = run(*corner, tmp_path / "new", model=model, **changes)
    first = run(*corner, tmp_path / "out", model=model)
    out, more = (first.out, {"reuse": True}) if how == "reuse" else (tmp_path / "b", {"reuse_from": str(first.out)})
    del network[:]
    again = run(*corner, out, model=model, **changes, **more)
    assert network == []
    assert _bytes(again) == _bytes(expected)
    assert again.changes.drop(columns="geometry").equals(expected.changes.drop(columns="geometry"))
    options = ("reuse", "reuse_from")
    records = [json.loads((folder / "run.json").read_text()) for folder in (again.out, expected.out)]
    assert records[0]["times"]["reused"] == str(first.out)
    for record in records:
        record.pop("times")
        record["parameters"] = {name: v for name, v in record["parameters"].items() if name not in options}
    assert records[0] == records[1]


def test_the_first_run_has_nothing_to_reuse(
    corner: tuple[Path, Path], model: str, tmp_path: Path, network: list[str]
) -> None:
    result = run(*corner, tmp_path / "out", model=model, reuse=True)
    assert (network, result.record["times"]["reused"]) == (["asked"], None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"halo": 32}, r"another parameters \(halo\)"),
        ({"precision": "float32"}, r"another parameters \(precision\)"),
        ({"bounds": (504400.0, 5596000.0, 504900.0, 5596400.0)}, "another parameters"),
    ],
)
def test_a_run_that_differs_in_more_is_refused_and_computed_anew_only_where_asked(
    changes: dict[str, Any], reason: str, corner: tuple[Path, Path], model: str, tmp_path: Path, network: list[str]
) -> None:
    first = run(*corner, tmp_path / "out", model=model)
    if "bounds" in changes:
        box = first.changes.total_bounds
        changes = {"bounds": tuple(box)}
    before = _bytes(first)
    with pytest.raises(OutputExistsError, match=rf"cannot be reused: {reason}[\s\S]*--overwrite"):
        run(*corner, first.out, model=model, reuse=True, **changes)
    assert _bytes(first) == before
    with pytest.raises(ConfigError, match=rf"cannot be reused: {reason}"):
        run(*corner, tmp_path / "other", model=model, reuse_from=str(first.out), **changes)
    del network[:]
    run(*corner, first.out, model=model, reuse=True, overwrite=True, **changes)
    assert network == ["asked"]


def test_inputs_that_changed_are_noticed(corner: tuple[Path, Path], model: str, tmp_path: Path) -> None:
    first = run(*corner, tmp_path / "out", model=model)
    time = corner[1].stat().st_mtime
    os.utime(corner[1], (time + 5, time + 5))
    with pytest.raises(OutputExistsError, match=r"another inputs \(after\)"):
        run(*corner, first.out, model=model, reuse=True)


@pytest.mark.parametrize("option", ["aoi", "like", "valid_mask"])
def test_a_change_of_a_file_that_an_option_names_is_noticed(
    option: str, corner: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    with rasterio.open(corner[0]) as scene:
        geobox = GeoBox.from_rio(scene)
    path = tmp_path / ("area.gpkg" if option == "aoi" else "named.tif")

    def write(rows: int) -> None:
        part = geobox[:rows, :]
        if option == "aoi":
            gpd.GeoSeries([part.extent.geom], crs=str(part.crs)).to_file(path)
        else:
            write_raster(path, np.ones(part.shape, np.uint8), crs=str(part.crs), transform=part.affine)

    write(64)
    options: dict[str, Any] = {"model": model, option: str(path), "report": False}
    first = run(*corner, tmp_path / "out", **options)
    assert run(*corner, first.out, reuse=True, **options).record["times"]["reused"] == str(first.out)
    write(48)
    with pytest.raises(OutputExistsError, match=rf"another files \({option}"):
        run(*corner, first.out, reuse=True, **options)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("run.json", None, "no run.json"),
        ("probability.tif", None, "no probability.tif"),
        ("run.json", "{", "run.json cannot be read"),
        ("run.json", "[]", "run.json cannot be read"),
        ("run.json", f'{{"form": {FORM}}}', "run.json cannot be read"),
        ("run.json", "{}", "run.json is of form 1, as another version"),
        ("run.json", '{"form": 99}', "run.json is of form 99, as another version"),
    ],
)
def test_a_folder_that_is_no_whole_run_is_refused(
    name: str, content: str | None, reason: str, corner: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    first = run(*corner, tmp_path / "out", model=model)
    first.path(name).unlink() if content is None else first.path(name).write_text(content)
    with pytest.raises(OutputExistsError, match=rf"{reason}[\s\S]*try: --overwrite"):
        run(*corner, first.out, model=model, reuse=True)


@pytest.mark.parametrize("part", ["half of it", "all of it, one block garbled"])
def test_a_damaged_probability_is_refused_and_the_folder_left_as_it_was(
    part: str, corner: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    first = run(*corner, tmp_path / "out", model=model)
    content = bytearray(first.path("probability.tif").read_bytes())
    with rasterio.open(first.path("probability.tif")) as stored:
        start = int(stored.get_tag_item("BLOCK_OFFSET_0_0", dm="TIFF", bidx=1))
    content[start : start + 64] = bytes(64)
    first.path("probability.tif").write_bytes(content[: len(content) // 2] if part == "half of it" else content)
    with pytest.raises(ConfigError, match=r"rasters in .* cannot be reused"):
        run(*corner, first.out, model=model, reuse=True)
    assert {entry.name for entry in first.out.iterdir()} >= {"run.json", "mask.tif", "changes.gpkg"}


def test_neither_the_pair_is_prepared_nor_its_pictures_drawn_again(
    corner: tuple[Path, Path], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(*corner, tmp_path / "out", model=model)
    pictures = _pictures(first.path("report.html"))
    for name in ("prepare", "draw_pictures"):
        monkeypatch.setitem(run.__globals__, name, lambda *_, **__: pytest.fail("done again"))
    again = run(*corner, first.out, model=model, threshold=0.4, reuse=True)
    assert _pictures(again.path("report.html")) == pictures
    assert len(pictures) == 3


def _pictures(report: Path) -> list[str]:
    return [line for line in report.read_text().splitlines() if line.startswith("<img id=")]


def test_pictures_that_the_earlier_report_lacks_are_drawn(
    corner: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    expected = run(*corner, tmp_path / "new", model=model)
    first = run(*corner, tmp_path / "out", model=model, report=False)
    again = run(*corner, first.out, model=model, reuse=True)
    assert _pictures(again.path("report.html")) == _pictures(expected.path("report.html"))


def test_other_creation_options_compress_the_same_pixels_anew(
    corner: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model": model, "co": {"COMPRESS": "ZSTD"}, "report": False}
    expected = run(*corner, tmp_path / "new", **options)
    first = run(*corner, tmp_path / "out", model=model, report=False)
    assert _bytes(run(*corner, first.out, **options, reuse=True)) == _bytes(expected)


def test_scenes_that_were_moved_are_told_of_where_they_are_now(
    corner: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    first = run(*corner, tmp_path / "out", model=model)
    moved = [Path(shutil.copy2(path, tmp_path / path.name)) for path in corner]
    expected = run(*moved, tmp_path / "new", model=model)
    again = run(*moved, first.out, model=model, reuse=True)
    assert again.record["times"]["reused"] is not None
    assert json.loads(json.dumps(again.record["pair"])) == json.loads(json.dumps(expected.record["pair"]))
    assert str(tmp_path) in again.record["pair"]["before"]["path"]


@pytest.mark.parametrize(
    ("options", "raster"), [({"detector": "mad"}, "statistic.tif"), ({"tta": True}, "uncertainty.tif")]
)
def test_a_run_that_lacks_a_raster_of_its_kind_is_refused(
    options: dict[str, Any], raster: str, corner: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    options = {**options, "report": False, **({} if "detector" in options else {"model": model})}
    first = run(*corner, tmp_path / "out", **options)
    content = first.path(raster).read_bytes()
    again = run(*corner, first.out, **options, reuse=True)
    assert again.path(raster).read_bytes() == content
    again.path(raster).unlink()
    with pytest.raises(OutputExistsError, match=f"no {raster}"):
        run(*corner, first.out, **options, reuse=True)
