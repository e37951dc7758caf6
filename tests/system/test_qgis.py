"""The GeoPackage of a run in a real QGIS, and in GDAL's own ogrinfo."""

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
from tests.pairs import SAMPLE

pytestmark = pytest.mark.system
# QGIS belongs to the system's Python, not to that of the tests.
PYTHON = "/usr/bin/python3"
ENVIRONMENT = {"PATH": os.defpath, "HOME": "/tmp", "QT_QPA_PLATFORM": "offscreen", "LC_ALL": "C.UTF-8"}  # noqa: S108  # where QGIS keeps its profile


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(SAMPLE / "before.tif", SAMPLE / "after.tif", tmp_path_factory.mktemp("sample") / "out")


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


def test_qgis_opens_the_polygons_coloured_by_probability(sample: RunResult, tmp_path: Path) -> None:
    layers = ("changes", "footprint", "unknown")
    told, image = drawn(sample.path("changes.gpkg"), tmp_path / "map.png", *layers)

    assert all(told[name]["valid"] and told[name]["crs"] == "EPSG:32631" for name in layers)
    changes = told["changes"]
    assert (changes["renderer"], changes["attribute"]) == ("graduatedSymbol", "probability_mean")
    assert changes["rows"] == len(sample.changes)
    assert changes["fields"] == ["fid", *sample.changes.columns.drop("geometry")]
    assert [entry[0] for entry in changes["classes"]] == [0.0, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert (told["footprint"]["renderer"], told["unknown"]["renderer"]) == ("singleSymbol", "singleSymbol")
    # Outlines are opaque, so each class that occurs is on the map in its own colour.
    present = np.searchsorted([0.5, 0.6, 0.7, 0.8, 0.9], sample.changes.probability_mean, side="right")
    for index in set(present.tolist()):
        colour = np.array(changes["classes"][index][2][:3])[:, None, None]
        assert (np.abs(image.astype(int) - colour).max(axis=0) <= 12).sum() > 20


def test_ogrinfo_finds_nothing_wrong(sample: RunResult) -> None:
    if shutil.which("ogrinfo") is None:
        pytest.skip("no ogrinfo here (apt-get install gdal-bin)")
    done = subprocess.run(
        ["ogrinfo", "-ro", "-so", "-al", sample.path("changes.gpkg")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Geometry: Multi Polygon" in done.stdout
    assert f"Feature Count: {len(sample.changes)}" in done.stdout
    assert "touches_edge: Integer(Boolean)" in done.stdout
