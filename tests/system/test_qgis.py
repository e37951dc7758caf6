"""What a run leaves in a real QGIS, and before GDAL's own validator and ogrinfo."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import rasterio

from changedet.detect.run import RunResult, run
from changedet.detect.series import run_series
from tests.pairs import DATA, SAMPLE

pytestmark = pytest.mark.system
# QGIS belongs to the system's Python, not to that of the tests.
PYTHON = "/usr/bin/python3"
ENVIRONMENT = {"PATH": os.defpath, "HOME": "/tmp", "QT_QPA_PLATFORM": "offscreen", "LC_ALL": "C.UTF-8"}  # noqa: S108  # where QGIS keeps its profile


@pytest.fixture(scope="module", params=["sample_data", "oscd"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The main job on the sample pair, and on a real city as it lies there."""
    pair = SAMPLE / "before.tif", SAMPLE / "after.tif"
    if request.param == "oscd":
        cities = [*(DATA / "oscd").glob("*Images/bercy")]
        if not cities:
            pytest.skip(f"no folder oscd in {DATA} (CHANGEDET_DATA names another place)")
        pair = cities[0] / "imgs_1", cities[0] / "imgs_2"
    return run(*pair, tmp_path_factory.mktemp(request.param) / "out")


@cache
def qgis_is_here() -> bool:
    if not Path(PYTHON).exists():
        return False
    command = [PYTHON, "-c", "import qgis.core"]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False).returncode == 0


def drawn(path: Path, picture: Path, *layers: str) -> tuple[dict, np.ndarray]:
    if not qgis_is_here():
        pytest.skip("no QGIS here (apt-get install python3-qgis)")
    command = [PYTHON, str(Path(__file__).with_name("draw_in_qgis.py")), str(path), str(picture), *layers]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    with rasterio.open(picture) as image:
        return json.loads(done.stdout.splitlines()[-1]), image.read()[:3]


def test_qgis_opens_the_polygons_coloured_by_probability(found: RunResult, tmp_path: Path) -> None:
    layers = ("changes", "footprint", "unknown")
    told, image = drawn(found.path("changes.gpkg"), tmp_path / "map.png", *layers)

    assert all(told[name]["valid"] and told[name]["crs"] == str(found.changes.crs) for name in layers)
    changes = told["changes"]
    assert (changes["renderer"], changes["attribute"]) == ("graduatedSymbol", "probability_mean")
    assert changes["rows"] == len(found.changes)
    assert changes["fields"] == ["fid", *found.changes.columns.drop("geometry")]
    assert [entry[0] for entry in changes["classes"]] == [0.0, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert (told["footprint"]["renderer"], told["unknown"]["renderer"]) == ("singleSymbol", "singleSymbol")
    # Outlines are opaque, so each class that occurs is on the map in its own colour.
    present = np.searchsorted([0.5, 0.6, 0.7, 0.8, 0.9], found.changes.probability_mean, side="right")
    assert len(found.changes) > 0
    for index in np.flatnonzero(np.bincount(present) >= 5):
        colour = np.array(changes["classes"][index][2][:3])[:, None, None]
        assert (np.abs(image.astype(int) - colour).max(axis=0) <= 12).sum() > 20


def test_gdals_own_validator_finds_nothing_wrong(found: RunResult) -> None:
    command = [PYTHON, "-m", "osgeo_utils.samples.validate_gpkg", "-k", "--extra", "--warning-as-error"]
    there = [PYTHON, "-c", "import osgeo_utils.samples.validate_gpkg"]
    if subprocess.run(there, env=ENVIRONMENT, capture_output=True, check=False).returncode:
        pytest.skip("no validator here (apt-get install python3-gdal)")
    path = str(found.path("changes.gpkg"))
    done = subprocess.run([*command, path], env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_qgis_shows_a_series_in_a_colour_a_date(tmp_path: Path) -> None:
    dates = [SAMPLE / name for name in ("before.tif", "after.tif", "before.tif")]
    out = run_series(dates, tmp_path / "out", dates=("2017-01-01", "2018-01-01", "2019-01-01"), report=False).out
    told, image = drawn(out / "first_change.tif", tmp_path / "map.png")

    classes = told["first_change"]["classes"]
    assert told["first_change"]["renderer"] == "paletted"
    assert [entry[:2] for entry in classes] == [[0, "no change"], [1, "2018-01-01"], [2, "2019-01-01"]]
    for _, _, colour in classes[:2]:
        assert (image == np.array(colour[:3])[:, None, None]).all(axis=0).sum() > 20


def test_ogrinfo_finds_nothing_wrong(found: RunResult) -> None:
    if shutil.which("ogrinfo") is None:
        pytest.skip("no ogrinfo here (apt-get install gdal-bin)")
    done = subprocess.run(
        ["ogrinfo", "-ro", "-so", "-al", found.path("changes.gpkg")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Geometry: Multi Polygon" in done.stdout
    assert f"Feature Count: {len(found.changes)}" in done.stdout
    assert "touches_edge: Integer(Boolean)" in done.stdout
