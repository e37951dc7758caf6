"""What a run leaves in run.json: enough to know what was done, and to do it again."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from changedet.config import RunConfig
from changedet.detect.method import Method
from changedet.detect.prepare import Preparation
from changedet.detect.threshold import Threshold
from changedet.grid import ChipPlan
from changedet.grid.lattice import wrapped
from changedet.read.quality import AUTO, file_of
from changedet.read.scene import Scene
from changedet.write.provenance import FORM, fingerprint, redact

if TYPE_CHECKING:
    from changedet.vectorize import Findings

_ROLES = ("before", "after")
_LIBRARIES = ("changedet", "rasterio", "geopandas", "shapely", "pyproj", "numpy")


def make_record(
    begun: dict[str, Any],
    *,
    started: datetime,
    findings: Findings,
    threshold: Threshold,
    warnings: list[str],
    reused: Path | None = None,
) -> dict[str, Any]:
    """Return the content of run.json; everything that may differ between two equal runs is in the block `times`.

    Args:
        begun: what `begin_record` gave.
        started: when the run began.
        findings: what was traced.
        threshold: of the mask.
        warnings: what the user should know.
        reused: folder of the run whose probabilities were taken over, None where the network computed them.
    """
    seconds = (datetime.now(UTC) - started).total_seconds()
    return {
        **begun,
        "parameters": {**begun["parameters"], "threshold": threshold.probability},
        "threshold": threshold.as_json(),
        "areas": areas(findings),
        "polygon_steps": polygon_steps(findings),
        "largest": largest(findings),
        "warnings": warnings,
        "times": {"started": started.isoformat(), "seconds": seconds, "reused": reused and str(reused)},
    }


def identify(scenes: tuple[Scene, Scene], config: RunConfig, method: Method) -> dict[str, Any]:
    """Return the part of run.json that is known before a pixel is read, and that all else follows from."""
    named = _named_files(scenes, config)
    return {
        "form": FORM,
        "inputs": fingerprints(scenes),
        **({"files": named} if named else {}),
        "dates": {"before": scenes[0].date, "after": scenes[1].date},
        "model": method.as_json(),
        "parameters": {**config.model_dump(mode="json"), "vector": [*map(redact, config.vector)]},
        "backend": method.backend,
        "device": method.device,
        "precision": method.precision,
        "versions": _versions(method),
    }


def begin_record(identity: dict[str, Any], preparation: Preparation, plan: ChipPlan) -> dict[str, Any]:
    """Return the part of run.json that is known before the first chip: `identity`, as `identify` gave it, and more."""
    learned = {"pair": preparation.report.as_json(), "preparation": preparation.as_json(), "chips": plan.lattice()}
    return {**identity, **learned}


def fingerprints(scenes: tuple[Scene, Scene]) -> dict[str, dict[str, Any]]:
    """Return what both scenes are recognised by, as run.json has it under `inputs`.

    All their bands count and not only those compared: what else is in a file may have said what these mean.
    """
    return {role: fingerprint(scene.path, scene.files) for role, scene in zip(_ROLES, scenes, strict=True)}


def _named_files(scenes: tuple[Scene, Scene], config: RunConfig) -> dict[str, dict[str, Any]]:
    """Return what the files are recognised by that options name beside the scenes, and a scene's own quality band."""
    asked = {f"valid_mask {number}": file_of(text) for number, text in enumerate(config.valid_mask, start=1)}
    if AUTO in config.valid_mask:
        asked |= {f"quality {role}": file_of(scene.quality) for role, scene in zip(_ROLES, scenes, strict=True)}
    asked |= {"aoi": config.aoi, "like": config.like}
    return {name: fingerprint(path) for name, path in asked.items() if path is not None}


def warnings_of(first: list[str], preparation: Preparation) -> list[str]:
    """Return what the user should know before trusting the map: `first`, and what was learned of the pair."""
    notes = preparation.report.notes
    return [*first, *(note.removeprefix("WARNING: ") for note in notes if note.startswith("WARNING: "))]


def _versions(method: Method) -> dict[str, str]:
    libraries = {name: version(name) for name in (*_LIBRARIES, method.backend)}
    return {**libraries, "python": platform.python_version()}


def areas(findings: Findings) -> dict[str, float | int]:
    """Return the number of polygons and the areas in m² of what changed, was comparable, and was not."""
    return {
        "polygons": findings.polygons,
        "changed_m2": round(findings.changed_m2, 1),
        "comparable_m2": round(findings.comparable_m2, 1),
        "unknown_m2": round(findings.unknown_m2, 1),
    }


def polygon_steps(findings: Findings) -> dict[str, dict[str, float]]:
    """Return what each step that gave the polygons another shape gained and lost (m²)."""
    return {step: {name: round(area, 1) for name, area in sums.items()} for step, sums in findings.steps.items()}


def largest(findings: Findings) -> list[dict[str, Any]]:
    """Return the largest polygons, each with its area and a point inside it in longitude and latitude (degrees)."""
    rows = findings.largest
    points = rows.representative_point().to_crs(4326)
    return [
        {
            "id": row.id,
            "area_m2": round(float(row.area_m2), 1),
            "probability_mean": None if np.isnan(row.probability_mean) else round(float(row.probability_mean), 3),
            "lon": round(wrapped(point.x), 6),
            "lat": round(point.y, 6),
        }
        for row, point in zip(rows.itertuples(), points, strict=True)
    ]
