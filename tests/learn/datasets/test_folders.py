from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from changedet.config import DatasetConfig
from changedet.detect.prepare import prepare
from changedet.errors import ConfigError, SceneError
from changedet.grid import Window
from changedet.learn.datasets import dataset_of, load_scene, open_dataset
from changedet.learn.datasets.training import training_scenes
from changedet.read import open_pair
from changedet.read.header import quietly_without_georeference
from changedet.read.radiometry import stretch
from tests.data import texture, write_raster

_RGB = ("B04", "B03", "B02")
_SIZE = (20, 30)


def _picture(path: Path, seed: int = 0, *, bands: int = 3) -> NDArray[np.uint8]:
    """Write a PNG of noise, some of its pixels black, and return it (bands, H, W)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (bands, *_SIZE), dtype=np.uint8)
    pixels[:, :3, :3] = 0
    return _png(path, pixels)


def _png(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    profile = {"driver": "PNG", "height": height, "width": width, "count": count, "dtype": "uint8"}
    with quietly_without_georeference(), rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
    return pixels


def _label(path: Path, value: int = 255) -> NDArray[np.bool_]:
    changed = np.zeros(_SIZE, np.bool_)
    changed[5:9, 10:20] = True
    _png(path, (changed * value).astype(np.uint8)[None])
    return changed


def _scene(root: Path, part: str, name: str, names: tuple[str, str, str], seed: int = 0) -> Any:
    folder = root / part
    before, after = (_picture(folder / sub / f"{name}.png", seed + i) for i, sub in enumerate(names[:2]))
    return before, after, _label(folder / names[2] / f"{name}.png")


@pytest.mark.parametrize(
    ("kind", "names"), [("levir", ("A", "B", "label")), ("s2looking", ("Image1", "Image2", "label"))]
)
def test_pictures_in_split_folders(tmp_path: Path, kind: str, names: tuple[str, str, str]) -> None:
    made = {
        (part, name): _scene(tmp_path, part, name, names, seed)
        for seed, (part, name) in enumerate([("train", "1"), ("train", "2"), ("test", "1")])
    }
    if kind == "s2looking":
        for sub in ("label1", "label2"):
            _label(tmp_path / "train" / sub / "1.png")
    dataset = open_dataset(dataset_of(str(tmp_path), split="train"))
    assert (dataset.name, [source.name for source in dataset.scenes]) == (f"{kind}:train", ["train/1", "train/2"])
    before, after, changed = made["train", "2"]
    scene = load_scene(dataset.scenes[1], _RGB)
    gain, offset = stretch([before.reshape(3, -1) / 255, after.reshape(3, -1) / 255], _RGB)
    np.testing.assert_allclose(scene.before, before / 255 * gain + offset, atol=5e-4)
    np.testing.assert_allclose(scene.after, after / 255 * gain + offset, atol=5e-4)
    assert np.array_equal(scene.changed, changed)
    assert scene.valid.all()  # black is a colour here
    assert len(open_dataset(dataset_of(f"{kind}:{tmp_path}")).scenes) == 3


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_training_sees_what_a_run_feeds_the_network(tmp_path: Path, dtype: str) -> None:
    """Bright 8-bit pictures are stretched, reflectance is not; alike for scenes in memory and on disk."""
    for sub, seed in (("A", 0), ("B", 3)):
        (tmp_path / sub).mkdir()
        image = np.stack([texture(70, 60, seed=seed + band) for band in range(3)])
        stored = (image * 300 + 80 if dtype == "uint8" else image * 10_000).astype(dtype)
        write_raster(tmp_path / sub / "x.tif", stored, names=_RGB)
    (tmp_path / "label").mkdir()
    write_raster(tmp_path / "label" / "x.tif", np.eye(70, 60, dtype=np.uint8))
    dataset = open_dataset(dataset_of(str(tmp_path)))
    window = Window(8, 9, 40, 45)
    with open_pair(tmp_path / "A" / "x.tif", tmp_path / "B" / "x.tif", bands=_RGB) as raw:
        assert raw.is_physical == (dtype == "uint16")
        with raw.corrected(prepare(raw).correction) as pair:
            fed = pair.read(window)
    for most in (10**9, 1000):
        (scene,) = training_scenes(dataset, _RGB, max_bytes=most)
        before, after, _, valid = scene.read(window)
        np.testing.assert_allclose(before, fed.before, atol=5e-4)  # float16 in memory
        np.testing.assert_allclose(after, fed.after, atol=5e-4)
        assert np.array_equal(valid, fed.valid)


def test_a_window_is_part_of_the_whole(tmp_path: Path) -> None:
    _, _, changed = _scene(tmp_path, "", "x", ("A", "B", "label"))
    (source,) = open_dataset(dataset_of(str(tmp_path))).scenes
    with source.open(("B03",)) as opened:
        window = Window(4, 9, 5, 6)
        whole, part = opened.pair.read(Window(0, 0, *_SIZE)), opened.pair.read(window)
        there, known = opened.labels.read(window)
        assert opened.labels.totals() == (40, 560)
    np.testing.assert_array_equal(part.before, whole.before[:, 4:9, 9:15])
    np.testing.assert_array_equal(there, changed[4:9, 9:15])
    assert known.all()


def test_geotiffs_in_generic_folders_with_labels_that_are_unknown_in_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("A", "B", "label"):
        (tmp_path / part).mkdir()
    for part in ("A", "B"):
        pixels = rng.integers(1, 5000, (4, *_SIZE)).astype(np.uint16)
        write_raster(tmp_path / part / "x.tif", pixels, names=["red", "green", "blue", "nir"])
    truth = rng.integers(0, 3, _SIZE).astype(np.uint8)
    write_raster(tmp_path / "label" / "x.tif", truth, nodata=2)
    (source,) = open_dataset(dataset_of(str(tmp_path))).scenes
    scene = load_scene(source, ("B08",))
    assert np.array_equal(scene.valid, truth != 2)
    assert np.array_equal(scene.changed, truth == 1)
    assert source.place().bounds is not None
    assert source.resolution_m() == pytest.approx(10, rel=1e-3)


def test_the_ground_size_of_pictures_is_that_of_the_set_or_as_told(tmp_path: Path) -> None:
    _scene(tmp_path, "train", "1", ("A", "B", "label"))
    assert open_dataset(dataset_of(str(tmp_path))).scenes[0].resolution_m() == 0.5
    config = DatasetConfig(kind="levir", root=tmp_path, resolution_m=0.3)
    assert open_dataset(config).scenes[0].resolution_m() == 0.3


def _whu_tif(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (3, *_SIZE), dtype=np.uint8)
    write_raster(path, pixels, crs="EPSG:2193", photometric="RGB")


def test_both_releases_of_whu(tmp_path: Path) -> None:
    first, later = (
        tmp_path / "first" / "1. The two-period image data",
        tmp_path / "later" / "1. The two-period image data",
    )
    _whu_tif(first / "before" / "before.tif", 0)
    _whu_tif(first / "after" / "after.tif", 1)
    _label_tif(first / "change label" / "change_label.tif", 255)
    for part in ("train", "test"):
        for year in (2012, 2016):
            _whu_tif(later / str(year) / "whole_image" / part / "image" / f"{year}_{part}.tif", year)
        _label_tif(later / "change_label" / part / "change_label.tif", 1)
    whole, splits = (open_dataset(dataset_of(str(tmp_path / name))) for name in ("first", "later"))
    assert [source.name for source in whole.scenes] == ["whole"]
    assert [source.name for source in splits.scenes] == ["test", "train"]
    assert [s.name for s in open_dataset(dataset_of(str(tmp_path / "later"), split="test")).scenes] == ["test"]
    for source in (*whole.scenes, *splits.scenes):
        scene = load_scene(source, _RGB)
        assert scene.changed.sum() == 40
        assert scene.before.shape == (3, *_SIZE)


def _label_tif(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    changed = np.zeros(_SIZE, np.uint8)
    changed[5:9, 10:20] = value
    write_raster(path, changed, crs="EPSG:2193")


def test_equal_pictures_in_two_splits_are_told_by_their_content(tmp_path: Path) -> None:
    names = ("A", "B", "label")
    _scene(tmp_path, "train", "1", names, seed=0)
    _scene(tmp_path, "test", "7", names, seed=1)  # its before is the other's after
    _scene(tmp_path, "test", "8", names, seed=5)
    one, copy, other = (source.place() for source in open_dataset(dataset_of(str(tmp_path))).scenes)
    assert one.shares_pixels_with(copy)
    assert not one.shares_pixels_with(other)


def test_a_scene_without_its_label_is_refused(tmp_path: Path) -> None:
    _scene(tmp_path, "train", "1", ("A", "B", "label"))
    (tmp_path / "train" / "label" / "1.png").unlink()
    with pytest.raises(SceneError, match="1 is not in all of A, B, label"):
        open_dataset(dataset_of(str(tmp_path)))


def test_pictures_of_two_sizes_are_refused(tmp_path: Path) -> None:
    _scene(tmp_path, "train", "1", ("A", "B", "label"))
    _png(tmp_path / "train" / "B" / "1.png", np.zeros((3, 9, 9), np.uint8))
    with pytest.raises(SceneError, match=r"\(20, 30\) px and .* \(9, 9\)"):
        load_scene(open_dataset(dataset_of(str(tmp_path))).scenes[0], _RGB)


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    _scene(tmp_path, "train", "1", ("A", "B", "label"))
    with pytest.raises(ConfigError, match=r"holds no labelled scene \(kind levir, split val"):
        open_dataset(dataset_of(str(tmp_path), split="val"))
