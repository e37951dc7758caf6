"""From what a user said to a labelled dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

from changedet.config import DatasetConfig, DatasetKind, load_pipeline
from changedet.errors import ConfigError, NotFoundError
from changedet.learn.datasets import folders, oscd, pairs, polygons
from changedet.learn.datasets.labels import ClassColumn, ClassDecoder
from changedet.learn.datasets.scene import LabelledDataset, SceneFiles, SceneSet
from changedet.learn.kinds import Kinds

# Ground size of the pixels (m) of sets whose images do not say: as their papers have it; S2Looking's is 0.5 to 0.8.
_LOCAL_PX = {"levir": 0.5, "s2looking": 0.65, "whu": 0.2, "folders": 1.0}
_LAYOUTS = (
    "oscd ('… - Images' and '… Labels'), levir and folders (A, B, label, under train, val and test or not), s2looking"
    " (Image1, Image2, label), whu, polygons (before.tif, after.tif and one file of polygons), or pairs (without it)"
)


def open_dataset(config: DatasetConfig, *, labelled: bool = True) -> LabelledDataset:
    """Return the scenes that a configuration names; none is opened.

    Args:
        config: of the set.
        labelled: False leaves the labels out, whether there are any or not: no file of them is opened.

    Raises:
        NotFoundError: the folder does not exist.
        ConfigError: it holds no scene of that kind and split, or two of one name; labels are wanted of pairs without,
            or a split of a kind that has none.
    """
    if labelled and config.kind == "pairs":
        raise ConfigError("kind pairs has no labels", expected="a set with labels", remedy="changedet pretrain")
    if config.split and config.kind in ("polygons", "pairs"):
        raise ConfigError(
            f"split {config.split} of kind {config.kind}, which has no splits",
            expected="no split",
            remedy="a folder that holds the scenes of the split alone",
        )
    if not config.root.is_dir():
        raise NotFoundError(f"no folder {config.root}", remedy="check the path; it is taken from the current folder")
    scenes = _finder(config)()
    if not scenes:
        split = f", split {config.split}" if config.split else ""
        wanted = "labelled scene" if labelled else "pair"
        raise ConfigError(f"{config.root} holds no {wanted} (kind {config.kind}{split})", expected=_LAYOUTS)
    _check_names(scenes, config.root)
    if not labelled:
        return SceneSet(config.kind, tuple(replace(scene, labels=None) for scene in scenes), Kinds())
    name = f"{config.kind}:{config.split}" if config.split else config.kind
    kinds = Kinds.of(config)
    if kinds.several:
        column = ClassColumn(config.class_column, kinds.names)
        values = ClassDecoder(config.class_values or tuple(range(1, len(kinds.names) + 1)))
        scenes = [replace(scene, decode=column if scene.decode is None else values) for scene in scenes]
    return SceneSet(name, tuple(scenes), kinds)


def _check_names(scenes: Sequence[SceneFiles], root: Path) -> None:
    """Refuse two scenes of one name: folds and results go by the name, and one would silently stand for both."""
    counted = Counter(scene.name for scene in scenes)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise ConfigError(
            f"{root} holds several scenes named {', '.join(twice)}",
            expected="a name of its own for each",
            remedy="give their folders names that differ, or name one of the folders",
        )


def _finder(config: DatasetConfig) -> Callable[[], list[SceneFiles]]:
    root, split, kind = config.root, config.split, config.kind
    registered = (kind == "oscd") if config.coregister is None else config.coregister
    local_px = config.resolution_m or _LOCAL_PX.get(kind, 1.0)
    if kind == "oscd":
        return partial(oscd.oscd_scenes, root, split, coregister=registered)
    if kind == "pairs":
        return partial(pairs.pair_scenes, root, coregister=registered)
    if kind == "polygons":
        return partial(polygons.polygon_scenes, root, coregister=registered)
    if kind == "whu":
        return partial(folders.whu_scenes, root, split, local_px=local_px, coregister=registered)
    names = folders.S2LOOKING if kind == "s2looking" else folders.AB
    return partial(folders.folder_scenes, root, split, names, local_px=local_px, coregister=registered)


def dataset_of(text: str, *, split: str | None = None) -> DatasetConfig:
    """Return the configuration that a user's words for a dataset stand for.

    Args:
        text: a folder, whose layout is recognised; `kind:folder`; or a pipeline file with a block `dataset`.
        split: over what the words say.

    Raises:
        NotFoundError: there is no such folder or file.
        ConfigError: the layout is not known, or a pipeline file has no block `dataset`.
    """
    kind, separator, rest = text.partition(":")
    if separator and kind in get_args(DatasetKind):
        config = DatasetConfig(kind=kind, root=Path(rest))
    elif Path(text).suffix.lower() in (".yaml", ".yml"):
        found = load_pipeline(text).dataset
        if found is None:
            raise ConfigError(f"{text} has no block dataset", expected="dataset: {kind: …, root: …}")
        config = found
    else:
        config = DatasetConfig(kind=recognise(Path(text)), root=Path(text))
    return config.model_copy(update={"split": split}) if split else config


def recognise(root: Path) -> DatasetKind:
    """Return the kind of the dataset in a folder.

    Raises:
        NotFoundError: no such folder.
        ConfigError: no layout fits.
    """
    if not root.is_dir():
        raise NotFoundError(f"no folder {root}", remedy="check the path; it is taken from the current folder")
    signs: dict[DatasetKind, tuple[str, ...]] = {
        "oscd": ("*Labels/*/cm/*-cm.tif",),
        "s2looking": ("Image1", "*/Image1"),
        "levir": ("train/A", "val/A", "test/A"),
        "folders": ("A",),
        "whu": ("**/before/before.tif", "**/change_label/*/change_label.tif"),
    }
    for kind, patterns in signs.items():
        if any(next(iter(root.glob(pattern)), None) is not None for pattern in patterns):
            return kind
    if polygons.polygon_scenes(root):
        return "polygons"
    raise ConfigError(f"{root} is no dataset of a known layout", expected=_LAYOUTS, remedy="kind:folder")
