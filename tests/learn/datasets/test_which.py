from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from changedet.config import DatasetConfig, load_pipeline
from changedet.errors import ConfigError, NotFoundError
from changedet.grid import Window
from changedet.learn.datasets import (
    TrainingScene,
    dataset_of,
    open_dataset,
    refuse_overlap,
    scene,
    training,
    training_scenes,
)
from changedet.learn.datasets.labels import ClassColumn, ClassDecoder
from changedet.learn.datasets.training import DiskScene, LabelledScene
from changedet.learn.kinds import Kinds
from changedet.learn.sample import ChipSampler
from changedet.network.card import Place
from tests.learn.conftest import BANDS

MakeOscd = Callable[..., Path]


def test_a_folder_is_recognised_and_a_kind_can_be_said(tmp_path: Path, make_oscd: MakeOscd) -> None:
    root = make_oscd(tmp_path, ("a",), 64)
    for text in (str(root), f"oscd:{root}"):
        assert dataset_of(text).kind == "oscd"
        assert dataset_of(text).root == root
    assert dataset_of(str(root), split="train").split == "train"


def test_a_pipeline_file_names_a_dataset(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(f"dataset:\n  kind: levir\n  root: {tmp_path}\n  split: test\n")
    config = dataset_of(str(file))
    assert (config.kind, config.root, config.split) == ("levir", tmp_path, "test")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("kind: levvir", r"line 2: dataset\.kind"),
        ("kind: levir", r"line 1: dataset\.root"),
        ("colour: red", r"line 2: dataset\.colour: unknown key"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(f"dataset:\n  {line}\n")
    with pytest.raises(ConfigError, match=message):
        load_pipeline(file)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        dataset_of(str(tmp_path / "nothing"))
    with pytest.raises(NotFoundError, match="no folder"):
        open_dataset(dataset_of(f"levir:{tmp_path / 'nothing'}"))
    with pytest.raises(ConfigError, match=r"no dataset of a known layout[\s\S]*polygons \(before\.tif"):
        dataset_of(str(tmp_path))
    file = tmp_path / "run.yaml"
    file.write_text("run: {before: a.tif, after: b.tif, out: out}")
    with pytest.raises(ConfigError, match="has no block dataset"):
        dataset_of(str(file))


@pytest.mark.parametrize("kind", ["polygons", "pairs"])
def test_refuses_a_split_of_a_kind_that_has_none(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"split test of kind {kind}, which has no splits"):
        open_dataset(dataset_of(f"{kind}:{tmp_path}", split="test"), labelled=False)


def test_refuses_two_scenes_of_one_name(tmp_path: Path) -> None:
    root = tmp_path / "site"
    for folder in (root, root / "site"):
        folder.mkdir()
        for name in ("before.tif", "after.tif", "labels.gpkg"):
            (folder / name).touch()
    with pytest.raises(ConfigError, match="several scenes named site"):
        open_dataset(dataset_of(f"polygons:{root}"))


_HERE = Place(name="here", bounds=(10, 50, 10.1, 50.1))


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        (Place(name="there", bounds=(10.05, 50.05, 10.2, 50.2)), True),
        (Place(name="there", bounds=(10.1, 50, 10.2, 50.1)), False),  # edges touch
        (Place(name="there", bounds=(10.05, 51, 10.2, 51.2)), False),
        (Place(name="there", digests=("ab",)), False),
    ],
)
def test_learning_and_testing_on_the_same_ground_is_refused(other: Place, shared: bool) -> None:
    if not shared:
        refuse_overlap([_HERE], [other])
        return
    with pytest.raises(ConfigError, match=r"show the same pixels: here \(learned\) and there \(tested\)"):
        refuse_overlap([_HERE], [other])


def _both(root: Path, room: int = 50_000) -> tuple[list[TrainingScene], list[TrainingScene]]:
    """The scenes of a set in memory, and on disk with `room` for the cache, which by default holds no block."""
    dataset = open_dataset(dataset_of(str(root)))
    memory, disk = (training_scenes(dataset, BANDS, max_bytes=size) for size in (10**9, room))
    assert all(isinstance(scene, LabelledScene) for scene in memory)
    assert all(isinstance(scene, DiskScene) for scene in disk)
    return memory, disk


