"""The grid a pair is compared on."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from changedet.errors import ConfigError, NotFoundError, PairError, SceneError
from changedet.grid import Window
from changedet.read import open_scene
from changedet.read.align import to_lonlat
from changedet.read.pair import PairOptions, RasterPair
from changedet.read.target import GridOptions, open_area, target_grid
from tests.data import UTM, coordinates, geobox, write_raster

GRID = geobox(90, 80)


def _scene(folder: Path, name: str, grid: GeoBox, reference: GeoBox = GRID):
    image = coordinates(grid, reference) / 1000
    return open_scene(write_raster(folder / name, image, crs=str(grid.crs), transform=grid.affine))


def test_a_template_is_taken_whole_wherever_the_scenes_lie(tmp_path: Path) -> None:
    like = geobox(60, 60, crs="EPSG:32633", row=40.25, col=-20.5).zoom_out(2)
    scenes = [_scene(tmp_path, name, GRID) for name in ("before.tif", "after.tif")]
    with RasterPair(*scenes, PairOptions(scale=(1, 1), grid=GridOptions(like=like))) as pair:
        assert pair.geobox == like
        height, width = like.shape
        chip = pair.read(Window(0, 0, height, width))
    expected = coordinates(like, GRID)
    inside = (expected > 0).all(axis=0) & (expected[0] < 90) & (expected[1] < 80)
    assert chip.valid[inside].mean() > 0.95
    assert not chip.valid[~inside].any()
    inner = chip.valid & (np.minimum(expected, [[[90]], [[80]]] - expected).min(axis=0) > 2)
    assert np.abs(chip.before * 1000 - expected)[:, inner].max() < 0.05
    assert np.abs(chip.after * 1000 - expected)[:, inner].max() < 0.05


def test_a_template_elsewhere_is_refused() -> None:
    with pytest.raises(PairError, match="do not overlap"):
        target_grid(GRID, GRID, GridOptions(like=geobox(9, 9, row=900)))


@pytest.mark.parametrize(("res", "shape"), [((20, 20), (45, 40)), ((30, 10), (30, 80)), ((7, 7), (129, 115))])
def test_another_resolution_starts_at_the_same_corner_and_covers_all(tmp_path: Path, res, shape) -> None:
    scenes = [_scene(tmp_path, name, GRID.pad(6)) for name in ("before.tif", "after.tif")]
    grid = target_grid(GRID, GRID, GridOptions(res=res))
    assert tuple(grid.shape) == shape
    assert (grid.affine.c, grid.affine.f) == (GRID.affine.c, GRID.affine.f)
    assert (abs(grid.resolution.y), grid.resolution.x) == res
    with RasterPair(*scenes, PairOptions(scale=(1, 1)), geobox=grid) as pair:
        chip = pair.read(Window(0, 0, *shape))
    expected = coordinates(grid, GRID)
    assert chip.valid.all()
    assert np.abs(chip.after * 1000 - expected).max() < 0.05


def _polygon(folder: Path, crs: str) -> Path:
    """Write a triangle of the grid's rows 10 to 70, columns 10 to 50, in another CRS."""
    corners = [(500_100, 5_599_900), (500_500, 5_599_900), (500_100, 5_599_300)]
    path = folder / "area.gpkg"
    gpd.GeoDataFrame(geometry=[shapely.Polygon(corners)], crs=UTM).to_crs(crs).to_file(path)
    return path


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_outside_an_area_nothing_is_compared(tmp_path: Path, crs: str) -> None:
    scenes = [_scene(tmp_path, name, GRID) for name in ("before.tif", "after.tif")]
    options = PairOptions(scale=(1, 1), grid=GridOptions(area=open_area(str(_polygon(tmp_path, crs)))))
    with RasterPair(*scenes, options) as pair:
        assert pair.geobox == GRID[10:70, 10:50]
        whole = pair.read(Window(0, 0, 60, 40)).valid
        part = pair.read(Window(20, 5, 17, 30)).valid
    rows, cols = np.indices((60, 40)) + 0.5
    # Pixels whose middle is inside; those on the very edge may go either way.
    depth = 1 - (rows / 60 + cols / 40)
    assert whole[depth > 0.01].all()
    assert not whole[depth < -0.01].any()
    assert np.array_equal(part, whole[20:37, 5:35])


@pytest.mark.parametrize("west", [-170.0, 190.0])
def test_an_area_beyond_the_antimeridian_is_found_on_a_grid_that_counts_on(tmp_path: Path, west: float) -> None:
    grid = GeoBox((40, 60), Affine(0.01, 0, 189.7, 0, -0.01, 10.1), "EPSG:4326")
    scenes = [_scene(tmp_path, name, grid, grid) for name in ("before.tif", "after.tif")]
    path = tmp_path / "area.geojson"
    gpd.GeoSeries([shapely.box(west, 9.8, west + 0.2, 10.0)], crs="EPSG:4326").to_file(path)
    with RasterPair(*scenes, PairOptions(scale=(1, 1), grid=GridOptions(area=open_area(str(path))))) as pair:
        assert pair.geobox == grid[10:30, 30:50]
        assert pair.read(Window(0, 0, 20, 20)).valid.all()


def test_an_area_cut_at_the_antimeridian_is_whole_on_a_grid_across_it(tmp_path: Path) -> None:
    grid = GeoBox((20, 60), Affine(0.01, 0, 179.7, 0, -0.01, 10.1), "EPSG:4326")
    halves = [shapely.box(179.8, 9.9, 180, 10.1), shapely.box(-180, 9.9, -179.8, 10.1)]
    gpd.GeoSeries(halves, crs="EPSG:4326").to_file(tmp_path / "area.gpkg")
    scene = _scene(tmp_path, "scene.tif", grid, grid)
    options = PairOptions(scale=(1, 1), grid=GridOptions(area=open_area(str(tmp_path / "area.gpkg"))))
    with RasterPair(scene, scene, options) as pair:
        assert pair.geobox == grid[:, 10:50]
        assert pair.read(Window(0, 0, 20, 40)).valid.all()


