"""Satellite change detection: two scenes in, a georeferenced change raster and change polygons out.

`import changedet` is light: torch and geopandas are loaded when they are first needed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from changedet.errors import ChangeDetError

if TYPE_CHECKING:
    from changedet.detect.run import RunResult, run
    from changedet.detect.series import run_series
    from changedet.network.package import load_model
    from changedet.read.pair import open_pair

__version__ = version("changedet")
__all__ = ["ChangeDetError", "RunResult", "__version__", "load_model", "open_pair", "run", "run_series"]

_LAZY = {
    "RunResult": "changedet.detect.run",
    "load_model": "changedet.network.package",
    "open_pair": "changedet.read.pair",
    "run": "changedet.detect.run",
    "run_series": "changedet.detect.series",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'changedet' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
