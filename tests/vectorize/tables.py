"""Layers of polygons as tables in memory."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geopandas as gpd
import pandas as pd

from changedet.config import PolygonConfig, checked
from changedet.vectorize import Labels, vectorize

_LABELS = {"date_before", "date_after", "model", "threshold"}


class Tables:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.batches: dict[str, list[gpd.GeoDataFrame]] = {}

    def write(self, layer: str, table: gpd.GeoDataFrame) -> None:
        self.batches.setdefault(layer, []).append(table)

    def joined(self, layer: str) -> gpd.GeoDataFrame:
        empty, *full = self.batches[layer]
        assert len(empty) == 0
        rows = [table for table in full if len(table)]
        return pd.concat(rows, ignore_index=True) if rows else empty


def tables(mask: Path, probability: Path | None = None, **options: Any) -> SimpleNamespace:
    """Return the layers of a mask, and what they come to."""
    sink = Tables()
    labels = Labels(**said) if (said := {n: value for n, value in options.items() if n in _LABELS}) else None
    config = checked(PolygonConfig, {name: value for name, value in options.items() if name not in _LABELS})
    findings = vectorize(mask, probability, sink=sink, config=config, labels=labels)
    return SimpleNamespace(findings=findings, **{layer: sink.joined(layer) for layer in sink.batches})
