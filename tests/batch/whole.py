"""A small batch that is joined, for the tests of what tells of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from changedet.batch.join import Part, join_polygons
from changedet.batch.manifest import Mosaic
from changedet.batch.outcome import Outcomes
from changedet.batch.record import batch_record
from changedet.config import BatchConfig
from changedet.grid import Window
from changedet.grid.window import blocks
from changedet.vectorize import Labels
from changedet.write.geopackage import write_geopackage
from changedet.write.layers import Spool
from changedet.write.provenance import write_run_json
from tests.batch.manifests import manifest_of
from tests.batch.tiles import layouts_of, outcomes_of, write_tiles
from tests.data import geobox

GRID = geobox(60, 80)
NASTY = "<script>alert(1)</script> & <img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Whole:
    """Where a batch lies, and what is known of it."""

    out: Path
    outcomes: Outcomes
    learned: dict[str, dict[str, Any]]
    record: dict[str, Any]


def learned_of(after: str | None = "2020-04-02", **more: Any) -> dict[str, Any]:
    """Return what is known of a mosaic before its tiles."""
    return {
        "dates": {"before": "2018-03-28", "after": after},
        "model": {"name": "tiny", "licence": "CC0-1.0", "commercial_use": True, "classes": ["change"]},
        "threshold": {"probability": 0.5},
        "versions": {"changedet": "0"},
        "notes": [NASTY],
        "parameters": {"min_area": 0.0},
        **more,
    }


def joined_batch(out: Path, failed: tuple[str, ...] = ("r0c40",), **learned: Any) -> Whole:
    """Make a batch of two mosaics, one above the other, in tiles of 20 px."""
    windows = blocks(60, 80, 20)
    top, bottom = Window(0, 0, 20, 80), Window(20, 0, 40, 80)
    mosaics = [
        Mosaic("top", f"/data/{NASTY}.tif", "https://me:secret@host/after.tif", top),
        Mosaic("bottom", "/data/b1.tif", "/data/b2.tif", bottom),
    ]
    names = ["top" if window.row < 20 else "bottom" for window in windows]
    outcomes = outcomes_of(manifest_of(GRID, windows, mosaics, names=names), failed)
    mask = np.zeros(GRID.shape, np.uint8)
    mask[4:50, 10:30] = 1
    write_tiles(out, outcomes, {"mask.tif": mask, "probability.tif": mask * 220})
    known = {mosaic.name: learned_of(inputs={"before": {"path": mosaic.name}}, **learned) for mosaic in mosaics}
    layouts = layouts_of(GRID)
    with Spool(out / "layers") as spool:
        parts = [Part(mosaic.name, Labels(), None) for mosaic in mosaics]
        findings = join_polygons(out, out, outcomes, parts, layouts, sink=spool, config=BatchConfig())
    write_geopackage(out / "changes.gpkg", spool.layers())
    parameters = BatchConfig(min_area=5, workers=3).model_dump(mode="json")
    record = batch_record(
        outcomes, known, findings, parameters=parameters, started=datetime.now(UTC), warnings=["a <b>warning</b>"]
    )
    write_run_json(out / "run.json", record)
    return Whole(out, outcomes, known, record)
