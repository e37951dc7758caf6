"""A batch over a mosaic of real cities is one run over it, byte for byte."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window as RasterioWindow

from changedet.batch import run as batch_run
from changedet.batch.plan import plan_batch
from changedet.batch.run import run_batch
from changedet.detect.run import run
from changedet.grid import Window
from changedet.write.raster import RasterLayout
from changedet.write.vrt import TileFile, write_vrt
from tests.batch.kernel import InlineEngine
from tests.pairs import DATA, RGBN

CITIES = ("beirut", "mumbai", "paris")
SIDE = 176
GRID = GeoBox((SIDE, SIDE * len(CITIES)), Affine(10, 0, 600_000, 0, -10, 5_800_000), "EPSG:32633")
DATES = ("2016-01-01", "2018-03-01")
# The chips that it makes do not go evenly into the cities, nor into the tiles.
OPTIONS = {"model": "s2-urban-rgbn", "max_memory": "560MB", "min_area": 500.0}


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both dates of the cities side by side, a virtual raster each."""
    images = DATA / "oscd" / "Onera Satellite Change Detection dataset - Images"
    if not images.is_dir():
        pytest.skip(f"no OSCD in {DATA}")
    folder = tmp_path_factory.mktemp("cities")
    return [_mosaic(folder, images, number) for number in (1, 2)]


def _mosaic(folder: Path, images: Path, number: int) -> Path:
    parts = []
    for index, city in enumerate(CITIES):
        array = np.stack([_band(images / city / f"imgs_{number}", band) for band in RGBN])
        path = folder / f"{city}-{number}.tif"
        size = {"count": len(RGBN), "height": SIDE, "width": SIDE, "dtype": array.dtype, "nodata": 0}
        with rasterio.open(path, "w", driver="GTiff", compress="deflate", **size) as dataset:
            dataset.write(array)
        parts.append(TileFile(path.name, Window(0, SIDE * index, SIDE, SIDE)))
    mosaic = folder / f"date-{number}.vrt"
    write_vrt(mosaic, RasterLayout(GRID, len(RGBN), "uint16", 0, descriptions=RGBN), parts)
    return mosaic


def _band(folder: Path, band: str) -> np.ndarray:
    (path,) = folder.glob(f"*{band}.tif")
    with rasterio.open(path) as dataset:
        # Where each of the three cities was built up.
        window = RasterioWindow(160, 160, SIDE, SIDE)
        array: np.ndarray = dataset.read(1, window=window)
    return array


def _changes(out: Path) -> gpd.GeoDataFrame:
    table = gpd.read_file(out / "changes.gpkg", layer="changes").sort_values("id", ignore_index=True)
    return table.set_geometry(table.geometry.normalize())


def test_a_batch_over_a_mosaic_of_cities_is_one_run_over_it(
    mosaics: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_run, "Engine", InlineEngine)
    whole = run(*mosaics, tmp_path / "whole", dates=DATES, report=False, **OPTIONS)
    planned = plan_batch(*mosaics, tmp_path / "tiles.parquet", dates=DATES, xyz=14, **OPTIONS)
    assert len(planned.manifest) == 8
    assert planned.manifest.lattice is None
    batch = run_batch(planned.path, tmp_path / "out", **OPTIONS)
    assert whole.record["chips"]["chips"] > 2
    assert batch.failed == 0
    for name in ("probability", "mask"):
        with rasterio.open(whole.path(f"{name}.tif")) as one, rasterio.open(batch.out / f"{name}.vrt") as other:
            assert one.read().tobytes() == other.read().tobytes(), name
    one, other = _changes(whole.out), _changes(batch.out)
    assert len(one) > 10
    assert other.equals(one)
    # Some lie in no tile alone, or there would be nothing to join.
    tiles = shapely.box(*np.array([GRID[tile.window.slices].boundingbox.bbox for tile in planned.manifest.tiles()]).T)
    within, _ = shapely.STRtree(tiles).query(other.geometry.array, predicate="covered_by")
    assert len(set(within.tolist())) < len(other)
