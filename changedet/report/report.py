"""The report of a run: one HTML file, from the files of its output folder and, for the pictures, its inputs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox

from changedet.read.align import ground_resolution
from changedet.read.displacement import Displacement
from changedet.read.pair import PairOptions
from changedet.read.report import PairReport
from changedet.read.scene import Scene
from changedet.report import words
from changedet.report.colours import CLASSES, as_hex
from changedet.report.command import command_of
from changedet.report.histograms import probability_chart, probability_counts, size_chart
from changedet.report.page import render
from changedet.report.picture import Picture, date_pictures, probability_picture
from changedet.report.place import lonlat_table, up_azimuth
from changedet.report.polygons import Shapes, largest_shapes, read_measures
from changedet.write.staging import RUN_JSON

# Turned by less than this, a grid's upper edge is north to whoever looks at it (degrees).
_NORTH = 5.0
_TABLE = ("area_m2", "probability_mean", "direction", "class", "lat", "lon")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Both scenes with all of their bands, and how the run read them."""

    before: Scene
    after: Scene
    options: PairOptions


def write_report(
    path: str | os.PathLike[str], folder: str | os.PathLike[str], inputs: Inputs | None, *, notes: Sequence[str] = ()
) -> None:
    """Write the report of a run as one HTML file of less than 10 MB that needs no network.

    Equal inputs and results give equal bytes.

    Args:
        path: file to make.
        folder: with run.json, changes.gpkg and probability.tif of the run.
        inputs: the run's scenes; None where they are gone, and the probability is shown in their place.
        notes: what the reader should know of this report beside the run's own warnings.

    Raises:
        SceneError: an input is damaged.
        ConfigError: run.json is of another version.
    """
    results = Path(folder)
    record = json.loads((results / RUN_JSON).read_text(encoding="utf-8"))
    with rasterio.open(results / "probability.tif") as dataset:
        geobox = GeoBox.from_rio(dataset)
    measures = read_measures(results / "changes.gpkg")
    shapes = largest_shapes(results / "changes.gpkg", measures["area_m2"], geobox)
    pictures = _pictures(results / "probability.tif", geobox, record, inputs)
    counts = probability_counts(results / "probability.tif")
    context = {
        **_heading(record, geobox),
        "record": record,
        "pictures": pictures,
        "shapes": shapes,
        "notes": [*notes, *record["warnings"]],
        "legend": _legend(record["parameters"]["threshold"]),
        "sizes": size_chart(measures["area_m2"].to_numpy(dtype=float)),
        "probabilities": probability_chart(counts, record["parameters"]["threshold"]),
        "pair": PairReport.from_json(record["pair"]),
        "command": command_of(record),
    }
    Path(path).write_text(render(context, _data(geobox, pictures, shapes)), encoding="utf-8")


def _pictures(probability: Path, geobox: GeoBox, record: dict[str, Any], inputs: Inputs | None) -> dict[str, Picture]:
    """Return the pictures by name: `before` and `after` where the inputs are there, and `probability`."""
    pictures = {"probability": probability_picture(probability)}
    if inputs is None:
        return pictures
    removed = Displacement.from_json(record["preparation"]["displacement_removed_px"])
    names = [f"{role.capitalize()}, {words.day(record['dates'][role])}" for role in ("before", "after")]
    before, after = date_pictures(
        inputs.before,
        inputs.after,
        geobox,
        options=inputs.options,
        displacement=removed,
        names=(names[0], names[1]),
    )
    return {"before": before, "after": after, **pictures}


def _heading(record: dict[str, Any], geobox: GeoBox) -> dict[str, Any]:
    """Return what stands at the top: the dates, the names of the scenes, the place."""
    table = lonlat_table(geobox)
    middle = {axis: float(np.mean(table[axis])) for axis in ("lon", "lat")}
    up = up_azimuth(geobox)
    height, width = ground_resolution(geobox)
    return {
        "days": {role: words.day(record["dates"][role]) for role in ("before", "after")},
        "names": {role: words.short_name(record["inputs"][role]["path"]) for role in ("before", "after")},
        "place": words.point((middle["lon"] + 180) % 360 - 180, middle["lat"]),
        "pixel": words.pixel(height, width),
        "turned": f"{up:.0f}" if abs(up) > _NORTH else None,
    }


def _legend(threshold: float) -> list[tuple[str, str]]:
    """Return the colour and the range of each class of probability that a polygon can be in."""
    uppers = [lower for lower, _ in CLASSES[1:]] + [1.0]
    return [
        (as_hex(colour), f"{lower:.1f}–{upper:.1f}")
        for (lower, colour), upper in zip(CLASSES, uppers, strict=True)
        if upper > threshold
    ]


def _data(geobox: GeoBox, pictures: dict[str, Picture], shapes: Shapes) -> dict[str, Any]:
    """Return what the page's script draws."""
    height, width = geobox.shape
    metres = ground_resolution(geobox)
    return {
        "height": height,
        "width": width,
        "pixel_height_m": metres[0],
        "pixel_width_m": metres[1],
        "place": lonlat_table(geobox),
        "extents": {name: picture.extent for name, picture in pictures.items()},
        "classes": [(lower, as_hex(colour)) for lower, colour in CLASSES],
        "rings": shapes.rings,
        "columns": [_column(name, values) for name, values in shapes.columns.items()],
        "table": [name for name in _TABLE if any(value is not None for value in shapes.columns.get(name, []))],
    }


def _column(name: str, values: list[Any]) -> dict[str, Any]:
    """Return an attribute of all polygons; where it is the same for all of them, once."""
    label, kind = words.attribute(name)
    same = len(values) > 1 and all(value == values[0] for value in values)
    return {
        "name": name,
        "label": label,
        "short": words.SHORT.get(name, label),
        "kind": kind,
        **({"value": values[0]} if same else {"values": values}),
    }
