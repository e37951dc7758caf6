from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from changedet.config import load_pipeline
from changedet.errors import ConfigError, NotFoundError
from changedet.grid import Window
from changedet.learn.datasets import dataset_of, open_dataset, refuse_overlap
from changedet.learn.datasets.scene import DiskScene, LabelledScene, training_scenes
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


def test_a_scene_on_disk_is_read_as_the_same_in_memory(tmp_path: Path, make_oscd: MakeOscd) -> None:
    dataset = open_dataset(dataset_of(str(make_oscd(tmp_path, ("a", "b"), 64))))
    (memory, _), (disk, _) = (training_scenes(dataset, BANDS, max_bytes=size) for size in (10**9, 1000))
    assert isinstance(memory, LabelledScene)
    assert isinstance(disk, DiskScene)
    assert (disk.shape, disk.channels, disk.name) == (memory.shape, memory.channels, memory.name)
    assert np.array_equal(disk.changed_pixels(), memory.changed_pixels())
    for one, other in zip(disk.read(Window(5, 7, 20, 30)), memory.read(Window(5, 7, 20, 30)), strict=True):
        np.testing.assert_allclose(one, other, atol=5e-4)


def test_a_training_draws_the_same_chips_from_disk(tmp_path: Path, make_oscd: MakeOscd) -> None:
    dataset = open_dataset(dataset_of(str(make_oscd(tmp_path, ("a", "b"), 64))))
    one, other = (
        ChipSampler(scenes, size=32, batch=4, changed_share=0.5, seed=1).draw(0)
        for scenes in (training_scenes(dataset, BANDS, max_bytes=size) for size in (10**9, 1000))
    )
    torch.testing.assert_close(one.before, other.before, atol=5e-4, rtol=0)
    assert torch.equal(one.target, other.target)
    assert torch.equal(one.valid, other.valid)


def test_a_scene_on_disk_keeps_an_even_selection_of_its_changed_pixels(tmp_path: Path, make_oscd: MakeOscd) -> None:
    (source,) = open_dataset(dataset_of(str(make_oscd(tmp_path, ("a",), 64)))).scenes
    every, some = DiskScene(source, BANDS).changed_pixels(), DiskScene(source, BANDS, most=50).changed_pixels()
    assert (len(every), len(some)) == (120, 40)
    assert np.array_equal(some, every[::3])
