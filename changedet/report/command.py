"""The command that does a run again, from its run.json."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from changedet.config import RunConfig

# Where results go, and what was at hand already, is not part of what a run is.
LEFT_OUT = frozenset({"overwrite", "report", "reuse", "reuse_from", "vector", "append"})
# Options of several values are typed in three ways; a name is in no list where they follow the option together.
_ONE_BY_ONE = {"nodata", "scale", "offset", "valid_mask", "res"}
_WITH_COMMAS = {"dates"}


def command_of(record: Mapping[str, Any], out: str = "again") -> str:
    """Return the `changedet run …` with which the results of a run.json can be had again.

    Only what differs from the defaults is said, and what a later version may choose otherwise: model and threshold.
    """
    before, after = (record["inputs"][role]["path"] for role in ("before", "after"))
    # A path that begins with a dash would be taken for an option.
    return shlex.join(["changedet", "run", *options_of(record, RunConfig()), "-o", out, "--", before, after])


def options_of(record: Mapping[str, Any], defaults: RunConfig) -> list[str]:
    """Return the options of a run.json as a user types them, as far as they are not the defaults; see `command_of`."""
    usual = defaults.model_dump(mode="json")
    parameters = record["parameters"]
    model = parameters["model"] or (record["model"]["name"] if parameters["detector"] is None else None)
    asked = record.get("threshold", {}).get("asked")  # a rule, whose value is what it came to on that pair
    chosen = {**parameters, "model": model, "threshold": asked or parameters["threshold"]}
    models = [part for name in [model, *chosen.pop("ensemble", [])] if name for part in ("--model", name)]
    del chosen["model"]
    return models + typed(chosen, usual)


def typed(options: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """Return options, by name, as a user types them, as far as they are not the usual ones."""
    return [
        part
        for name, value in options.items()
        if name not in LEFT_OUT and value != usual.get(name)
        for part in _option(name, value)
    ]


def _option(name: str, value: Any) -> list[str]:
    """Return an option as a user types it."""
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return [option]
    if name == "coregister":
        return ["--coregister-by", value]
    if isinstance(value, dict):
        return [part for key, entry in value.items() for part in (option, f"{key}={entry}")]
    if not isinstance(value, list):
        return [option, str(value)]
    if name in _ONE_BY_ONE:
        return [part for entry in value for part in (option, str(entry))]
    return [option, ",".join(value)] if name in _WITH_COMMAS else [option, *map(str, value)]
