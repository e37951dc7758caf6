"""Pairs of scenes and models that runs in tests take."""

import os
from pathlib import Path
from typing import Any

import rasterio
import torch
from rasterio.windows import Window

from changedet.network.card import Card
from changedet.network.fc_siam import FCSiamDiff
from changedet.network.package import save_model

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample_data"
# Real imagery, where it is.
DATA = Path(os.environ.get("CHANGEDET_DATA", ROOT.parent / "shared" / "data"))
RGBN = ("B04", "B03", "B02", "B08")


def crop_sample(
    folder: Path, *, row: int = 352, col: int = 432, height: int = 96, width: int = 80
) -> tuple[Path, Path]:
    """Write a window of the sample pair, by default its corner, a good half of which is nodata at the second date."""
    before, after = folder / "before.tif", folder / "after.tif"
    for path in (before, after):
        with rasterio.open(SAMPLE / path.name) as source:
            window = Window(col, row, width, height)
            profile = source.profile | {"height": height, "width": width, "transform": source.window_transform(window)}
            with rasterio.open(path, "w", **profile) as target:
                target.write(source.read(window=window))
                target.descriptions = source.descriptions
                target.update_tags(**source.tags())
    return before, after


def tiny_model(path: Path, *, bands: tuple[str, ...] = RGBN, **changes: Any) -> Path:
    """Write a model of random weights, fast enough for tests of everything around the network."""
    torch.manual_seed(1810)
    network = FCSiamDiff(len(bands), width=2)
    fields: dict[str, Any] = {
        "name": path.stem,
        "summary": "A model for tests.",
        "architecture": "fc_siam_diff",
        "arguments": {"in_channels": len(bands), "width": 2},
        "bands": bands,
        "resolution_m": 10,
        "threshold": 0.5,
        "stride": network.stride,
        "receptive_field_px": 106,
        "halo_px": 64,
        "tiling": "exact",
        "directional": network.directional,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "licence": "CC0-1.0",
        "licence_note": "random weights",
        "commercial_use": True,
        "data": "none",
        "trained": "2026-01-31",
        "seed": 1810,
        "command": "none",
        "figures": {},
        "memory_bytes_per_px": 800.0,
        "versions": {},
    }
    save_model(path, network, Card(**{**fields, **changes}))
    return path
