from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from scipy import ndimage

from changedet.config import NEUTRAL_REFLECTANCE, RunConfig
from changedet.errors import PairError
from changedet.learn.reviewed import MARGIN_PX, ReviewedPair, review
from changedet.network.card import Card
from changedet.network.shipped import read_card
from changedet.read import open_scene
from tests.data import UTM, texture, write_raster
from tests.pairs import tiny_model

_SIZE = (400, 420)


def _box(row: int, col: int, height: int = 8, width: int = 10) -> shapely.Polygon:
    x, y = 500_000 + 10 * col, 5_600_000 - 10 * row
    return shapely.box(x, y - 10 * height, x + 10 * width, y)


_PLACES = [(row, col) for row in (100, 160, 220, 280) for col in (110, 180, 260)]


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return read_card(tiny_model(tmp_path / "tiny.safetensors", bands=("B04", "B08", "B12"), optional_bands=("B12",)))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    image = np.stack([texture(*_SIZE, seed=seed) for seed in (0, 1)]) * 10_000
    paths = [tmp_path / f"{role}.tif" for role in ("before", "after")]
    for path in paths:
        write_raster(path, image.astype(np.uint16), names=["red", "nir"])
    return paths[0], paths[1]


def _reviewed(
    pair: tuple[Path, Path],
    card: Card,
    polygons: gpd.GeoDataFrame,
    *,
    area: shapely.Polygon | None = None,
    share: float = 0.25,
    seed: int = 0,
) -> ReviewedPair:
    labels = pair[0].parent / "labels.gpkg"
    labels.unlink(missing_ok=True)
    polygons.to_file(labels, layer="changes")
    if area is not None:
        gpd.GeoDataFrame(geometry=[area], crs=UTM).to_file(labels, layer="reviewed")
    scenes = open_scene(pair[0]), open_scene(pair[1])
    return review(scenes, labels, card, RunConfig(), held_out_share=share, seed=seed)[0]


def _changes(places: list[tuple[int, int]] = _PLACES) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(geometry=[_box(*place) for place in places], crs=UTM)


@pytest.mark.parametrize("seed", range(4))
def test_whole_polygons_are_held_out_and_nothing_is_on_both_sides(
    pair: tuple[Path, Path], card: Card, seed: int
) -> None:
    reviewed = _reviewed(pair, card, _changes(), seed=seed)
    total, held = reviewed.polygons
    assert total == 12
    assert 3 <= held <= 5  # a quarter, and what shares its block
    labels, _ = ndimage.label(reviewed.scene.changed)
    sides = [set(np.unique(labels[mask])) - {0} for mask in (reviewed.scene.valid, reviewed.held_out)]
    assert (len(sides[0]), len(sides[1])) == (12 - held, held)
    assert not sides[0] & sides[1]
    distance = ndimage.distance_transform_cdt(~reviewed.held_out, "taxicab")
    assert distance[reviewed.scene.valid].min() > 8
    # Unchanged ground is held out with them, or false alarms would cost nothing.
    assert (reviewed.held_out & ~reviewed.scene.changed).sum() > 1000


def test_polygons_of_other_scenes_in_the_file_change_nothing(pair: tuple[Path, Path], card: Card) -> None:
    alone = _reviewed(pair, card, _changes())
    among = _reviewed(pair, card, _changes([(90_000, 0), *_PLACES, (0, 90_000)]))
    assert among.polygons == alone.polygons
    np.testing.assert_array_equal(among.scene.valid, alone.scene.valid)
    np.testing.assert_array_equal(among.held_out, alone.held_out)


def test_the_split_is_seeded(pair: tuple[Path, Path], card: Card) -> None:
    one, same, other = (_reviewed(pair, card, _changes(), seed=seed).held_out for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(("places", "share"), [(_PLACES[:3], 0.25), (_PLACES, 0.0)])
def test_nothing_is_held_out_of_few_polygons_or_where_none_shall_be(
    pair: tuple[Path, Path], card: Card, places: list[tuple[int, int]], share: float
) -> None:
    reviewed = _reviewed(pair, card, _changes(places), share=share)
    assert reviewed.polygons == (len(places), 0)
    assert not reviewed.held_out.any()
    assert (reviewed.scene.changed & reviewed.scene.valid).sum() == 80 * len(places)


def test_without_a_layer_the_polygons_bounds_and_a_margin_are_reviewed(pair: tuple[Path, Path], card: Card) -> None:
    reviewed = _reviewed(pair, card, _changes(), share=0)
    rows, cols = np.nonzero(reviewed.scene.valid)
    height, width = 280 + 8 - 100 + 2 * MARGIN_PX, 260 + 10 - 110 + 2 * MARGIN_PX
    assert (np.ptp(rows) + 1, np.ptp(cols) + 1) == (height, width)
    assert len(rows) == height * width


def test_a_layer_says_what_was_reviewed_and_false_alarms_are_known(pair: tuple[Path, Path], card: Card) -> None:
    polygons = gpd.GeoDataFrame(
        {"changed": [True, True, False]}, geometry=[_box(100, 110), _box(120, 150), _box(300, 300)], crs=UTM
    )
    reviewed = _reviewed(pair, card, polygons, area=_box(90, 100, 60, 80))
    assert reviewed.polygons == (2, 0)
    assert reviewed.scene.valid.sum() == 60 * 80 + 80
    assert reviewed.refuted.sum() == 80
    assert not (reviewed.refuted & reviewed.scene.changed).any()


def test_an_optional_band_that_is_missing_is_neutral(pair: tuple[Path, Path], card: Card) -> None:
    scene = _reviewed(pair, card, _changes()).scene
    assert scene.before.shape[0] == 3
    assert (scene.before[2] == np.float16(NEUTRAL_REFLECTANCE)).all()
    assert scene.before[:2].std() > 0.01


def test_refuses_polygons_without_change(pair: tuple[Path, Path], card: Card) -> None:
    polygons = gpd.GeoDataFrame({"label": [0]}, geometry=[_box(100, 110)], crs=UTM)
    with pytest.raises(PairError, match="no polygon of change in"):
        _reviewed(pair, card, polygons)