def test_a_scene_on_disk_is_read_as_the_same_in_memory(tmp_path: Path, make_oscd: MakeOscd) -> None:
    """Window by window over the borders of blocks, whole, and with some of the bands."""
    (memory,), (disk,) = _both(make_oscd(tmp_path, ("a",), 300), room=1_500_000)
    assert (disk.shape, disk.channels, disk.name) == (memory.shape, memory.channels, memory.name)
    assert np.array_equal(disk.changed_pixels(), memory.changed_pixels())
    some = disk.select([3, 0]), memory.select([3, 0])
    for one, other in ((disk, memory), some):
        for window in (Window(5, 7, 20, 30), Window(250, 200, 20, 90), Window(0, 0, 300, 300)):
            for read, expected in zip(one.read(window), other.read(window), strict=True):
                assert read.dtype == expected.dtype
                assert np.array_equal(read, expected)


def test_a_training_draws_the_same_chips_from_disk(tmp_path: Path, make_oscd: MakeOscd) -> None:
    scenes = _both(make_oscd(tmp_path, ("a", "b"), 64))
    one, other = (ChipSampler(s, size=32, batch=4, changed_share=0.5, seed=1).draw(0) for s in scenes)
    for name in ("before", "after", "target", "valid"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_an_even_selection_of_many_changed_pixels_is_kept(
    tmp_path: Path, make_oscd: MakeOscd, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = _both(make_oscd(tmp_path, ("a",), 64))[0][0].changed_pixels()
    monkeypatch.setattr(training, "_MOST_CHANGED", 50)
    (memory,), (disk,) = _both(tmp_path)
    assert (len(every), len(disk.changed_pixels())) == (120, 40)
    assert np.array_equal(memory.changed_pixels(), every[::3])
    assert np.array_equal(disk.changed_pixels(), every[::3])


def test_a_shift_is_measured_once_however_often_a_scene_is_read(
    tmp_path: Path, make_oscd: MakeOscd, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[object] = []
    estimate = scene.estimate_shift
    monkeypatch.setattr(scene, "estimate_shift", lambda pair: measured.append(pair) or estimate(pair))
    _, (disk,) = _both(make_oscd(tmp_path, ("a",), 300))
    assert isinstance(disk, DiskScene)
    for row in range(0, 200, 20):
        disk.read(Window(row, row, 64, 64))
    assert len(measured) == 2, "once in memory, once for all that is read from disk"


def _decoded(config: DatasetConfig) -> object:
    return open_dataset(config).scenes[0].decode  # type: ignore[attr-defined]


def test_classes_are_values_of_rasters_or_entries_of_a_column(tmp_path: Path) -> None:
    for name in ("A", "B", "label"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "1.png").touch()
    (tmp_path / "pair").mkdir()
    for name in ("before.tif", "after.tif", "changes.gpkg"):
        (tmp_path / "pair" / name).touch()
    pictures = DatasetConfig(kind="folders", root=tmp_path / "pictures", classes=("built", "cleared"))
    assert _decoded(pictures) == ClassDecoder((1, 2))
    assert _decoded(pictures.model_copy(update={"class_values": (3, 7)})) == ClassDecoder((3, 7))
    pair = DatasetConfig(kind="polygons", root=tmp_path / "pair", covers=("field", "house"), class_column="what")
    assert _decoded(pair) == ClassColumn("what", ("field to house", "house to field"))
    assert open_dataset(pair).kinds == Kinds(("field to house", "house to field"), ("field", "house"))
    assert open_dataset(DatasetConfig(kind="polygons", root=tmp_path / "pair")).kinds.names == ("change",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["a", "b"], "covers": ["a", "b"]}, "give one"),
        ({"classes": ["a"]}, "tells nothing apart"),
        ({"covers": ["a"]}, "tells nothing apart"),
        ({"classes": ["a", "a"]}, "holds one twice"),
        ({"covers": ["a", "b", "c"], "class_values": [1, 2]}, "expected 6"),
        ({"classes": ["a", "b"], "kind": "oscd"}, "no kinds of change"),
    ],
)
def test_refuses_classes_that_do_not_fit(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DatasetConfig.model_validate({"kind": "folders", "root": ".", **changes})
