import numpy as np
import pytest
from affine import Affine

from changedet.batch.groups import Group, group_pairs, place_on_grid
from changedet.batch.sources import Pair, Unmatched
from changedet.errors import PairError
from changedet.grid import Window
from changedet.read.scene import Band, Scene
from changedet.read.target import GridOptions, target_grid
from tests.data import UTM, geobox


def _pair(name, *, row=0, col=0, size=10, dates=("2018-01-01", "2020-01-01"), nodata=None, after=None, **grid):
    own = geobox(size, size, row=row, col=col, **grid)
    scenes = [
        Scene(name, (Band("B04", f"{name}{date}.tif", 1, box, "uint16", nodata, False, 1.0, 0.0),), date)
        for date, box in zip(dates, (own, after or own), strict=True)
    ]
    return Pair(name, *scenes, (f"{name}-b.tif", f"{name}-a.tif"))


def _names(groups):
    return [[pair.name for pair in group.pairs] for group in groups]


def test_pairs_that_touch_and_agree_are_one_mosaic():
    pairs = [
        _pair("a"),
        _pair("b", col=10),
        _pair("c", row=10, col=20),  # touches b at a corner
        _pair("far", row=50),
        _pair("later", row=10, dates=("2018-01-01", "2021-01-01")),
        _pair("undated", row=10, dates=(None, None)),
        _pair("tagged", col=-10, nodata=0),
        _pair("off", row=-10, transform=Affine(10, 0, 500_005, 0, -10, 5_600_000)),
        _pair("zone", crs="EPSG:32632"),
    ]
    groups = group_pairs(pairs, apart=False)
    assert _names(groups) == [["a", "b", "c"], *([pair.name] for pair in pairs[3:])]
    assert [group.name for group in groups] == ["mosaic", *(pair.name for pair in pairs[3:])]
    assert groups[0].grids == (geobox(20, 30), geobox(20, 30))
    assert _names(group_pairs(pairs, apart=True)) == [[pair.name] for pair in pairs]


def test_scenes_whose_no_data_is_nan_are_one_mosaic():
    # Each file brings a NaN of its own.
    groups = group_pairs([_pair("a", nodata=float("nan")), _pair("b", col=10, nodata=float("nan"))], apart=False)
    assert _names(groups) == [["a", "b"]]


def test_the_grid_of_one_mosaic_is_that_of_a_run():
    before, after = geobox(10, 10), geobox(10, 10, row=2.3, col=-3)
    group = Group("a", (_pair("a", after=after),))
    options = GridOptions(bounds=(500_000, 5_599_930, 500_060, 5_599_990))
    grid, (placed,), left = place_on_grid([group], options, refuse_warps=False)
    assert grid == target_grid(before, after, options)
    assert placed.window == Window(0, 0, *grid.shape)
    assert not placed.warped
    assert not left


def test_the_grid_of_several_holds_all_in_the_pixels_that_most_have():
    groups = group_pairs(
        [_pair("odd", row=3, col=3, size=5, crs="EPSG:32632"), _pair("a", row=5, col=40), _pair("b", row=-8, col=60)],
        apart=False,
    )
    grid, placed, left = place_on_grid(groups[1:], GridOptions(), refuse_warps=False)
    assert grid == geobox(23, 30, row=-8, col=40)
    assert [place.window for place in placed] == [Window(13, 0, 10, 10), Window(0, 20, 10, 10)]
    assert not left


def test_another_crs_is_warped_or_refused_as_asked():
    # Two zones meet at 12° E; each grid is given in its own.
    home = _pair("home", size=100, transform=Affine(10, 0, 300_000, 0, -10, 5_600_000), crs="EPSG:32633")
    more = _pair("more", size=100, row=300, transform=Affine(10, 0, 300_000, 0, -10, 5_600_000), crs="EPSG:32633")
    away = _pair("away", size=100, transform=Affine(10, 0, 720_000, 0, -10, 5_600_000), crs="EPSG:32632")
    groups = group_pairs([home, more, away], apart=False)
    grid, placed, left = place_on_grid(groups, GridOptions(), refuse_warps=False)
    assert str(grid.crs) == "EPSG:32633"
    assert [(place.group.name, place.warped) for place in placed] == [("home", False), ("more", False), ("away", True)]
    assert placed[2].window.intersect(Window(0, 0, *grid.shape)) == placed[2].window
    assert not left
    _, placed, left = place_on_grid(groups, GridOptions(), refuse_warps=True)
    assert [place.group.name for place in placed] == ["home", "more"]
    assert left == [Unmatched("away-b.tif and away-a.tif", left[0].why)]
    assert "10 units of EPSG:32632 and not 10 units of EPSG:32633" in left[0].why


def test_ground_that_the_crs_of_the_batch_does_not_suit_is_left_out():
    pole = {"transform": Affine(1e-3, 0, 10, 0, -1e-3, 70), "crs": "EPSG:4326"}
    pairs = [_pair(name, col=col, size=100, **pole) for name, col in (("a", 0), ("b", 500))]
    equator = _pair("far", size=100, transform=Affine(1e-3, 0, 10, 0, -1e-3, 0), crs="EPSG:4326")
    groups = group_pairs([*pairs, equator], apart=False)
    assert not place_on_grid(groups, GridOptions(), refuse_warps=True)[2]  # one lattice: nothing is stretched
    other = _pair("utm", size=100, transform=Affine(111, 0, 500_000, 0, -111, 7_760_000))
    _, _, (left,) = place_on_grid(group_pairs([*pairs, other], apart=False), GridOptions(), refuse_warps=False)
    assert "its pixels of 111 x 111 m would become 112 x 38" in left.why


def test_bounds_cut_mosaics_and_leave_out_those_outside():
    groups = group_pairs([_pair("a"), _pair("b", row=50), _pair("c", row=100)], apart=False)
    options = GridOptions(bounds=(500_000, 5_599_450, 500_070, 5_599_950))
    grid, placed, left = place_on_grid(groups, options, refuse_warps=False)
    assert grid == geobox(50, 7, row=5)
    assert [(place.group.name, place.window) for place in placed] == [
        ("a", Window(0, 0, 5, 7)),
        ("b", Window(45, 0, 5, 7)),
    ]
    assert [entry.why for entry in left] == ["it lies outside the grid of the batch"]
    with pytest.raises(PairError, match="no mosaic has a place"):
        place_on_grid(groups, GridOptions(like=geobox(5, 5, row=500)), refuse_warps=False)


def test_many_pairs_are_grouped_at_once():
    rng = np.random.default_rng(0)
    order = rng.permutation(900)
    pairs = [_pair(f"t{i}", row=int(i // 30) * 10, col=int(i % 30) * 10) for i in order]
    (group,) = group_pairs(pairs, apart=False)
    assert group.grids[0] == geobox(300, 300)
    assert [pair.name for pair in group.pairs] == [pair.name for pair in pairs]
    assert str(group.grids[0].crs) == UTM
