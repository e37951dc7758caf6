"""The command of a report does the run again."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changedet.cli.options import given
from changedet.cli.run import run as run_command
from changedet.config import RunConfig, check_options
from changedet.report.command import LEFT_OUT, command_of

OPTIONS: list[dict[str, Any]] = [
    {},
    {"coregister": True, "min_area": 500.5, "halo": 64},
    {"coregister": "shift"},
    {"bounds": (-1.5, 2, 3, 4), "dates": ("2017-01-01", "2018-01-01"), "halo": "exact"},
    {"co": {"COMPRESS": "ZSTD", "LEVEL": "9"}, "max_memory": "3GB", "connectivity": 4},
    {"model": "my models/a'b.safetensors", "bands": "red=3,nir=4", "nodata": -9999.0, "scale": 0.0001},
    {"scale": (0.1, 0.2), "offset": (-0.1,), "res": (10, 20), "valid_mask": ("scl:a b.tif", "none"), "aoi": "a.gpkg"},
    {"nodata": (0, -32768.5)},
    {"like": "grid.tif", "normalize": "irmad", "resampling": "cubic", "device": "cpu"},
    {"model": "a", "ensemble": ("my b", "c"), "tta": True, "stac": True},
    {"any_resolution": True, "free_only": True, "readers": 2, "backend": "torch", "precision": "float32"},
]


def test_every_option_of_several_values_is_said_or_left_out_on_purpose() -> None:
    said = {name for options in OPTIONS for name in options}
    several = {name for name, value in RunConfig() if isinstance(value, tuple | dict)} | {"bounds", "dates"}
    assert several <= said | LEFT_OUT
    assert set(RunConfig.model_fields) >= LEFT_OUT


def _record(config: RunConfig, before: str, after: str) -> dict[str, Any]:
    return json.loads(
        json.dumps(
            {
                "inputs": {"before": {"path": before}, "after": {"path": after}},
                "model": {"name": "s2-urban"},
                "parameters": {**config.model_dump(mode="json"), "threshold": 0.52},
            }
        )
    )


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options) or "none")
def test_the_command_is_read_as_the_options_it_was_made_of(options: dict[str, Any]) -> None:
    config = check_options(options)
    command = command_of(_record(config, "-a b.tif", "$(after).tif"), "there")
    program, verb, *arguments = shlex.split(command)
    assert (program, verb) == ("changedet", "run")
    parsed = run_command.make_context("run", arguments).params
    assert (parsed.pop("scenes"), parsed.pop("out")) == (("-a b.tif", "$(after).tif"), Path("there"))
    expected = config.model_copy(update={"threshold": 0.52, "model": config.model or "s2-urban"})
    assert check_options(given(parsed)) == expected


def test_no_value_but_nan_is_kept_through_json() -> None:
    record = _record(check_options({"nodata": (float("nan"), 7)}), "a.tif", "b.tif")
    assert record["parameters"]["nodata"] == ["nan", 7.0]
    assert "--nodata nan --nodata 7.0" in command_of(record)
    assert np.array_equal(check_options({"nodata": record["parameters"]["nodata"]}).nodata, (np.nan, 7), equal_nan=True)


def test_a_detector_without_labels_is_called_by_its_name_and_the_rule_that_was_asked_for() -> None:
    record = _record(check_options({"detector": "cva"}), "a.tif", "b.tif")
    record["threshold"] = {"decides": "statistic", "asked": "chi2:0.99"}
    parsed = given(run_command.make_context("run", shlex.split(command_of(record))[2:]).params)
    assert (parsed["detector"], parsed.get("model"), parsed["threshold"]) == ("cva", None, "chi2:0.99")
