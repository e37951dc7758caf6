"""Runs on scenes that are not one file on a disk: lists, patterns, STAC items and URLs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy

from changedet.detect.remake import remake_report
from changedet.detect.run import run
from tests.commands import call
from tests.data import write_raster
from tests.pairs import RGBN, crop_sample
from tests.server import serve_apart

COMMON = dict(zip(RGBN, ("red", "green", "blue", "nir"), strict=True))
SIZE, TILE = 1536, 128
# Rows and columns 600 to 800 of the served files: it reaches into 3 x 3 of 144 tiles.
BOUNDS = (506_000, 5_592_000, 508_000, 5_594_000)


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sample's corner, with its bands also one a file and as STAC items beside it."""
    before, after = crop_sample(tmp_path_factory.mktemp("corner"))
    for scene in (before, after):
        assets = {}
        with rasterio.open(scene) as dataset:
            for index, name in enumerate(dataset.descriptions, start=1):
                place = {"crs": str(dataset.crs), "transform": dataset.transform, "nodata": dataset.nodata}
                path = write_raster(scene.parent / f"{scene.stem}_{name}.tif", dataset.read(index), **place)
                assets[name] = {"href": path.name, "eo:bands": [{"common_name": COMMON[name]}]}
        item = {"type": "Feature", "id": scene.stem, "properties": {"datetime": "2020-01-02"}, "assets": assets}
        scene.with_suffix(".json").write_text(json.dumps(item))
    return before, after


WAYS: dict[str, Callable[[Path], str | list[Path]]] = {
    "list": lambda scene: [scene.parent / f"{scene.stem}_{name}.tif" for name in RGBN],
    "commas": lambda scene: ",".join(str(scene.parent / f"{scene.stem}_{name}.tif") for name in RGBN),
    "pattern": lambda scene: str(scene.parent / f"{scene.stem}_B*.tif"),
    "STAC": lambda scene: f"stac:{scene.with_suffix('.json')}",
}


@pytest.mark.parametrize("way", WAYS)
def test_bands_in_files_of_their_own_give_the_map_of_one_file(
    way: str, corner: tuple[Path, Path], tmp_path: Path
) -> None:
    bands = {"dates": ("2020-01-01", "2021-01-01"), "detector": "cva", "threshold": "otsu"}
    whole = run(*corner, tmp_path / "whole", report=False, **bands)
    parts = run(*map(WAYS[way], corner), tmp_path / "parts", **bands)
    assert len(whole.changes) > 0
    with rasterio.open(whole.path("mask.tif")) as one, rasterio.open(parts.path("mask.tif")) as other:
        assert np.array_equal(one.read(), other.read())
    files = 4 + (way == "STAC")
    assert [parts.record["inputs"][role]["files"] for role in ("before", "after")] == [files, files]
    assert remake_report(parts.out) == []
    again = run(*map(WAYS[way], corner), parts.out, reuse=True, **{**bands, "threshold": 0.4})
    assert again.record["times"]["reused"] == str(parts.out)


def test_a_run_on_a_url_fetches_only_the_tiles_it_needs(tmp_path: Path) -> None:
    names = ("before.tif", "after.tif")
    (tmp_path / "served").mkdir()
    for seed, name in enumerate(names):
        image = np.random.default_rng(seed).integers(100, 6_000, (4, SIZE, SIZE)).astype(np.uint16)
        write_raster(tmp_path / "plain.tif", image, names=RGBN)
        copy(tmp_path / "plain.tif", tmp_path / "served" / name, driver="COG", blocksize=TILE)
    with serve_apart(tmp_path / "served") as served:
        scenes = [f"{served.url}/{name}" for name in names]
        result = call("run", *scenes, "-o", tmp_path / "out", "--detector", "cva", "--bounds", *BOUNDS)
    assert result.exit_code == 0, result.output
    for name in names:
        size = (tmp_path / "served" / name).stat().st_size
        tiles = 9 * size / (SIZE / TILE) ** 2 / (4 / 3)  # of the full resolution, which is three quarters of a COG
        fetched = np.zeros(size, np.bool_)
        for path, start, stop in served.ranges:
            fetched[start:stop] |= path.endswith(name)
        # The header, and what GDAL reads ahead and between tiles that lie beside each other.
        assert tiles <= fetched.sum() <= 1.8 * tiles
        # To look, to map, for the direction of the changes, and for the picture of the report.
        assert served.bytes_of(name) <= 5.5 * tiles
    assert {Path(path).name for path, _, _ in served.ranges} == set(names)
