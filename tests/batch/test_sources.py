import json

import numpy as np
import pytest

from changedet.batch.sources import are_identical, find_pairs
from changedet.config import RunConfig
from changedet.detect.stitch import silent
from changedet.errors import ConfigError, PairError
from tests.data import NORTH_UP, texture, write_raster

RGB = ("B04", "B03", "B02")


def _scene(path, *, seed=0, col=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.stack([texture(20, 30, seed=seed + band) for band in range(3)])
    stored = np.rint(image * 10_000).astype(np.uint16)
    return write_raster(path, stored, transform=NORTH_UP * NORTH_UP.translation(col, 0), **{"names": RGB, **options})


def _found(before, after, *match, **options):
    pairs, unmatched = find_pairs(str(before), str(after), match, RunConfig(**options), silent)
    return {pair.name: pair for pair in pairs}, {entry.source: entry.why for entry in unmatched}


def test_two_scenes_are_one_pair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _scene(tmp_path / "b.tif", tags={"ACQUISITION_DATE": "2018-01-01"})
    _scene(tmp_path / "a.tif")
    pairs, unmatched = _found("b.tif", "a.tif")
    (pair,) = pairs.values()
    assert pair.sources == (str(tmp_path / "b.tif"), str(tmp_path / "a.tif"))
    assert pair.dates == ("2018-01-01", None)
    assert not unmatched


def test_folders_match_by_equal_names_and_tell_what_has_no_partner(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    for name in ("t1.tif", "t2.tif", "t3.tif", "text.txt"):
        _scene(before / name)
    for name in ("t2.tif", "t3.tif", "t4.tif"):
        _scene(after / name)
    pairs, unmatched = _found(before, after)
    assert list(pairs) == ["t2", "t3"]
    assert pairs["t2"].sources == (str(before / "t2.tif"), str(after / "t2.tif"))
    assert unmatched == {str(before / "t1.tif"): "there is no t1 after", str(after / "t4.tif"): "there is no t4 before"}


def test_a_pattern_says_which_part_of_the_names_is_the_same_and_which_the_date(tmp_path):
    for name in ("32TQM_20180328_v1.tif", "32TQN_20180328_v1.tif", "odd.tif", "32TQN_20180401_v2.tif"):
        _scene(tmp_path / "s" / name)
    for name in ("32TQM_x_2020-04-01.tif", "32TQN_x_2020-04-02.tif"):
        _scene(tmp_path / "s2" / name)
    pairs, unmatched = _found(tmp_path / "s", tmp_path / "s2", "{}_{date}_v?.tif", "{}_*_{date}.tif")
    assert {name: pair.dates for name, pair in pairs.items()} == {
        "32TQM": ("2018-03-28", "2020-04-01"),
        "32TQN": ("2018-03-28", "2020-04-02"),
    }
    assert unmatched == {
        str(tmp_path / "s" / "odd.tif"): "its name does not fit {}_{date}_v?.tif",
        str(tmp_path / "s" / "32TQN_20180401_v2.tif"): "there is another of 32TQN before: "
        + str(tmp_path / "s" / "32TQN_20180328_v1.tif"),
    }


def test_parts_of_a_pattern_may_stand_side_by_side_and_beside_brackets(tmp_path):
    for name in ("20180328[a]_1.tif", "20200401[a]_1.tif"):
        _scene(tmp_path / name[:4] / name)
    pairs, unmatched = _found(tmp_path / "2018", tmp_path / "2020", "{date}[a]*{}.tif")
    assert {name: pair.dates for name, pair in pairs.items()} == {"_1": ("2018-03-28", "2020-04-01")}
    assert not unmatched


def test_scenes_may_be_folders_below_the_two(tmp_path):
    for city in ("rome", "oslo"):
        for date in ("imgs_1", "imgs_2"):
            for band in RGB:
                folder = tmp_path / city / date
                folder.mkdir(parents=True, exist_ok=True)
                write_raster(folder / f"{band}.tif", np.ones((9, 9), np.uint16))
        (tmp_path / city / "dates.txt").write_text("date_1: 20160101\ndate_2: 20170101\n")
    pairs, unmatched = _found(tmp_path, tmp_path, "{}/imgs_1", "{}/imgs_2")
    assert list(pairs) == ["oslo", "rome"]
    assert pairs["oslo"].dates == ("2016-01-01", "2017-01-01")
    assert not unmatched
    # A folder of band files is one scene, unless a pattern says that it holds several.
    (pair,) = _found(tmp_path / "rome" / "imgs_1", tmp_path / "rome" / "imgs_2")[0].values()
    assert pair.before.names == ("B02", "B03", "B04")


def test_what_cannot_be_opened_or_compared_is_left_out_with_the_reason(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    for name in ("good.tif", "apart.tif", "bands.tif", "broken.tif"):
        _scene(before / name)
    _scene(after / "good.tif")
    _scene(after / "apart.tif", col=500)
    _scene(after / "bands.tif", names=("B08", "B11", "B12"))
    (after / "broken.tif").write_bytes(b"II*\0 nothing more")
    pairs, unmatched = _found(before, after)
    assert list(pairs) == ["good"]
    why = {source.rpartition("/")[2]: reason for source, reason in unmatched.items()}
    assert "do not overlap" in why["apart.tif"]
    assert "expected: the same bands at both dates" in why["bands.tif"]
    assert "cannot be opened as a raster" in why["broken.tif"]
    assert not any("try:" in reason for reason in why.values())


def _items(tmp_path, name, items):
    features = []
    for identity, properties in items.items():
        _scene(tmp_path / f"{identity}.tif")
        assets = {"image": {"href": f"{identity}.tif", "bands": [{"name": name} for name in RGB]}}
        features.append({"type": "Feature", "id": identity, "properties": properties, "assets": assets})
    (tmp_path / name).write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return tmp_path / name


def test_item_collections_match_by_place_and_take_the_clearest(tmp_path):
    day = {"datetime": "2018-03-28T10:00:00Z"}
    before = _items(
        tmp_path,
        "before.json",
        {
            "b1": {"grid:code": "MGRS-32TQM", "eo:cloud_cover": 40, **day},
            "b2": {"grid:code": "MGRS-32TQM", "eo:cloud_cover": 3, **day},
            "b3": {"landsat:wrs_path": "191", "landsat:wrs_row": "031"},
            "b4": {"grid:code": "MGRS-32TQN"},
        },
    )
    after = _items(
        tmp_path,
        "after.json",
        {"a1": {"s2:mgrs_tile": "32TQM"}, "a3": {"landsat:wrs_path": "191", "landsat:wrs_row": "031"}},
    )
    pairs, unmatched = _found(before, after)
    assert {name: pair.sources for name, pair in pairs.items()} == {
        "191-031": (f"stac:{before}#b3", f"stac:{after}#a3"),
        "32TQM": (f"stac:{before}#b2", f"stac:{after}#a1"),
    }
    assert pairs["32TQM"].dates == ("2018-03-28", None)
    assert unmatched == {
        f"stac:{before}#b1": f"there is another of 32TQM before: stac:{before}#b2",
        f"stac:{before}#b4": "there is no 32TQN after",
    }


def test_ids_of_items_may_match_by_a_pattern(tmp_path):
    before = _items(tmp_path, "before.json", {"x_2018": {}, "y_2018": {}})
    after = _items(tmp_path, "after.json", {"x_2020": {}, "other": {}})
    pairs, unmatched = _found(before, after, "{}_20??")
    assert list(pairs) == ["x"]
    assert set(unmatched) == {f"{after}#other", f"stac:{before}#y_2018"}


def test_refusals(tmp_path):
    _scene(tmp_path / "b" / "one.tif")
    _scene(tmp_path / "a" / "two.tif")
    with pytest.raises(PairError, match="there is no one after"):
        _found(tmp_path / "b", tmp_path / "a")
    with pytest.raises(ConfigError, match="two folders, or two scenes"):
        _found(tmp_path / "b", tmp_path / "a" / "two.tif")
    with pytest.raises(ConfigError, match="one pattern for both dates"):
        _found(tmp_path / "b", tmp_path / "a", "{}", "{}", "{}")
    with pytest.raises(ConfigError, match=r"\{\} for the part"):
        _found(tmp_path / "b", tmp_path / "a", "*.tif")
    with pytest.raises(ConfigError, match=r"expected: one \{date\}"):
        _found(tmp_path / "b", tmp_path / "a", "{}_{date}_{date}.tif")
    with pytest.raises(ConfigError, match="names as they are in the folders"):
        _found(tmp_path / "b", tmp_path / "a", f"{tmp_path}/{{}}.tif")


def test_only_files_of_the_same_bytes_are_identical(tmp_path):
    _scene(tmp_path / "b" / "same.tif")
    _scene(tmp_path / "b" / "other.tif")
    _scene(tmp_path / "a" / "other.tif", seed=9)
    (tmp_path / "a" / "same.tif").write_bytes((tmp_path / "b" / "same.tif").read_bytes())
    pairs, _ = _found(tmp_path / "b", tmp_path / "a")
    assert {name: are_identical(pair) for name, pair in pairs.items()} == {"other": False, "same": True}
    (pair,) = _found(tmp_path / "b" / "same.tif", tmp_path / "b" / "same.tif")[0].values()
    assert are_identical(pair)
