"""`changedet batch run`, `status` and `retry`, and the block `batch` of a pipeline file, as a user calls them."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from changedet.batch import run as batch_run
from changedet.batch.manifest_file import read_manifest
from changedet.errors import TILES_FAILED
from tests.batch.kernel import InlineEngine
from tests.commands import assert_refused, call, names_in
from tests.pairs import ROOT, crop_sample, tiny_model

FILES = {"mask.vrt", "probability.vrt", "changes.gpkg", "failures.csv", "run.json", "overview.html", "manifest.parquet"}
RECIPE = ROOT / "pipelines" / "03_batch_tile_grid.yaml"
# The least that a network takes, for chips smaller than the pair.
MEMORY = "505MB"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, without processes of workers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_run, "Engine", InlineEngine)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", halo_px=16)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return crop_sample(tmp_path_factory.mktemp("pair"), row=0, col=0, height=190, width=230)


def _settings(**values: object) -> list[str]:
    return [part for name, value in values.items() for part in ("--set", f"batch.{name}={value}")]


def test_the_recipe_plans_and_runs_a_batch_and_again_does_nothing_twice(
    pair: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    given = _settings(before=pair[0], after=pair[1], model=model, max_memory=MEMORY, tile_size="1km", workers=1)
    first = call("pipeline", RECIPE, *given)
    assert first.exit_code == 0, first.output
    assert names_in(tmp_path / "out_batch") >= FILES
    count = len(read_manifest(tmp_path / "out_batch.parquet"))
    assert count > 1
    assert f"{count} done" in first.stdout
    parameters = json.loads((tmp_path / "out_batch" / "run.json").read_text())["parameters"]
    assert (parameters["min_area"], parameters["workers"], parameters["max_memory"]) == (1000, 1, 505_000_000)
    masks = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("mask.tif")}
    again = call("pipeline", RECIPE, *given)
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("mask.tif")} == masks
    other = call("pipeline", RECIPE, *given, *_settings(tile_size="5km"))
    assert other.exit_code != 0
    assert "out_batch holds another batch" in other.stderr
    anew = call("pipeline", RECIPE, *given, *_settings(tile_size="5km", overwrite="true"))
    assert anew.exit_code == 0, anew.output


def test_a_block_without_scenes_runs_a_manifest_that_is_there(
    pair: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    planned = call("batch", "plan", *pair, "-o", "mine.csv", "--model", model)
    assert planned.exit_code == 0, planned.output
    then = (tmp_path / "mine.csv").read_bytes()
    (tmp_path / "file.yaml").write_text(f"batch:\n  manifest: mine.csv\n  out: out\n  model: {model}\n")
    result = call("pipeline", "file.yaml")
    assert result.exit_code == 0, result.output
    assert names_in(tmp_path / "out") >= FILES
    assert (tmp_path / "mine.csv").read_bytes() == then


def test_what_is_no_manifest_is_not_replaced(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "districts.csv").write_text("name,people\nWest,7\n")
    result = call("pipeline", RECIPE, *_settings(before=pair[0], after=pair[1], manifest="districts.csv"))
    assert_refused(result, tmp_path / "out_batch", 2, "districts.csv")
    assert "West,7" in (tmp_path / "districts.csv").read_text()


def test_a_tile_that_failed_has_an_exit_code_of_its_own_and_is_done_again_on_demand(
    model: Path, tmp_path: Path
) -> None:
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        for path in crop_sample(tmp_path / str(number), row=0, col=100 * number):
            (tmp_path / path.stem).mkdir(exist_ok=True)
            shutil.move(path, tmp_path / path.stem / f"site{number}.tif")
    planned = call("batch", "plan", "before", "after", "-o", "sites.parquet", "--model", model)
    assert planned.exit_code == 0, planned.output
    broken = tmp_path / "after" / "site1.tif"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:1000])
    result = call("batch", "run", "sites.parquet", "-o", "out", "--model", model)
    assert result.exit_code == TILES_FAILED
    assert "1 done, 0 skipped, 1 failed" in result.stdout
    assert "failed: site1: SceneError" in result.stderr.replace("\n", " ")
    assert "changedet batch retry out does them again" in result.stderr
    with (tmp_path / "out" / "failures.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["error"]) == ("site1", "SceneError")
    assert "site1.tif" in row["message"]
    status = call("batch", "status", "out")
    assert [line.split() for line in status.stdout.splitlines()][:4] == [
        ["done", "1"],
        ["skipped", "0"],
        ["failed", "1"],
        ["left", "0"],
    ]
    broken.write_bytes(whole)
    again = call("batch", "retry", "out")
    assert again.exit_code == 0, again.output
    assert "2 done" in again.stdout


def test_an_option_that_lets_no_tile_be_mapped_is_told_at_once(pair: tuple[Path, Path], tmp_path: Path) -> None:
    planned = call("batch", "plan", *pair, "-o", "tiles.csv", "--detector", "cva")
    assert planned.exit_code == 0, planned.output
    result = call("batch", "run", "tiles.csv", "-o", "out", "--detector", "cva", "--max-memory", "600MB")
    assert (result.exit_code, result.stderr.count("error:")) == (2, 1)
    assert "--max-memory of 0.6 GB is too little" in result.stderr
    assert "expected: at least 0.61 GB" in result.stderr
    again = call("batch", "run", "tiles.csv", "-o", "out", "--detector", "cva")
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize("command", ["status", "retry"])
def test_a_folder_without_a_batch_is_told(command: str, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    result = call("batch", command, "nothing")
    assert (result.exit_code, result.stderr.count("error:")) == (3, 1)
    assert "no batch in" in result.stderr
