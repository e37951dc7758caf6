import geopandas as gpd
import morecantile
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from changedet.batch.tiles import BySize, Layer, Mgrs, Xyz, parse_size
from changedet.errors import ConfigError, NotFoundError, SceneError
from changedet.grid import Lattice, Window
from tests.batch.manifests import whole

# Pixels of 100 m from (480,000, 5,240,000) on.
GRID = GeoBox((600, 800), Affine(100, 0, 480_000, 0, -100, 5_240_000), "EPSG:32632")
MOSAIC = Window(100, 200, 450, 550)


def _cover(windows, mosaic):
    count = np.zeros((mosaic.height, mosaic.width), int)
    for window in windows.tolist():
        count[Window(*window).relative_to(mosaic).slices] += 1
    return count


@st.composite
def lattices(draw):
    stride = draw(st.sampled_from([1, 4, 16]))
    halo = stride * draw(st.integers(0, 3))
    return Lattice(2 * halo + stride * draw(st.integers(1, 8)), halo, stride, draw(st.booleans()))


@settings(max_examples=60)
@given(lattices(), st.integers(1, 200), st.integers(1, 200), st.integers(1, 300))
def test_tiles_by_size_partition_the_mosaic_and_share_no_chip(lattice, height, width, size):
    mosaic = Window(17, 31, height, width)
    names, windows = BySize(size, lattice).cut(GRID, mosaic)
    assert (_cover(windows, mosaic) == 1).all()
    assert len(set(names)) == len(windows)
    plan = lattice.over(height, width)
    own = [Window(*window).relative_to(mosaic) for window in windows.tolist()]
    chips = [chip.read for window in own for chip in plan.within(window).chips]
    assert len(chips) == len(set(chips)) == len(plan.chips)


def test_tiles_by_size_are_about_that_size():
    _, windows = BySize(1000, Lattice(256, 32, 16)).cut(GRID, Window(0, 0, 20_000, 30_000))
    assert 900 < np.median(windows[:, 2]) < 1100
    assert 900 < np.median(windows[:, 3]) < 1100


@pytest.mark.parametrize(
    ("scheme", "zoom"), [("WebMercatorQuad", 11), ("WGS1984Quad", 10), ("EuropeanETRS89_LAEAQuad", 9)]
)
def test_xyz_tiles_cover_the_mosaic_and_lie_where_their_scheme_says(scheme, zoom):
    names, windows = Xyz(zoom, scheme).cut(GRID, MOSAIC)
    assert (_cover(windows, MOSAIC) >= 1).all()
    tms = morecantile.tms.get(scheme)
    for name, (row, col, height, width) in zip(names, windows.tolist(), strict=True):
        z, x, y = map(int, name.split("-"))
        box = tms.xy_bounds(morecantile.Tile(x, y, z))
        outline = gpd.GeoSeries([shapely.box(*box).segmentize((box.right - box.left) / 50)], crs=tms.crs.to_wkt())
        expected = shapely.box(*outline.to_crs(str(GRID.crs)).total_bounds)
        expected &= shapely.box(*GRID[MOSAIC.slices].boundingbox.bbox)
        # A window is the outline rounded out to whole pixels.
        np.testing.assert_allclose(
            GRID[row : row + height, col : col + width].boundingbox.bbox, expected.bounds, atol=105
        )


def test_refusals_of_xyz():
    with pytest.raises(ConfigError, match="expected: 0 to 24"):
        Xyz(31).cut(GRID, MOSAIC)
    with pytest.raises(ConfigError, match="tile matrix set Nothing"):
        Xyz(3, "Nothing").cut(GRID, MOSAIC)
    with pytest.raises(ConfigError, match="a lower zoom"):
        Xyz(24).cut(GRID, MOSAIC)


def test_squares_of_mgrs_cover_the_mosaic():
    names, windows = Mgrs().cut(GRID, MOSAIC)
    assert sorted(names) == ["32TNS", "32TNT"]
    assert (_cover(windows, MOSAIC) == 1).all()


def _layer(path, shapes, crs="EPSG:32632", **columns):
    gpd.GeoDataFrame(columns, geometry=shapes, crs=crs).to_file(path)
    return str(path)


def _box(row, col, height, width):
    left, top = 480_000 + 100 * col, 5_240_000 - 100 * row
    return shapely.box(left, top - 100 * height, left + 100 * width, top)


def test_polygons_on_pixel_edges_are_just_those_pixels(tmp_path):
    shapes = [_box(0, 0, 10, 20), _box(10, 0, 590, 800), _box(-50, -50, 60, 60)]
    layer = Layer(_layer(tmp_path / "t.gpkg", shapes, name=["Zürich", "a/b", "zurich"]))
    names, windows = layer.cut(GRID, whole(GRID))
    assert names.tolist() == ["Zurich", "a-b", "zurich-2"]
    assert windows.tolist() == [[0, 0, 10, 20], [10, 0, 590, 800], [0, 0, 10, 10]]


def test_polygons_in_another_crs_are_the_pixels_they_touch_and_those_elsewhere_are_none(tmp_path):
    shapes = gpd.GeoSeries([_box(120.5, 220, 30, 40), _box(-500, 0, 100, 100), _box(70, 0, 20, 800)], crs=32632)
    layer = Layer(_layer(tmp_path / "t.geojson", shapes.to_crs(4326), 4326, code=[1, 2, 3]), "code")
    names, windows = layer.cut(GRID, MOSAIC)
    assert names.tolist() == ["1"]
    assert windows.tolist() == [[120, 220, 31, 40]]


def test_polygons_without_names_are_numbered(tmp_path):
    names, _ = Layer(_layer(tmp_path / "t.gpkg", [_box(0, 0, 5, 5), _box(5, 5, 5, 5)])).cut(GRID, whole(GRID))
    assert names.tolist() == ["0", "1"]


def test_refusals_of_layers(tmp_path):
    path = _layer(tmp_path / "t.gpkg", [_box(0, 0, 5, 5)], code=[1])
    with pytest.raises(ConfigError, match="no column name"):
        Layer(path, "name").cut(GRID, MOSAIC)
    with pytest.raises(NotFoundError, match="no file of tiles"):
        Layer(str(tmp_path / "none.gpkg")).cut(GRID, MOSAIC)
    (tmp_path / "text.gpkg").write_text("text")
    with pytest.raises(SceneError, match="cannot be read as polygons"):
        Layer(str(tmp_path / "text.gpkg")).cut(GRID, MOSAIC)
    points = _layer(tmp_path / "points.gpkg", [shapely.Point(0, 0)])
    with pytest.raises(SceneError, match="has 0 polygons"):
        Layer(points).cut(GRID, MOSAIC)


@pytest.mark.parametrize(("text", "px"), [("512", 512), ("512px", 512), ("5 km", 50), ("250m", 2), ("1.5", 2)])
def test_sizes(text, px):
    assert parse_size(text, GRID) == px


@pytest.mark.parametrize("text", ["", "big", "-5", "0", "3 miles", "10m"])
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(ConfigError, match="tile-size"):
        parse_size(text, GRID)
