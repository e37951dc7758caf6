import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from changedet.config import DatasetConfig
from changedet.errors import ConfigError, SceneError
from changedet.learn.datasets import LabelledScene, SceneSource, load_scene, open_dataset
from tests.data import write_raster

_CHANGED, _UNCHANGED = 149_190, 6_368_388
MakeOscd = Callable[..., Path]


def _scenes(root: Path, split: str | None = None) -> dict[str, SceneSource]:
    dataset = open_dataset(DatasetConfig.model_validate({"kind": "oscd", "root": root, "split": split}))
    return {source.name: source for source in dataset.scenes}


def _label(root: Path, city: str) -> Path:
    return root / "Set - Train Labels" / city / "cm" / f"{city}-cm.tif"


def test_the_labels_are_those_of_the_set(oscd: Path) -> None:
    totals = []
    for source in _scenes(oscd, "train").values():
        with source.open(("B04",)) as opened:
            totals.append(opened.labels.totals())
    assert len(totals) == 14
    assert np.sum(totals, axis=0).tolist() == [_CHANGED, _UNCHANGED]


def test_no_two_cities_of_the_set_overlap(oscd: Path) -> None:
    places = [source.place() for source in _scenes(oscd).values()]
    assert [(a.name, b.name) for a in places for b in places if a is not b and a.shares_pixels_with(b)] == []


def test_a_real_city_lies_on_its_labels(oscd: Path) -> None:
    source = _scenes(oscd)["paris"]
    scene = load_scene(source, ("B04",))
    full = source.scenes()[0].geobox.shape
    assert scene.before.shape == scene.after.shape == (1, *scene.changed.shape)
    # Removing the shift leaves a row or column of the before grid without an after date, no more.
    assert all(0 <= whole - kept <= 3 for whole, kept in zip(full, scene.changed.shape, strict=True))
    assert scene.valid.mean() > 0.95
    assert 0.01 < float(np.median(scene.before)) < 0.5
    assert source.resolution_m() == pytest.approx(10, abs=2.5)  # degrees: oblong on the ground


def test_a_city_is_read_as_it_was_written(
    tmp_path: Path, make_oscd: MakeOscd, make_scene: Callable[..., LabelledScene]
) -> None:
    scene = load_scene(_scenes(make_oscd(tmp_path, ("a",), 64))["a"], ("B08", "B02"))
    made = make_scene(64, seed=0)
    assert scene.name == "a"
    np.testing.assert_allclose(scene.before, made.before[[3, 0]], atol=2e-4)
    assert np.array_equal(scene.changed, made.changed)
    assert scene.valid.all()


def test_labels_without_georeference_are_read_silently(tmp_path: Path, make_oscd: MakeOscd) -> None:
    source = _scenes(make_oscd(tmp_path, ("a",), 64))["a"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with source.open(("B04",)) as opened:
            assert opened.labels.totals() == (120, 64 * 64 - 120)


def test_refuses_labels_of_another_size(tmp_path: Path, make_oscd: MakeOscd) -> None:
    root = make_oscd(tmp_path, ("a",), 64)
    write_raster(_label(root, "a"), np.ones((64, 63), np.uint8))
    with pytest.raises(SceneError, match=r"(?s)\(64, 63\) px.*expected: the before grid, \(64, 64\) px"):
        load_scene(_scenes(root)["a"], ("B04",))


def test_only_labelled_cities_count(tmp_path: Path, make_oscd: MakeOscd) -> None:
    root = make_oscd(tmp_path, ("a", "b"), 64)
    _label(root, "b").unlink()
    assert list(_scenes(root)) == ["a"]


def test_the_test_cities_have_their_labels_in_a_folder_of_their_own(tmp_path: Path, make_oscd: MakeOscd) -> None:
    root = make_oscd(tmp_path, ("a", "b"), 64)
    (root / "Set - Test Labels").mkdir()
    _label(root, "b").parents[1].rename(root / "Set - Test Labels" / "b")
    assert (list(_scenes(root, "train")), list(_scenes(root, "test"))) == (["a"], ["b"])
    assert list(_scenes(root)) == ["a", "b"]


def test_refuses_a_folder_without_cities(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no labelled scene \(kind oscd\)"):
        _scenes(tmp_path)
