"""`changedet batch plan` as a user calls it: what it prints, and what it refuses."""

import json

import numpy as np
import pytest

from changedet.batch.manifest_file import read_manifest
from tests.commands import assert_refused, call, names_in
from tests.data import texture, write_raster
from tests.pairs import crop_sample


@pytest.fixture(scope="module")
def corner(tmp_path_factory):
    return crop_sample(tmp_path_factory.mktemp("corner"), row=0, col=0)


def test_a_plan_tells_what_it_will_cost_and_what_comes_next(corner, tmp_path):
    out = tmp_path / "tiles.csv"
    result = call("batch", "plan", *corner, "-o", out)
    assert result.exit_code == 0, result.output
    for told in (
        "1 in 1 mosaic",
        "96 x 80 px, EPSG:",
        "1 to compute",
        "each computed once",
        "at most",
        "s2-urban-rgbn",
    ):
        assert told in result.stdout
    assert f"next: changedet batch run {out} -o OUT" in result.stdout.replace("\n", "")
    assert names_in(tmp_path) == {"tiles.csv"}
    (tile,) = read_manifest(out).tiles()
    assert tile.id == "r0c0"


def test_small_tiles_of_another_grid_are_warned_of(corner, tmp_path):
    result = call("batch", "plan", *corner, "-o", tmp_path / "t.parquet", "--xyz", 16, "--detector", "cva")
    assert result.exit_code == 0, result.output
    assert "tiles are small beside the chips" in result.stderr
    assert "times what one run computes" in result.stdout


def test_what_is_left_out_is_told_with_the_reason(tmp_path):
    stored = np.rint(np.stack([texture(40, 40, seed=seed) for seed in range(3)]) * 10_000).astype(np.uint16)
    for date in ("before", "after"):
        (tmp_path / date).mkdir()
        write_raster(tmp_path / date / "good.tif", stored, names=("B04", "B03", "B02"))
    for number in range(7):
        (tmp_path / "before" / f"alone[{number}].tif").write_text("")
    result = call(
        "batch", "plan", tmp_path / "before", tmp_path / "after", "-o", tmp_path / "t.parquet", "--detector", "mad"
    )
    assert result.exit_code == 0, result.output
    assert result.stderr.count("left out:") == 5
    assert "alone[0].tif: there is no alone[0] after" in result.stderr.replace("\n", "")
    assert "… and 2 more" in result.stderr
    assert (tmp_path / "t.unmatched.csv").read_text().count("\n") == 8


def test_quiet_says_nothing(corner, tmp_path):
    result = call("batch", "plan", *corner, "-o", tmp_path / "t.parquet", "--detector", "cva", "-q")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--tile-size", "wide"], 2, "a number of pixels, or metres"),
        (["--xyz", "3", "--mgrs"], 2, "expected one of tile_size, xyz, mgrs and tiles"),
        (["--tile-id", "name"], 2, "tile_id is a column of the file of `tiles`"),
        (["--tiles", "none.gpkg"], 3, "no file of tiles none.gpkg"),
        (["--xyz", "99"], 2, "zoom 99"),
        (["--bounds", "0", "0", "1", "1"], 5, "lie outside the pair"),
    ],
)
def test_refusals(corner, tmp_path, arguments, code, message):
    out = tmp_path / "new" / "t.parquet"
    result = call("batch", "plan", *corner, "-o", out, "--detector", "cva", *arguments)
    assert_refused(result, out.parent, code, message)


def test_a_collection_that_is_none_is_refused(corner, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"type": "Feature"}))
    out = tmp_path / "new" / "t.parquet"
    result = call("batch", "plan", tmp_path / "x.json", tmp_path / "x.json", "-o", out)
    assert_refused(result, out.parent, 4, "is no STAC item collection")