def test_long_edges_of_an_area_bend_as_parallels_do(tmp_path: Path) -> None:
    grid = GeoBox((102, 120), Affine(1000, 0, 320_000, 0, -1000, 6_690_000), UTM)
    area = shapely.box(12.5, 59.5, 14.5, 60.2)
    gpd.GeoSeries([area], crs="EPSG:4326").to_file(tmp_path / "area.gpkg")
    found = open_area(str(tmp_path / "area.gpkg")).covers(grid, Window(0, 0, 102, 120))
    rows, cols = np.indices(grid.shape) + 0.5
    lon, lat = to_lonlat(grid, rows, cols)
    # Pixels whose middle is within 30 m of the edge may go either way.
    inner, outer = (shapely.contains_xy(area.buffer(margin), lon, lat) for margin in (-3e-4, 3e-4))
    assert found[inner].all()
    assert not found[~outer].any()


def test_an_area_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no area file"):
        open_area(str(tmp_path / "nothing.gpkg"))
    (tmp_path / "letter.gpkg").write_text("Dear reader")
    with pytest.raises(SceneError, match="cannot be read as polygons"):
        open_area(str(tmp_path / "letter.gpkg"))
    gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=UTM).to_file(tmp_path / "points.gpkg")
    with pytest.raises(SceneError, match="has 0 polygons"):
        open_area(str(tmp_path / "points.gpkg"))
    area = open_area(str(_polygon(tmp_path, UTM)))
    with pytest.raises(PairError, match=r"area\.gpkg lies outside the pair"):
        target_grid(*[geobox(20, 20, row=400)] * 2, GridOptions(area=area))


@pytest.mark.parametrize(
    "bounds", [(500_300, 5_599_300, 500_105, 5_599_895), (-np.inf, -np.inf, np.inf, np.inf), (np.nan, 0, 1, 1)]
)
def test_bounds_the_wrong_way_round_or_without_an_end_are_refused(bounds: tuple[float, float, float, float]) -> None:
    with pytest.raises(ConfigError, match="left < right and bottom < top, finite"):
        target_grid(GRID, GRID, GridOptions(bounds=bounds))


def test_pixels_so_small_that_planning_them_would_not_end_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"--res 1e-06, where the pixels of the before scene are 10 x 10(.|\n)*100 times"
    ):
        target_grid(GRID, GRID, GridOptions(res=(1e-6, 1e-6)))


DATELINE = {
    "degrees beyond 180 and below -180": (
        GeoBox((60, 50), Affine(1e-4, 0, 179.9975, 0, -1e-4, -16.0), "EPSG:4326"),
        GeoBox((60, 50), Affine(1e-4, 0, -180.0025, 0, -1e-4, -16.0), "EPSG:4326"),
    ),
    "the same, part of a pixel off": (
        GeoBox((60, 50), Affine(1e-4, 0, 179.9975, 0, -1e-4, -16.0), "EPSG:4326"),
        GeoBox((70, 60), Affine(1e-4, 0, -180.00297, 0, -1e-4, -15.99953), "EPSG:4326"),
    ),
    "degrees and the UTM zone behind the line": (
        GeoBox((60, 50), Affine(1e-4, 0, 179.9975, 0, -1e-4, -16.0), "EPSG:4326"),
        GeoBox((60, 50), Affine(1e-4, 0, -180.0025, 0, -1e-4, -16.0), "EPSG:4326").pad(5).to_crs("EPSG:32701"),
    ),
    "two UTM zones": (
        GeoBox((60, 50), Affine(10, 0, 820_000, 0, -10, 8_228_000), "EPSG:32760"),
        GeoBox((60, 50), Affine(10, 0, 820_000, 0, -10, 8_228_000), "EPSG:32760").pad(5).to_crs("EPSG:32701"),
    ),
}


def _across(source: GeoBox, target: GeoBox) -> NDArray[np.float32]:
    """Return row and column in `target` of every pixel of `source`, (2, H, W), the shorter way around the earth."""
    rows, cols = np.indices(source.shape) + 0.5
    a, b, c, d, e, f = source.affine[:6]
    x, y = a * cols + b * rows + c, d * cols + e * rows + f
    if source.crs != target.crs:
        x, y = Transformer.from_crs(source.crs, target.crs, always_xy=True).transform(x, y)
    if target.crs.geographic:
        x = x % 360  # all of these lie near 180
    return np.stack([(y - target.affine.f) / target.affine.e, (x - target.affine.c) / target.affine.a]).astype("f4")


@pytest.mark.parametrize("name", DATELINE)
def test_pairs_across_the_antimeridian_meet(tmp_path: Path, name: str) -> None:
    before, after = DATELINE[name]
    turned = _across(after, before)
    first = write_raster(
        tmp_path / "before.tif", coordinates(before, before) / 1000, crs=str(before.crs), transform=before.affine
    )
    second = write_raster(tmp_path / "after.tif", turned / 1000, crs=str(after.crs), transform=after.affine)
    with RasterPair(open_scene(first), open_scene(second), PairOptions(scale=(1, 1))) as pair:
        assert pair.geobox == before
        chip = pair.read(Window(0, 0, 60, 50))
    assert chip.valid[3:-3, 3:-3].all()
    # Pixels of degrees are not square in metres: a kernel for both has a ripple of its own on a ramp.
    assert np.abs(chip.after - chip.before)[:, chip.valid].max() * 1000 < (0.1 if "zone behind" in name else 0.05)
