"""Pairs without labels, to learn from by themselves: folders of two dates."""

from __future__ import annotations

from pathlib import Path

from changedet.learn.datasets.scene import SceneFiles
from changedet.read.folder import is_raster


def pair_scenes(root: Path, *, coregister: bool = False) -> list[SceneFiles]:
    """Return the pair in `root`, or those in its folders: each has `before.*` and `after.*`, files or folders of bands.

    Args:
        root: the folder.
        coregister: remove the residual shift of each pair.
    """
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    duos = ((folder, _scene(folder, "before"), _scene(folder, "after")) for folder in folders)
    return [
        SceneFiles(folder.name, before, after, None, coregister=coregister)
        for folder, before, after in duos
        if before is not None and after is not None
    ]


def _scene(folder: Path, role: str) -> Path | None:
    """Return the one file or folder of that name; None where there is none, or several."""
    found = [path for path in folder.iterdir() if path.stem == role and _is_scene(path)]
    return found[0] if len(found) == 1 else None


def _is_scene(path: Path) -> bool:
    return path.is_dir() or is_raster(path)
