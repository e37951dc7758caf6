"""The report of a run that is done, made again."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from changedet.detect.remake import remake_report
from changedet.detect.run import run
from changedet.errors import ConfigError, NotFoundError
from tests.commands import call, names_in
from tests.pairs import crop_sample, tiny_model


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pair and the results of a run on it; its scenes and options are not the defaults."""
    folder = tmp_path_factory.mktemp("finished")
    pair = crop_sample(folder)
    model = tiny_model(folder / "tiny.safetensors")
    with rasterio.open(pair[0]) as before:
        bounds = before.window_bounds(((8, 88), (8, 72)))
    options = {"bounds": bounds, "bands": "red=1,green=2,blue=3,nir=4", "dates": ("2001-01-01", "2002-01-01")}
    run(*pair, folder / "out", model=str(model), threshold=0.45, **options)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "out", tmp_path / "out")
    return tmp_path / "out"


def test_it_is_the_report_that_the_run_wrote(folder: Path) -> None:
    report = folder / "report.html"
    written = report.read_bytes()
    report.unlink()
    assert remake_report(folder) == []
    assert report.read_bytes() == written
    assert b"1 January 2001" in written


def test_inputs_that_are_gone_are_told_of_and_the_probability_is_shown(finished: Path, folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    record["inputs"]["before"]["path"] = str(finished / "gone.tif")
    (folder / "run.json").write_text(json.dumps(record))
    (note,) = remake_report(folder)
    assert "gone.tif does not exist" in note
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert note in html
    assert 'id="picture-before"' not in html


def test_inputs_that_have_changed_are_told_of(finished: Path, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "after.tif"
    shutil.copy(finished / "after.tif", copy)
    with rasterio.open(copy, "r+") as after:
        after.write(np.full(after.shape, 777, np.uint16), 1)
    record = json.loads((folder / "run.json").read_text())
    record["inputs"]["after"]["path"] = str(copy)
    (folder / "run.json").write_text(json.dumps(record))
    (note,) = remake_report(folder)
    assert "after.tif is not what the run read" in note


def test_options_of_another_version_do_not_matter(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    record["parameters"]["of_the_future"] = 7
    (folder / "run.json").write_text(json.dumps(record))
    assert remake_report(folder) == []


def test_a_run_of_an_older_form_is_refused_and_its_report_stays(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    del record["form"], record["preparation"]["displacement_removed_before_px"]
    (folder / "run.json").write_text(json.dumps(record))
    written = (folder / "report.html").read_bytes()
    with pytest.raises(ConfigError, match=r"run\.json is of form 1(.|\n)*expected: form 2(.|\n)*try: run again"):
        remake_report(folder)
    told = call("report", folder)
    assert (told.exit_code, "Traceback" in told.stderr) == (2, False)
    assert (folder / "report.html").read_bytes() == written


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no run.json, probability.tif, changes.gpkg in"):
        remake_report(tmp_path)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize(
    "told", [{}, {"inputs": {}, "parameters": {}}, {"inputs": ["before", "after"], "parameters": {}}]
)
def test_a_record_that_is_none_of_a_run_is_refused(tmp_path: Path, told: dict[str, Any]) -> None:
    for name in ("probability.tif", "changes.gpkg"):
        (tmp_path / name).touch()
    (tmp_path / "run.json").write_text(json.dumps({"form": 2, **told}))
    with pytest.raises(ConfigError, match="neither what was run nor how"):
        remake_report(tmp_path)


def test_the_command_says_where_the_report_is(folder: Path) -> None:
    result = call("report", folder)
    assert (result.exit_code, result.stdout) == (0, f"written to {folder / 'report.html'}\n")


def test_a_run_may_do_without_a_report(finished: Path, tmp_path: Path) -> None:
    pair, model = (finished / "before.tif", finished / "after.tif"), finished / "tiny.safetensors"
    result = call("run", *pair, "-o", tmp_path / "out", "--model", model, "--no-report")
    assert result.exit_code == 0, result.output
    assert "report.html" not in {*names_in(tmp_path / "out"), *result.stdout.split()}
