"""The largest polygons in pixels: exact where they fit, and said so where points or polygons had to be left out."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from changedet.report import polygons
from changedet.report.polygons import Shapes, largest_shapes, read_measures
from changedet.vectorize import Labels
from tests.data import NORTH_UP, UTM, geobox, write_raster
from tests.layers import write_changes


def decoded(rings: list[list[int]]) -> Any:
    """Return the shape that rings of steps stand for, in px, by the even-odd rule."""
    whole = shapely.Polygon()
    for ring in rings:
        points = np.cumsum(np.array(ring).reshape(-1, 2), axis=0) / 10
        whole = whole.symmetric_difference(shapely.Polygon(points))
    return whole


def _vectors(mask: np.ndarray, folder: Path, transform: Affine = NORTH_UP) -> Path:
    file = write_raster(folder / "mask.tif", mask, nodata=255, transform=transform)
    return write_changes(folder / "changes.gpkg", file, Labels(date_before="2020-01-01"))


def _shapes(path: Path, height: int, width: int, transform: Affine = NORTH_UP, **limits: int) -> Shapes:
    grid = geobox(height, width, transform=transform)
    return largest_shapes(path, read_measures(path)["area_m2"], grid, **limits)


@pytest.fixture
def mask() -> np.ndarray:
    made = np.zeros((60, 50), np.uint8)
    made[5:15, 5:25], made[8:11, 9:13] = 1, 0  # with a hole
    made[30:32, 30:32], made[32:34, 32:34] = 1, 1  # two squares that share a corner
    made[50:, :10], made[55:, 40:] = 255, 1
    return made


@pytest.mark.parametrize(
    "transform", [NORTH_UP, Affine.translation(500_000, 5_600_000) @ Affine.rotation(30) @ Affine.scale(10, -10)]
)
def test_all_shapes_are_exactly_the_pixels_of_the_mask(mask: np.ndarray, tmp_path: Path, transform: Affine) -> None:
    shapes = _shapes(_vectors(mask, tmp_path, transform), 60, 50, transform)
    assert (len(shapes), shapes.total, shapes.coarsened) == (3, 3, 0)
    centres = shapely.points(*np.meshgrid(np.arange(50) + 0.5, np.arange(60) + 0.5))
    covered = np.any([shapely.contains(decoded(rings), centres) for rings in shapes.rings], axis=0)
    np.testing.assert_array_equal(covered, mask == 1)


def test_attributes_are_those_of_the_layer_by_falling_area(mask: np.ndarray, tmp_path: Path) -> None:
    path = _vectors(mask, tmp_path)
    shapes = _shapes(path, 60, 50)
    layer = gpd.read_file(path, layer="changes").sort_values("area_m2", ascending=False, kind="stable")
    assert shapes.columns["id"] == list(layer["id"])
    assert shapes.columns["area_m2"] == pytest.approx(list(layer["area_m2"]), rel=1e-7)
    assert shapes.columns["touches_edge"] == list(layer["touches_edge"])
    assert shapes.columns["date_before"] == ["2020-01-01"] * 3
    assert shapes.columns["direction"] == [None] * 3
    points = gpd.GeoSeries(gpd.points_from_xy(shapes.columns["lon"], shapes.columns["lat"]), crs=4326).to_crs(UTM)
    assert all(layer.geometry.reset_index(drop=True).contains(points))


def test_the_largest_stay_where_not_all_fit(mask: np.ndarray, tmp_path: Path) -> None:
    path = _vectors(mask, tmp_path)
    all_of_them = _shapes(path, 60, 50)
    fewer = _shapes(path, 60, 50, most=2)
    assert (len(fewer), fewer.total) == (2, 3)
    assert fewer.rings == all_of_them.rings[:2]
    assert len(fewer.columns["id"]) == 2
    assert len(_shapes(path, 60, 50, most_bytes=1)) == 1


def test_a_shape_of_too_many_points_is_drawn_with_fewer() -> None:
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    radius = 1000 + 5 * np.random.default_rng(1).normal(size=4000)
    holes = [shapely.box(x, 0, x + 1, 1).exterior.coords for x in range(-500, 500, 3)]
    star = shapely.Polygon(np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1), holes)
    ((whole, size),) = polygons._encoded(np.array([star]))
    assert decoded(whole).symmetric_difference(star).area / star.area < 1e-3
    assert size == polygons._size(whole) > 4000
    rings = polygons._coarsened(star, most_bytes=4000)
    assert polygons._size(rings) <= 4000
    assert decoded(rings).symmetric_difference(star).area / star.area < 0.02


def test_shapes_are_encoded_together_as_they_would_be_alone() -> None:
    ring, hole = shapely.box(0, 0, 30, 20), shapely.box(5, 5, 8, 9)
    shapes = np.array([ring.difference(hole), shapely.union(shapely.box(50, 50, 51, 52), hole), shapely.MultiPolygon()])
    rings, sizes = zip(*polygons._encoded(shapes), strict=True)
    assert [len(each) for each in rings] == [2, 2, 0]
    assert [decoded(each).equals(shape) for each, shape in zip(rings[:2], shapes[:2], strict=True)] == [True, True]
    assert list(sizes) == [polygons._size(each) for each in rings]


def test_the_size_of_rings_is_that_of_their_text() -> None:
    rings = [[0, 0, 10, -10], [5, 5, 100, 0]]
    assert polygons._size(rings) == pytest.approx(len("[0,0,10,-10],[5,5,100,0]"), abs=3)


def test_a_layer_without_polygons_gives_no_shapes(tmp_path: Path) -> None:
    shapes = _shapes(_vectors(np.zeros((20, 20), np.uint8), tmp_path), 20, 20)
    assert (len(shapes), shapes.total, shapes.columns) == (0, 0, {})
