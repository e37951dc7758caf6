"""The command as a user meets it: what it prints and what it writes."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from changedet.cli import cli
from tests.commands import MAIN, RESULTS, assert_refused, call, names_in
from tests.data import texture, write_raster
from tests.pairs import ROOT, SAMPLE
from tests.server import serve


def _loaded_by(code: str) -> set[str]:
    """Return which of the heavy libraries are loaded once `code` has run in an interpreter of its own."""
    heavy = "{'torch', 'geopandas', 'rasterio', 'segmentation_models_pytorch', 'pyogrio', 'scipy'}"
    code += f"\nimport sys, json; print(json.dumps(sorted({heavy} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import changedet",
        "from changedet.cli import cli\ncli(['--help'], standalone_mode=False)",
        "from changedet.cli import cli\ncli(['run', '--help'], standalone_mode=False)",
        "from changedet.cli import cli\ncli(['models'], standalone_mode=False)",
    ],
)
def test_heavy_libraries_wait_until_they_are_needed(code: str) -> None:
    assert _loaded_by(code) & {"torch", "geopandas", "segmentation_models_pytorch"} == set()


def test_inspect_does_without_torch() -> None:
    paths = [str(SAMPLE / "before.tif"), str(SAMPLE / "after.tif")]
    assert "torch" not in _loaded_by(
        f"from changedet.cli import cli\ncli(['inspect', *{paths}], standalone_mode=False)"
    )


def test_run_prints_what_it_found_and_where(pair: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    result = call("run", *pair, "-o", tmp_path / "out", "--model", model, "--threshold", "0.45")
    assert result.exit_code == 0, result.output
    assert names_in(tmp_path / "out") == RESULTS
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert f"{record['areas']['polygons']} changes" in result.stdout
    assert f"written to {tmp_path / 'out'}" in result.stdout


def test_quiet_says_nothing(pair: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    result = call("--quiet", "run", *pair, "-o", tmp_path / "out", "--model", model)
    assert (result.exit_code, result.output) == (0, "")


def test_the_licence_of_a_model_that_is_not_free_is_told(pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = call("run", *pair, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "s2-urban-rgbn is under CC-BY-NC-SA-4.0: not for commercial use" in result.stderr


def test_a_free_model_is_used_without_a_word_about_its_licence(pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = call("run", *pair, "-o", tmp_path / "out", "--free-only", "--no-report")
    assert result.exit_code == 0, result.output
    assert "commercial use" not in result.output
    assert json.loads((tmp_path / "out" / "run.json").read_text())["model"]["name"] == "s2-urban-rgbn-free"


def test_inspect_prints_both_dates_and_what_would_be_done() -> None:
    result = call("inspect", SAMPLE / "before.tif", SAMPLE / "after.tif")
    assert result.exit_code == 0, result.output
    for said in ("2017-06-17", "2018-10-05", "residual shift", "used as it is", "model s2-urban-rgbn would be used"):
        assert said in result.stdout


def test_inspect_as_json_is_json() -> None:
    result = call("inspect", "--json", SAMPLE / "before.tif", SAMPLE / "after.tif")
    report = json.loads(result.stdout)
    assert (report["before"]["date"], report["size"]) == ("2017-06-17", [448, 512])


def test_what_is_printed_is_printed_where_no_unicode_is_known_too() -> None:
    command = ["inspect", str(SAMPLE / "before.tif"), str(SAMPLE / "after.tif")]
    done = CliRunner(charset="ascii").invoke(cli, command)
    assert done.exit_code == 0, done.exception
    assert "? both dates lie on one grid" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_behind_the_output_is_told_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", MAIN, "models", "show", "s2-urban"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 8
    assert done.stderr.startswith("error: a disk, of what is printed or of temporary files, is full")
    assert "Traceback" not in done.stderr


def test_inspect_shows_no_credentials(tmp_path: Path) -> None:
    for name in ("before.tif", "after.tif"):
        shutil.copy(SAMPLE / name, tmp_path)
    with serve(tmp_path) as served:
        scenes = [
            f"{served.url.replace('//', '//me:geheim@')}/{name}?sig=f00ba7" for name in ("before.tif", "after.tif")
        ]
        for options in ((), ("--json",)):
            result = call("inspect", *scenes, *options)
            assert result.exit_code == 0, result.output
            assert "***@127.0.0.1" in result.output.replace("\n", "")
            assert "geheim" not in result.output
            assert "f00ba7" not in result.output


def test_a_run_over_displaced_dates_says_so_and_what_to_do(tmp_path: Path) -> None:
    image = np.rint(np.stack([texture(300, 300, seed=seed) for seed in range(3)]) * 10_000).astype(np.uint16)
    names = ("red", "green", "blue")
    before = write_raster(tmp_path / "before.tif", image[:, 20:280, 20:280], names=names)
    after = write_raster(tmp_path / "after.tif", image[:, 19:279, 20:280], names=names)
    command = ("run", before, after, "-o", tmp_path / "out", "--detector", "cva", "--no-report")
    told = "residual shift of 1.00 px (row +1.00, column +0.00): --coregister removes it"
    assert f"warning: {told}" in call(*command).stderr.replace("\n", " ")
    assert told in json.loads((tmp_path / "out" / "run.json").read_text())["warnings"]
    removed = call(*command, "--coregister", "--overwrite")
    assert (removed.exit_code, "residual shift" in removed.stderr) == (0, False)


def test_models_lists_the_shipped_ones() -> None:
    for command in (("models",), ("models", "list")):
        result = call(*command)
        assert result.exit_code == 0, result.output
        assert "s2-urban-rgbn" in result.stdout
        assert "CC-BY-NC-SA-4.0" in result.stdout
        assert re.search(r"s2-urban-rgbn-free .*Apache-2\.0", result.stdout)


def test_models_show_prints_the_whole_card() -> None:
    card = json.loads(call("models", "show", "s2-urban").stdout)
    assert (card["name"], card["tiling"], len(card["bands"])) == ("s2-urban", "exact", 13)


def test_models_show_refuses_what_is_no_model(tmp_path: Path) -> None:
    assert_refused(call("models", "show", SAMPLE / "after.tif"), tmp_path / "out", 6, "is not a safetensors file")


@pytest.fixture
def change_mask(tmp_path: Path) -> Path:
    mask = np.zeros((60, 50), np.uint8)
    mask[5:15, 5:25], mask[30:32, 30:32], mask[50:] = 1, 1, 255
    return write_raster(tmp_path / "mask.tif", mask, nodata=255)


def test_vectorize_alone_gives_the_polygons_of_a_mask(change_mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "changes.gpkg"
    result = call("vectorize", change_mask, "-o", out)
    assert result.exit_code == 0, result.output
    assert "2 changes written to" in result.stdout
    assert sorted(gpd.read_file(out, layer="changes").area) == [400, 20_000]


def test_vectorize_keeps_to_min_area_and_to_files_that_exist(change_mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "changes.gpkg"
    out.write_text("mine")
    refused = call("vectorize", change_mask, "-o", out, "--min-area", 1000)
    assert (refused.exit_code, out.read_text()) == (7, "mine")
    assert call("vectorize", change_mask, "-o", out, "--min-area", 1000, "--overwrite").exit_code == 0
    assert len(gpd.read_file(out, layer="changes")) == 1


def test_vectorize_refuses_another_format(change_mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "changes.kml"
    assert_refused(call("vectorize", change_mask, "-o", out), out, 2, "expected: a file named *.gpkg, *.parquet")


def test_a_pipeline_file_does_what_the_command_does(
    pair: tuple[Path, Path], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = (f"run.before={pair[0]}", f"run.after={pair[1]}", "run.out=by_file", f"run.model={model}")
    settings = (part for change in changes for part in ("--set", change))
    result = call("pipeline", ROOT / "pipelines" / "01_two_geotiffs.yaml", *settings)
    assert result.exit_code == 0, result.output
    assert names_in(tmp_path / "by_file") == RESULTS


def test_train_refuses_a_file_without_a_training(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text("run:\n  before: a.tif\n  after: b.tif\n  out: out\n")
    assert_refused(call("train", tmp_path / "file.yaml"), tmp_path / "out", 2, "has no block train")


@pytest.mark.parametrize("arguments", [("-q", "run"), ("run", "-q")])
def test_quiet_may_stand_before_or_after_the_command(
    arguments: tuple[str, ...], pair: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    result = call(*arguments, *pair, "-o", tmp_path / "out", "--model", model, "--no-report")
    assert (result.exit_code, result.stdout) == (0, "")


def test_the_examples_in_the_help_keep_their_lines() -> None:
    lines = call("run", "--help").stdout.splitlines()
    assert "  changedet run before.tif after.tif -o out" in lines
    assert "  changedet run imgs_1 imgs_2 -o out --coregister --min-area 500" in lines


def test_rasterio_does_not_warn_of_what_is_refused_or_allowed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Nor while another thread ends what kept it quiet."""
    monkeypatch.setattr("changedet.read.header.quietly_without_georeference", nullcontext)
    picture = tmp_path / "picture.png"
    with rasterio.open(picture, "w", driver="PNG", height=8, width=8, count=1, dtype="uint8") as dataset:
        dataset.write(np.ones((1, 8, 8), np.uint8))
    recwarn.clear()
    assert_refused(call("run", picture, picture, "-o", tmp_path / "out"), tmp_path / "out", 4, "coordinate reference")
    assert not recwarn.list
