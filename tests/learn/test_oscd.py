import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from changedet.errors import NotFoundError, SceneError
from changedet.learn.oscd import city_folders, read_city, read_labels
from tests.data import write_raster

_CHANGED, _UNCHANGED = 149_190, 6_368_388


def test_the_labels_are_those_of_the_set(oscd: Path) -> None:
    labels = [read_labels(label) for _, label in city_folders(oscd).values()]
    assert len(labels) == 14
    assert sum(int(label.sum()) for label in labels) == _CHANGED
    assert sum(int((~label).sum()) for label in labels) == _UNCHANGED


def test_a_real_city_lies_on_its_labels(oscd: Path) -> None:
    folder, label = city_folders(oscd)["paris"]
    scene = read_city(folder, label, ("B04",))
    truth = read_labels(label)
    assert scene.before.shape == scene.after.shape == (1, *scene.changed.shape)
    # Removing the shift leaves a row or column of the before grid without an after date, no more.
    assert all(0 <= full - kept <= 3 for full, kept in zip(truth.shape, scene.changed.shape, strict=True))
    assert scene.valid.mean() > 0.95
    assert 0.01 < float(np.median(scene.before)) < 0.5


def test_a_city_is_read_as_it_was_written(
    tmp_path: Path, make_oscd: Callable[..., Path], make_scene: Callable[..., object]
) -> None:
    folder, label = city_folders(make_oscd(tmp_path, ("a",), 64))["a"]
    scene, made = read_city(folder, label, ("B08", "B02")), make_scene(64, seed=0)
    assert scene.name == "a"
    np.testing.assert_allclose(scene.before, made.before[[3, 0]], atol=2e-4)
    assert np.array_equal(scene.changed, made.changed)
    assert scene.valid.all()


def test_labels_without_georeference_are_read_silently(tmp_path: Path, make_oscd: Callable[..., Path]) -> None:
    _, label = city_folders(make_oscd(tmp_path, ("a",), 64))["a"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_labels(label).sum() == 120


def test_refuses_labels_of_another_size(tmp_path: Path, make_oscd: Callable[..., Path]) -> None:
    folder, label = city_folders(make_oscd(tmp_path, ("a",), 64))["a"]
    write_raster(label, np.ones((64, 63), np.uint8))
    with pytest.raises(SceneError, match=r"(?s)\(64, 63\) px.*expected: the before grid, \(64, 64\) px"):
        read_city(folder, label, ("B04",))


def test_only_labelled_cities_count(tmp_path: Path, make_oscd: Callable[..., Path]) -> None:
    make_oscd(tmp_path, ("a", "b"), 64)
    (tmp_path / "Set - Train Labels" / "b" / "cm" / "b-cm.tif").unlink()
    assert list(city_folders(tmp_path)) == ["a"]


def test_refuses_a_folder_without_cities(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no OSCD cities"):
        city_folders(tmp_path)
