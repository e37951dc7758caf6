"""What a GIS user has: a pair of rasters, and polygons of what changed, in any vector format and any CRS."""

from __future__ import annotations

from pathlib import Path

from changedet.learn.datasets.scene import SceneFiles
from changedet.read.folder import is_companion, is_raster

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".kml")


def polygon_scenes(root: Path, *, coregister: bool = False) -> list[SceneFiles]:
    """Return the scene in `root`, or those in its folders: each has `before.*`, `after.*` and one file of polygons."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    trios = ((folder, _trio(folder)) for folder in folders)
    return [SceneFiles(folder.name, *trio, None, coregister=coregister) for folder, trio in trios if trio is not None]


def _trio(folder: Path) -> tuple[Path, Path, Path] | None:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not is_companion(path))
    before, after = ([path for path in files if path.stem == role and is_raster(path)] for role in ("before", "after"))
    vectors = [path for path in files if path.suffix.lower() in VECTOR_SUFFIXES]
    return (before[0], after[0], vectors[0]) if len(before) == len(after) == len(vectors) == 1 else None
