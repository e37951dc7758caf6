"""`changedet report`: the report of a run that is done, made again from what it left and its inputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from changedet.config import RunConfig, check_options
from changedet.detect.rasters import PROBABILITY
from changedet.detect.record import fingerprints
from changedet.detect.scenes import open_scenes, reading_options
from changedet.errors import ConfigError, NotFoundError, PairError, SceneError
from changedet.report import Inputs, draw_pictures, write_report
from changedet.write.provenance import read_run_json
from changedet.write.staging import RUN_JSON, atomic_path

_NEEDED = (RUN_JSON, "probability.tif", "changes.gpkg")


def remake_report(out: str | os.PathLike[str]) -> list[str]:
    """Write report.html into the output folder of a run, over an earlier one.

    Relative paths of inputs are taken from the current folder, as the run took them.

    Returns:
        What a reader should know: inputs that are gone, in place of which the report shows the probability, or that
        are not what the run read.

    Raises:
        NotFoundError: the folder lacks what a report is made of.
        ConfigError: another version of changedet wrote its run.json in another form, or it is none of a run.
    """
    folder = Path(out)
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise NotFoundError(
            f"no {', '.join(missing)} in {folder}", expected="the output folder of a run", remedy="changedet run"
        )
    record = read_run_json(folder / RUN_JSON)
    if not _is_of_a_run(record):
        raise ConfigError(
            f"{folder / RUN_JSON} says neither what was run nor how", expected="that of a run", remedy="run it again"
        )
    try:
        inputs = _inputs(record)
        notes = _differences(record, inputs)
    except (NotFoundError, SceneError, PairError) as error:
        inputs = None
        reason = error.args[0].splitlines()[0]
        notes = [f"The inputs cannot be read any more, so the map shows the probability alone: {reason}"]
    with atomic_path(folder / "report.html", overwrite=True) as path:
        write_report(path, folder, draw_pictures(folder / PROBABILITY, record, inputs), notes=notes)
    return notes


def _is_of_a_run(record: dict[str, Any]) -> bool:
    inputs, parameters = record.get("inputs"), record.get("parameters")
    return isinstance(inputs, dict) and {"before", "after"} <= inputs.keys() and isinstance(parameters, dict)


def _inputs(record: dict[str, Any]) -> Inputs:
    # Options that another version of changedet knew are no reason to make no report.
    known = {name: value for name, value in record["parameters"].items() if name in RunConfig.model_fields}
    config = check_options(known)
    scenes = open_scenes(record["inputs"]["before"]["path"], record["inputs"]["after"]["path"], config)
    return Inputs(*scenes, reading_options(config))


def _differences(record: dict[str, Any], inputs: Inputs) -> list[str]:
    """Return a sentence for each input that is not what the run read."""
    now = fingerprints((inputs.before, inputs.after))
    return [
        f"{entry['path']} is not what the run read: it has changed since"
        for role, entry in record["inputs"].items()
        if entry.get("sha256_ends") != now[role].get("sha256_ends")
    ]
