"""The report of a run: one HTML file, from the files of its output folder and, for the pictures, its inputs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import rasterio
from odc.geo.geobox import GeoBox

from changedet.read.displacement import Displacement
from changedet.read.pair import PairOptions
from changedet.read.report import PairReport
from changedet.read.scene import Scene
from changedet.report import words
from changedet.report.command import command_of
from changedet.report.histograms import probability_chart, probability_counts, size_chart
from changedet.report.map import Map
from changedet.report.page import render
from changedet.report.picture import Picture, date_pictures, probability_picture, reduction
from changedet.report.polygons import largest_shapes, read_measures
from changedet.write.provenance import read_run_json
from changedet.write.staging import RUN_JSON

# As assets/explorer.html writes them.
_PICTURE = re.compile(
    r'<img id="picture-(?P<name>\w+)" src="(?P<uri>data:image/webp;base64,[\w+/=]+)" alt="(?P<alt>[^"]*)">'
)
_DATES = (("swipe", "Swipe"), ("before", "Before"), ("after", "After"))


@dataclass(frozen=True, slots=True)
class Inputs:
    """Both scenes with all of their bands, and how the run read them."""

    before: Scene
    after: Scene
    options: PairOptions


def write_report(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    pictures: Mapping[str, Picture],
    *,
    notes: Sequence[str] = (),
) -> None:
    """Write the report of a run as one HTML file of less than 10 MB that needs no network.

    Equal inputs and results give equal bytes.

    Args:
        path: file to make.
        folder: with run.json, changes.gpkg and probability.tif of the run.
        pictures: as `draw_pictures` gave them.
        notes: what the reader should know of this report beside the run's own warnings.

    Raises:
        ConfigError: run.json is of another version.
    """
    results = Path(folder)
    record = read_run_json(results / RUN_JSON)
    with rasterio.open(results / "probability.tif") as dataset:
        geobox = GeoBox.from_rio(dataset)
    measures = read_measures(results / "changes.gpkg")
    shapes = largest_shapes(results / "changes.gpkg", measures["area_m2"], geobox)
    counts = probability_counts(results / "probability.tif")
    days = {role: words.day(record["dates"][role]) for role in ("before", "after")}
    dated = "before" in pictures
    drawn = Map(
        geobox,
        pictures,
        shapes,
        views=[*(_DATES if dated else ()), ("probability", "Probability")],
        sides=(("before", "Before", days["before"]), ("after", "After", days["after"])),
        threshold=record["parameters"]["threshold"],
    )
    context = {
        **drawn.context(),
        "days": days,
        "names": {role: words.short_name(record["inputs"][role]["path"]) for role in ("before", "after")},
        "version": record["versions"]["changedet"],
        "record": record,
        "notes": [*notes, *record["warnings"]],
        "sizes": size_chart(measures["area_m2"].to_numpy(dtype=float)),
        "probabilities": probability_chart(counts, record["parameters"]["threshold"]),
        "pair": PairReport.from_json(record["pair"]),
        "command": command_of(record),
    }
    Path(path).write_text(render("report.html", context, drawn.data()), encoding="utf-8")


def draw_pictures(
    probability: str | os.PathLike[str], record: Mapping[str, Any], inputs: Inputs | None
) -> dict[str, Picture]:
    """Return the pictures by name: `before` and `after` where the inputs are there, and `probability`.

    Args:
        probability: the run's probability.tif.
        record: run.json, or what of it was known before the first chip.
        inputs: the run's scenes; None where they are gone.

    Raises:
        SceneError: an input is damaged.
    """
    pictures = {"probability": probability_picture(probability)}
    if inputs is None:
        return pictures
    of_before, of_after = (
        Displacement.from_json(record["preparation"][f"displacement_removed_{date}px"]) for date in ("before_", "")
    )
    with rasterio.open(probability) as dataset:
        geobox = GeoBox.from_rio(dataset)
    names = [f"{role.capitalize()}, {words.day(record['dates'][role])}" for role in ("before", "after")]
    before, after = date_pictures(
        inputs.before,
        inputs.after,
        geobox,
        options=inputs.options,
        displacements=(of_before, of_after),
        names=(names[0], names[1]),
    )
    return {"before": before, "after": after, **pictures}


def drawn_pictures(report: str | os.PathLike[str], probability: str | os.PathLike[str]) -> dict[str, Picture]:
    """Return the pictures in an earlier report of the same pair and probabilities; none where it lacks one of them.

    Args:
        report: made by this version; it need not exist.
        probability: the run's probability.tif.
    """
    path = Path(report)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    with rasterio.open(probability) as dataset:
        extent = reduction(dataset.height, dataset.width).extent
    found = {match["name"]: Picture(match["uri"], extent, unescape(match["alt"])) for match in _PICTURE.finditer(text)}
    return found if found.keys() == {"before", "after", "probability"} else {}
