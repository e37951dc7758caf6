"""What a batch leaves in run.json: what was asked, what was learned of each mosaic, and what came of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from changedet.batch.outcome import FAILED, LEFT, Outcomes
from changedet.detect.record import areas, largest, polygon_steps
from changedet.vectorize import Findings

# What was learned of a mosaic, as it stands in the record; what all mosaics share is said once.
Learned = Mapping[str, Mapping[str, Any]]
_NOT_TOLD: Final = frozenset({"notes", "parameters"})
# Mosaics that a note names.
_MOST_NAMES: Final = 3


def batch_record(
    outcomes: Outcomes,
    learned: Learned,
    findings: Findings,
    *,
    parameters: Mapping[str, Any],
    started: datetime,
    warnings: list[str],
) -> dict[str, Any]:
    """Return the content of a batch's run.json; what may differ between equal batches is in the block `times`.

    Args:
        outcomes: of the tiles.
        learned: name of a mosaic → what `begin_record` gave of it, with its `threshold` and `notes`.
        findings: what the polygons come to.
        parameters: the options.
        started: when this run of the batch did.
        warnings: what the user should know beside the notes on the mosaics and the tiles that are missing.
    """
    manifest = outcomes.manifest
    shared, own = _split(learned)
    height, width = map(int, manifest.geobox.shape)
    seconds = sum(value or 0.0 for value in outcomes.table["seconds"].to_pylist())
    return {
        **shared,
        "batch": {"digest": manifest.digest, "crs": manifest.crs_text, "height": height, "width": width},
        "parameters": dict(parameters),
        "mosaics": [
            {"name": mosaic.name, "before": mosaic.before, "after": mosaic.after, **own.get(mosaic.name, {})}
            for mosaic in manifest.mosaics
        ],
        "tiles": {"total": len(manifest), **outcomes.counts},
        "areas": areas(findings),
        "polygon_steps": polygon_steps(findings),
        "largest": largest(findings),
        "warnings": [*_missing(outcomes), *warnings, *notes_of(learned)],
        "times": {
            "started": started.isoformat(),
            "seconds": (datetime.now(UTC) - started).total_seconds(),
            "seconds_in_tiles": seconds,
        },
    }


def _split(learned: Learned) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return what all mosaics have in common, and what each has of its own."""
    first = next(iter(learned.values()), {})
    shared = {
        name: value
        for name, value in first.items()
        if name not in _NOT_TOLD and all(record.get(name) == value for record in learned.values())
    }
    own = {
        mosaic: {name: value for name, value in record.items() if name not in shared and name not in _NOT_TOLD}
        for mosaic, record in learned.items()
    }
    return shared, own


def _missing(outcomes: Outcomes) -> list[str]:
    counts, total = outcomes.counts, len(outcomes.manifest)
    failed = [f"{counts[FAILED]} of {total} tiles failed and are unknown here: failures.csv"] if counts[FAILED] else []
    left = [f"{counts[LEFT]} of {total} tiles are still to be done, and unknown here"] if counts[LEFT] else []
    return failed + left


def notes_of(learned: Learned) -> list[str]:
    """Return what should be known of the mosaics, each note once, with those that it is of unless it is of all."""
    of: dict[str, list[str]] = defaultdict(list)
    for name, record in learned.items():
        for note in record.get("notes", []):
            of[note].append(name)
    return [note if len(names) == len(learned) else f"{_told(names)}: {note}" for note, names in of.items()]


def _told(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
