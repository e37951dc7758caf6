from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

from changedet.config import DatasetConfig
from changedet.errors import NotFoundError, PairError, SceneError
from changedet.grid import Window
from changedet.learn.datasets import SceneSource, dataset_of, load_scene, open_dataset
from changedet.learn.datasets.labels import PolygonLabels, read_polygons
from tests.data import UTM, geobox, write_raster
from tests.pairs import SAMPLE

_SIZE = (40, 50)
_GRID = geobox(*_SIZE)


def _box(row: float, col: float, height: float, width: float) -> shapely.Polygon:
    """A rectangle given in pixels of the pair's grid."""
    x, y = 500_000 + 10 * col, 5_600_000 - 10 * row
    return shapely.box(x, y - 10 * height, x + 10 * width, y)


def _folder(root: Path, polygons: gpd.GeoDataFrame, name: str = "labels.gpkg") -> Path:
    root.mkdir(exist_ok=True)
    for role in ("before", "after"):
        write_raster(root / f"{role}.tif", np.full((1, *_SIZE), 2000, np.uint16), names=["red"])
    if name.endswith(".parquet"):
        polygons.to_parquet(root / name)
    else:
        polygons.to_file(root / name)
    return root


def _source(folder: Path) -> SceneSource:
    return open_dataset(dataset_of(str(folder))).scenes[0]


@pytest.mark.parametrize("name", ["labels.gpkg", "labels.geojson", "labels.shp", "labels.fgb", "labels.parquet"])
@pytest.mark.parametrize("crs", [UTM, 4326])
def test_polygons_of_any_format_and_crs_cover_their_pixels(tmp_path: Path, name: str, crs: int | str) -> None:
    polygons = gpd.GeoDataFrame(geometry=[_box(3, 5, 4, 6), _box(20.1, 30.1, 5, 5)], crs=UTM)
    scene = load_scene(_source(_folder(tmp_path / "here", polygons.to_crs(crs), name)), ("B04",))
    expected = np.zeros(_SIZE, np.bool_)
    expected[3:7, 5:11] = expected[20:25, 30:35] = True
    assert np.array_equal(scene.changed, expected)
    assert scene.valid.all()


def test_windows_are_parts_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    circles = shapely.buffer(shapely.points(np.array([500_000, 5_599_600]) + rng.random((20, 2)) * (500, 400)), 31)
    labels = PolygonLabels(gpd.GeoDataFrame({"kind": 1}, index=range(20), geometry=circles), None, _GRID)
    whole = labels.read(Window(0, 0, *_SIZE))[0]
    parts = [[labels.read(Window(r, c, 8, 10))[0] for c in range(0, 50, 10)] for r in range(0, 40, 8)]
    assert np.array_equal(np.block(parts), whole)
    assert 0 < whole.sum() < whole.size


def test_an_area_says_where_the_truth_is_known_and_refuted_polygons_are_unchanged(tmp_path: Path) -> None:
    root = tmp_path / "here"
    polygons = gpd.GeoDataFrame({"label": [1, 0]}, geometry=[_box(3, 5, 4, 6), _box(30, 5, 4, 6)], crs=UTM)
    _folder(root, polygons)
    gpd.GeoDataFrame(geometry=[_box(0, 0, 10, 20)], crs=UTM).to_file(root / "labels.gpkg", layer="area")
    scene = load_scene(_source(root), ("B04",))
    known, changed = np.zeros(_SIZE, np.bool_), np.zeros(_SIZE, np.bool_)
    known[:10, :20] = known[30:34, 5:11] = True
    changed[3:7, 5:11] = True
    assert np.array_equal(scene.valid, known)
    assert np.array_equal(scene.changed, changed)
    with _source(root).open(("B04",)) as opened:
        assert opened.labels.totals() == (24, 200)


def test_an_area_whose_outlines_cross_themselves_is_an_area(tmp_path: Path) -> None:
    path = tmp_path / "labels.gpkg"
    gpd.GeoDataFrame(geometry=[_box(3, 5, 4, 6)], crs=UTM).to_file(path, layer="changes")
    # Two hourglasses, each of two triangles that meet in the middle, and that overlap.
    corners = [(0, 0), (20, 20), (20, 0), (0, 20)]
    glasses = [
        shapely.Polygon([(500_000 + 10 * (x + shift), 5_600_000 - 10 * y) for x, y in corners]) for shift in (0, 10)
    ]
    gpd.GeoDataFrame(geometry=glasses, crs=UTM).to_file(path, layer="area")
    _, area = read_polygons(path, _GRID)
    assert area is not None
    assert area.is_valid
    assert area.area == pytest.approx(100 * (400 - 50))


