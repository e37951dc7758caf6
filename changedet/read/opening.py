"""From what a user calls a scene to its bands: a file, a folder, a product, a list, a URL or a STAC item."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from changedet.errors import ConfigError, NotFoundError, SceneError
from changedet.read.bands import Mapping
from changedet.read.folder import RASTER_SUFFIXES, open_folder, open_list
from changedet.read.header import read_header
from changedet.read.landsat import is_landsat_folder, open_landsat
from changedet.read.scene import Scene
from changedet.read.sentinel2 import is_safe, open_safe, with_offset_of_baseline
from changedet.read.stac import open_item
from changedet.remote import is_local, is_named_to_gdal

StrPath = str | os.PathLike[str]
# What a user may call a scene.
Source = StrPath | Sequence[StrPath]

_STAC = "stac:"


def open_scene(path: Source, *, mapping: Mapping | None = None, local_px: float | None = None) -> Scene:
    """Open what `path` names as a scene. Reads headers and metadata only.

    Args:
        path: a raster file, a URL or a GDAL `/vsi` path; a folder of single-band files, a Sentinel-2 `.SAFE` folder
            or a Landsat Collection 2 folder; several single-band files, as a list, with commas between, or as a
            pattern with `*`; or `stac:` and the path or URL of a STAC item,
            or of an item collection with `#` and the item's id.
        mapping: which band is which, for files whose bands have no names; see `changedet.read.bands.parse_mapping`.
        local_px: ground size (m) of the pixels of a file without a CRS, see `changedet.read.header.read_header`.

    Raises:
        NotFoundError: there is nothing at `path`.
        SceneError: it is not a raster or not a whole product, or cannot be put on the map.
        ConfigError: `mapping` names a band the file does not have, or is given for bands that have names.
    """
    if not isinstance(path, str | os.PathLike):
        files = [os.fspath(file) for file in path]
        return with_offset_of_baseline(open_list(files, ",".join(files), mapping))
    text = os.fspath(path)
    if text.startswith(_STAC):
        return open_item(text.removeprefix(_STAC))
    several = _several(text)
    if several:
        return with_offset_of_baseline(open_list(several, text, mapping))
    if is_named_to_gdal(text) or (is_local(text) and Path(text).is_file()):
        bands, date = read_header(text, mapping, local_px)
        return with_offset_of_baseline(Scene(text, bands, date))
    if not is_local(text):
        raise NotFoundError(f"{text} does not exist", remedy="check the path; it is taken from the current folder")
    if not Path(text).is_dir():
        # To open a pipe would wait for whoever writes into it, and no raster can be read in one go.
        raise SceneError(
            f"{text} is neither a file nor a folder", expected="a raster", remedy="write it to a file first"
        )
    try:
        return _open_folder(Path(text), mapping)
    except PermissionError as error:
        raise SceneError(f"{error.filename} may not be read", remedy="its permissions, or another user") from error


def _open_folder(folder: Path, mapping: Mapping | None) -> Scene:
    if mapping is not None:
        raise ConfigError(
            f"a band mapping for the folder {folder}, whose bands are known by their names", remedy="leave --bands out"
        )
    if is_safe(folder):
        return open_safe(folder)
    return open_landsat(folder) if is_landsat_folder(folder) else with_offset_of_baseline(open_folder(folder))


def _several(text: str) -> list[str]:
    """Return the files of a list or a pattern; none where `text` is one thing."""
    if "://" not in text and is_local(text):
        return []
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and all(Path(part.rsplit("?", 1)[0]).suffix.lower() in RASTER_SUFFIXES for part in parts):
        return parts
    if "*" in text and not is_named_to_gdal(text):
        return sorted(glob(text))  # noqa: PTH207  # the pattern may be absolute, which Path.glob refuses
    return []
