"""The overview of a batch: one HTML file with the map of its tiles and changes, its failures, and how to do it again.

It is a page of `changedet.report`, with the same map, list, escapes and policy.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from changedet import __version__
from changedet.batch.manifest import MOSAIC
from changedet.batch.outcome import DONE, FAILED, LEFT, SKIPPED, STATES, Outcomes
from changedet.config import BatchConfig
from changedet.report import words
from changedet.report.colours import as_hex
from changedet.report.command import options_of
from changedet.report.histograms import probability_chart, probability_counts, size_chart
from changedet.report.map import Map
from changedet.report.page import render
from changedet.report.picture import Picture, encode, probability_picture, reduction
from changedet.report.polygons import largest_shapes, read_measures
from changedet.write.provenance import redact
from changedet.write.staging import RUN_JSON

NAME: Final = "overview.html"
# Told apart by their lightness too; after Okabe and Ito, "Color Universal Design", 2008.
_COLOURS: Final = {DONE: (0, 114, 178), SKIPPED: (150, 190, 220), FAILED: (213, 60, 0), LEFT: (240, 228, 66)}
# Rows of a table; failures.csv and the manifest have the others.
_MOST_ROWS: Final = 100
_MOST_NOTES: Final = 10
_SHARING: Final = frozenset({"workers", "scheduler", "retries", "threads"})
# Pixels of the picture that a tile must have on each side for a line between it and its neighbours.
_LINED_PX: Final = 6


def write_overview(folder: Path, probability: Path, outcomes: Outcomes, manifest_name: str) -> None:
    """Write the overview of a batch as one HTML file that needs no network.

    Args:
        folder: with run.json and changes.gpkg of the batch; the page goes there too.
        probability: mosaic of the tiles' probabilities, from where they are seen; see `seen_mosaic`.
        outcomes: of the tiles.
        manifest_name: name of the manifest in the output folder.
    """
    record = json.loads((folder / RUN_JSON).read_text(encoding="utf-8"))
    geobox = outcomes.manifest.geobox
    measures = read_measures(folder / "changes.gpkg")
    threshold = _threshold(record)
    drawn = Map(
        geobox,
        {"tiles": tiles_picture(outcomes), "probability": probability_picture(probability)},
        largest_shapes(folder / "changes.gpkg", measures["area_m2"], geobox),
        views=(("swipe", "Swipe"), ("tiles", "Tiles"), ("probability", "Probability")),
        sides=(("tiles", "Tiles", ""), ("probability", "Probability", "")),
        threshold=threshold,
    )
    context = {
        **drawn.context(),
        "version": __version__,
        "record": record,
        "dates": _dates(record),
        "states": [(state, as_hex(_COLOURS[state]), record["tiles"][state]) for state in STATES],
        "sizes": size_chart(measures["area_m2"].to_numpy(dtype=float)),
        "probabilities": probability_chart(probability_counts(probability), threshold),
        "failures": [_failure(row) for row in islice(outcomes.rows(FAILED), _MOST_ROWS)],
        "mosaics": _mosaics(outcomes, record),
        "most_rows": _MOST_ROWS,
        "most_notes": _MOST_NOTES,
        "command": _command(record, manifest_name),
    }
    (folder / NAME).write_text(render("overview.html", context, drawn.data()), encoding="utf-8")


def tiles_picture(outcomes: Outcomes) -> Picture:
    """Return the tiles in the colours of their states, transparent where there is none."""
    plan = reduction(*outcomes.manifest.geobox.shape)
    pixels = np.zeros((plan.height, plan.width, 4), np.uint8)
    corners = _corners(outcomes) // plan.factor
    # A tile smaller than a pixel of the picture is one all the same.
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
    colours = [(*_COLOURS[state], 255) for state in outcomes.table["state"].to_pylist()]
    for (top, left, bottom, right), colour in zip(corners.tolist(), colours, strict=True):
        line = int(min(bottom - top, right - left) >= _LINED_PX)
        pixels[top : bottom - line, left : right - line] = colour
    counts = ", ".join(f"{count} {state}" for state, count in outcomes.counts.items())
    return Picture(encode(pixels), plan.extent, f"tiles by state: {counts}")


def _corners(outcomes: Outcomes) -> NDArray[np.int64]:
    """Return the first and the last row and column + 1 of every tile, (N, 4): top, left, bottom, right (px)."""
    windows = outcomes.manifest.windows.astype(np.int64)
    return np.concatenate([windows[:, :2], windows[:, :2] + windows[:, 2:]], axis=1)


def _threshold(record: Mapping[str, Any]) -> float:
    """Return the threshold of all mosaics, or the lowest of theirs."""
    told = [entry["threshold"]["probability"] for entry in (record, *record["mosaics"]) if "threshold" in entry]
    return min(told, default=0.5)


def _dates(record: Mapping[str, Any]) -> str:
    """Return from when to when, where all mosaics have the same dates."""
    dates = record.get("dates")
    if dates is None:
        return f"{len(record['mosaics']):,} pairs of scenes"
    return f"from {words.day(dates['before'])} to {words.day(dates['after'])}"


def _failure(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["id"], row["error"] or "", redact(row["message"] or "")


def _mosaics(outcomes: Outcomes, record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return name, scenes, dates and tiles of the first mosaics."""
    counts = {row["values"]: row["counts"] for row in pc.value_counts(outcomes.manifest.table[MOSAIC]).to_pylist()}
    rows = []
    for mosaic in record["mosaics"][:_MOST_ROWS]:
        dates = mosaic.get("dates") or record.get("dates") or {"before": None, "after": None}
        when = " → ".join(words.day(dates[role]) for role in ("before", "after"))
        scenes = (words.short_name(redact(mosaic[role])) for role in ("before", "after"))
        rows.append((mosaic["name"], *scenes, when, f"{counts.get(mosaic['name'], 0):,}"))
    return rows


def _command(record: Mapping[str, Any], manifest_name: str) -> str:
    """Return the command that does the batch again; who shares the work is not part of what it is."""
    parameters = {name: value for name, value in record["parameters"].items() if name not in _SHARING}
    parameters["threshold"] = parameters["threshold"] or record.get("threshold", {}).get("probability")
    options = options_of({"model": {"name": None}, **record, "parameters": parameters}, BatchConfig())
    return shlex.join(["changedet", "batch", "run", *options, "-o", "again", "--", manifest_name])
