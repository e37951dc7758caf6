"""Sets in which files of one name, in three folders, are one scene; and the two releases of WHU-CD.

LEVIR-CD: Chen and Shi, "A Spatial-Temporal Attention-Based Method and a New Dataset for Remote Sensing Image Change
Detection", Remote Sensing 2020. S2Looking: Shen et al., Remote Sensing 2021. WHU-CD: Ji, Wei and Lu, "Fully
Convolutional Networks for Multisource Building Extraction", TGRS 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from changedet.errors import SceneError
from changedet.learn.datasets.scene import SceneFiles
from changedet.read.folder import is_raster

SPLITS = ("train", "val", "test")
AB = ("A", "B", "label")
S2LOOKING = ("Image1", "Image2", "label")


def folder_scenes(
    root: Path, split: str | None, names: tuple[str, str, str], *, local_px: float, coregister: bool = False
) -> list[SceneFiles]:
    """Return the scenes of `root`, or of its folders train, val and test, or of one of these.

    Args:
        root: holds the three folders, or folders of splits that hold them.
        split: one of `SPLITS`; None for all there are.
        names: of the folders of before, after and labels.
        local_px: ground size (m) of pixels of images without georeference.
        coregister: remove the residual shift of each pair.

    Raises:
        SceneError: a before image has no after image or no label.
    """
    folders = [root / part for part in SPLITS if split in (None, part) and (root / part / names[0]).is_dir()]
    if split is None and (root / names[0]).is_dir():
        folders = [root]
    scenes = []
    for folder in folders:
        prefix = "" if folder == root else f"{folder.name}/"
        for name, files in _triples(folder, names):
            scenes.append(SceneFiles(prefix + name, *files, coregister=coregister, local_px=local_px))
    return scenes


def _triples(folder: Path, names: tuple[str, str, str]) -> Iterator[tuple[str, tuple[Path, Path, Path]]]:
    """Yield name and files of before, after and label, by name without suffix: labels may have another one."""
    before, after, labels = (_rasters(folder / part) for part in names)
    for name in sorted(before):
        if name not in after or name not in labels:
            raise SceneError(f"{name} is not in all of {', '.join(names)} in {folder}", expected="one file in each")
        yield name, (before[name], after[name], labels[name])


def _rasters(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in filter(is_raster, folder.iterdir())}


def whu_scenes(root: Path, split: str | None, *, local_px: float, coregister: bool = False) -> list[SceneFiles]:
    """Return the scenes of either release of WHU-CD under `root`: one whole scene, or one for train and one for test.

    The first release has `before/before.tif`, `after/after.tif` and `change label/change_label.tif`; the later one
    `2012/whole_image/SPLIT/image/*.tif`, the same under `2016`, and `change_label/SPLIT/change_label.tif`.
    """
    found = [] if split else [_first_release(path.parents[1]) for path in root.glob("**/before/before.tif")]
    for label in root.glob("**/change_label/*/change_label.tif"):
        if split in (None, label.parent.name):
            found.append(_later_release(label.parents[2], label.parent.name))
    scenes = ((name, tuple(_only(pattern) for pattern in patterns)) for name, patterns in sorted(found))
    return [
        SceneFiles(name, before, after, label, coregister=coregister, local_px=local_px)
        for name, (before, after, label) in scenes
    ]


def _first_release(base: Path) -> tuple[str, tuple[Path, Path, Path]]:
    """Return the name of its only scene, and patterns of before, after and label."""
    return "whole", (base / "before" / "before.tif", base / "after" / "after.tif", base / "change?label" / "*.tif")


def _later_release(base: Path, part: str) -> tuple[str, tuple[Path, Path, Path]]:
    before, after = (base / year / "whole_image" / part / "image" / "*.tif" for year in ("2012", "2016"))
    return part, (before, after, base / "change_label" / part / "change_label.tif")


def _only(pattern: Path) -> Path:
    """Return the one file that a pattern in its last two parts fits.

    Raises:
        SceneError: none or several do.
    """
    folder = pattern.parents[1]
    files = list(folder.glob(str(pattern.relative_to(folder))))
    if len(files) != 1:
        raise SceneError(f"{len(files)} files {pattern}", expected="one")
    return files[0]