def test_the_sample_folder_is_such_a_set(tmp_path: Path) -> None:
    source = _source(SAMPLE)
    scene = load_scene(source, ("B04", "B08"))
    truth = gpd.read_file(SAMPLE / "labels.gpkg", layer="changes")
    with rasterio.open(SAMPLE / "after.tif") as after:
        seen = (after.read() != 0).any(axis=0)
    assert scene.changed.sum() * 100 == pytest.approx(truth.area.sum())
    assert np.array_equal(scene.valid, seen)


def test_folders_in_a_folder_are_scenes(tmp_path: Path) -> None:
    polygons = gpd.GeoDataFrame(geometry=[_box(3, 5, 4, 6)], crs=UTM)
    for name in ("north", "south"):
        _folder(tmp_path / name, polygons)
    (tmp_path / "notes").mkdir()
    assert [source.name for source in open_dataset(dataset_of(str(tmp_path))).scenes] == ["north", "south"]


def test_polygons_say_their_class_by_name_or_number_and_the_later_one_lies_above(tmp_path: Path) -> None:
    places = [_box(3, 5, 4, 6), _box(5, 5, 4, 6), _box(30, 5, 4, 6), _box(20, 20, 5, 5)]
    expected = np.zeros(_SIZE, np.uint8)
    expected[3:7, 5:11], expected[5:9, 5:11], expected[20:25, 20:25] = 1, 2, 2
    said: list[list[object]] = [["built", "cleared", None, "2"], [1, 2, None, 2]]
    for index, classes in enumerate(said):
        table = gpd.GeoDataFrame({"class": classes, "changed": [1, 1, 0, 1]}, geometry=places, crs=UTM)
        root = _folder(tmp_path / str(index), table)
        config = DatasetConfig(kind="polygons", root=root, classes=("built", "cleared"))
        assert np.array_equal(load_scene(open_dataset(config).scenes[0], ("B04",)).truth, expected)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"class": ["road"]}, r"holds 'road'[\s\S]*built, cleared, or its number"),
        ({"kind": [1]}, "has no column class"),
    ],
)
def test_refuses_polygons_without_a_known_class(tmp_path: Path, table: dict[str, object], message: str) -> None:
    root = _folder(tmp_path / "here", gpd.GeoDataFrame(table, geometry=[_box(3, 5, 4, 6)], crs=UTM))
    config = DatasetConfig(kind="polygons", root=root, classes=("built", "cleared"))
    with pytest.raises(SceneError, match=message):
        load_scene(open_dataset(config).scenes[0], ("B04",))


def test_refusals(tmp_path: Path) -> None:
    grid = _GRID
    with pytest.raises(NotFoundError, match="no file of polygons"):
        read_polygons(tmp_path / "none.gpkg", grid)
    (tmp_path / "text.gpkg").write_text("no such thing")
    with pytest.raises(SceneError, match="is not a vector file"):
        read_polygons(tmp_path / "text.gpkg", grid)
    (tmp_path / "text.parquet").write_text("no such thing")
    with pytest.raises(SceneError, match="is not GeoParquet"):
        read_polygons(tmp_path / "text.parquet", grid)
    gpd.GeoDataFrame({"label": [1, 7]}, geometry=[_box(3, 5, 4, 6)] * 2, crs=UTM).to_file(tmp_path / "seven.gpkg")
    with pytest.raises(SceneError, match=r"column label of .* holds 7[\s\S]*0 or false for a reviewed"):
        read_polygons(tmp_path / "seven.gpkg", grid)
    gpd.GeoDataFrame(geometry=[shapely.Point(500_000, 5_600_000)], crs=UTM).to_file(tmp_path / "point.gpkg")
    with pytest.raises(SceneError, match=r"holds Point[\s\S]*expected: polygons"):
        read_polygons(tmp_path / "point.gpkg", grid)
    gpd.GeoDataFrame(geometry=[_box(3, 5, 4, 6)]).to_file(tmp_path / "nowhere.gpkg")
    with pytest.raises(SceneError, match="has no coordinate system"):
        read_polygons(tmp_path / "nowhere.gpkg", grid)
    gpd.GeoDataFrame(geometry=[_box(3000, 5, 4, 6)], crs=UTM).to_file(tmp_path / "far.gpkg")
    with pytest.raises(PairError, match=r"no polygon of .* lies on the pair"):
        read_polygons(tmp_path / "far.gpkg", grid)
