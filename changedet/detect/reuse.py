"""A run that differs from an earlier one only in what comes after the network takes its probabilities over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from changedet.config import PolygonConfig, RunConfig
from changedet.detect.pipe import Halves, WindowSink
from changedet.detect.rasters import PROBABILITY, STATISTIC, UNCERTAINTY
from changedet.errors import ConfigError, OutputExistsError
from changedet.grid.window import blocks
from changedet.write.provenance import plain, read_run_json
from changedet.write.raster import RasterSink
from changedet.write.staging import RUN_JSON

# Options that the network's answers do not depend on. One that is not listed does count, so a new one is safe.
AFTER_THE_NETWORK = frozenset(
    {
        "threshold",
        "overwrite",
        "co",
        "reuse",
        "reuse_from",
        "free_only",
        "readers",
        "threads",
        "report",
        "stac",
        "vector",
        "append",
        *PolygonConfig.model_fields,
    }
)
# What the probabilities follow from, as run.json has it.
_CAUSES = ("inputs", "model", "parameters", "backend", "device", "precision", "preparation", "chips", "version")
_BLOCK_PX = 2048


def earlier_run(out: str | os.PathLike[str], config: RunConfig, causes: dict[str, Any]) -> Path | None:
    """Return the folder of an earlier run whose probabilities are those of this one, None where none is asked for.

    Args:
        out: the output folder.
        config: `reuse` takes the run in `out`, if there is one; `reuse_from` that in the folder it names.
        causes: of this run, as `causes_of` gives them.

    Raises:
        ConfigError: the run in `reuse_from` is another, or none.
        OutputExistsError: what is in `out` is not such a run, and `overwrite` is not set.
    """
    if config.reuse_from is not None:
        why = _difference(Path(config.reuse_from), causes)
        if why:
            raise ConfigError(
                f"the run in {config.reuse_from} cannot be reused: {why}",
                expected="a run that differs only in threshold, polygons and files",
                remedy="run without --reuse-from",
            )
        return Path(config.reuse_from)
    if not config.reuse or not any(entry.name[0] != "." for entry in Path(out).iterdir()):
        return None
    why = _difference(Path(out), causes)
    if why and not config.overwrite:
        raise OutputExistsError(
            f"the run in {os.fspath(out)} cannot be reused: {why}",
            expected="a run that differs only in threshold, polygons and files",
            remedy="--overwrite to compute it anew in its place, or another -o",
        )
    return None if why else Path(out)


def causes_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return what the probabilities of a run follow from.

    Args:
        record: run.json, or the part of it that is known before the network begins.
    """
    known = plain(record)
    parameters = {name: value for name, value in known["parameters"].items() if name not in AFTER_THE_NETWORK}
    inputs = {
        role: {name: value for name, value in entry.items() if name != "path"}
        for role, entry in known["inputs"].items()
    }
    return {**known, "inputs": inputs, "parameters": parameters, "version": known["versions"]["changedet"]}


def restore(folder: Path, sink: WindowSink, statistic: RasterSink | None = None) -> None:
    """Write the stored probabilities of the run in `folder` to a sink, and its statistic, if any, to another.

    With `Halves` the second takes its uncertainty.

    Raises:
        ConfigError: they cannot be read.
    """
    if isinstance(sink, Halves):
        _copy(folder / UNCERTAINTY, sink.second)
        sink = sink.first
    _copy(folder / PROBABILITY, sink)
    if statistic is not None:
        _copy(folder / STATISTIC, statistic)


def _copy(path: Path, sink: WindowSink | RasterSink) -> None:
    try:
        with rasterio.open(path) as stored:
            for window in blocks(stored.height, stored.width, _BLOCK_PX):
                where = RasterioWindow(window.col, window.row, window.width, window.height)
                sink.write(window, stored.read(window=where))
    except RasterioError as error:
        raise ConfigError(
            f"{path} cannot be reused ({error})", remedy="run again with --overwrite, without --reuse"
        ) from error


def _difference(folder: Path, causes: dict[str, Any]) -> str:
    """Return in which the run in `folder` differs from this one, nothing where it does not."""
    missing = [name for name in (RUN_JSON, PROBABILITY) if not (folder / name).is_file()]
    if missing:
        return f"it has no {missing[0]}"
    try:
        earlier = causes_of(read_run_json(folder / RUN_JSON))
    except ConfigError as error:
        return str(error).splitlines()[0]
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"its {RUN_JSON} cannot be read"
    if not all(entry.get("sha256_ends") for entry in causes["inputs"].values()):
        return "whether inputs that are not on a local disk are the same cannot be told"
    for name in _CAUSES:
        if earlier.get(name) != causes[name]:
            return f"another {_told(name, earlier.get(name), causes[name])}"
    return ""


def _told(name: str, earlier: object, now: object) -> str:
    """Return the name of what differs, with the entries where it has some."""
    if not isinstance(earlier, dict) or not isinstance(now, dict):
        return f"{name}, {earlier} then and {now} now"
    differing = sorted(key for key in {*earlier, *now} if earlier.get(key) != now.get(key))
    return f"{name} ({', '.join(differing)})"
