"""Names of scenes, relative in a file that may be moved with its folder, absolute for workers anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from changedet.remote import is_local, is_named_to_gdal

# What may stand before a path that is a local file all the same.
_PREFIXES = ("stac:", "GTI:")


def absolute(source: str, folder: str | os.PathLike[str]) -> str:
    """Return a scene's name with its local paths, where they are relative, taken from `folder`.

    >>> absolute("a.tif,b.tif", "/data"), absolute("https://host/a.tif", "/data")
    ('/data/a.tif,/data/b.tif', 'https://host/a.tif')
    """
    return _each(source, lambda path: os.path.normpath(Path(folder).absolute() / path))


def relative(source: str, folder: str | os.PathLike[str]) -> str:
    """Return a scene's name with those of its local paths that lie in `folder` or below relative to it.

    >>> relative("/data/vrt/a.vrt", "/data"), relative("/other/a.vrt", "/data")
    ('vrt/a.vrt', '/other/a.vrt')
    """
    root = Path(folder).absolute()
    return _each(
        source, lambda path: Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path
    )


def _each(source: str, change: Callable[[str], str]) -> str:
    """Return a scene's name with each local path in it changed: a scene may be several files with commas between."""
    prefix = next((prefix for prefix in _PREFIXES if source.startswith(prefix)), "")
    name = source.removeprefix(prefix)
    if is_named_to_gdal(name):
        return source
    parts = name.split(",") if "," in name and not is_local(name) else [name]
    return prefix + ",".join(change(part.strip()) for part in parts)
