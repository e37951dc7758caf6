"""The loop that one would write without changedet: windows of 256 px through torch, then shapes into geopandas.

    python -m benchmarks.loop BEFORE AFTER MODEL OUT

MODEL is one of ours, or `torchgeo`: its FCSiamDiff as it comes, with weights as they are drawn, for scale. Prints JSON:
seconds of the whole job, as the process sees it, imports included.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
CHIP, STRIDE = 256, 192


def main() -> None:
    """Map a pair and write raster and polygons."""
    before, after, model, out = sys.argv[1:]
    import geopandas as gpd
    import numpy as np
    import rasterio
    import torch
    from rasterio.features import shapes
    from rasterio.windows import Window
    from shapely.geometry import shape

    probability_of, threshold = _torchgeo() if model == "torchgeo" else _ours(model)
    with rasterio.open(before) as first, rasterio.open(after) as second:
        height, width = first.shape
        scale = 255 if first.dtypes[0] == "uint8" else 10_000
        total, count = np.zeros((2, height, width), np.float32)
        for row in range(0, max(1, height - CHIP + STRIDE), STRIDE):
            for col in range(0, max(1, width - CHIP + STRIDE), STRIDE):
                window = Window(min(col, width - CHIP), min(row, height - CHIP), CHIP, CHIP)
                images = [
                    torch.from_numpy(d.read(window=window).astype(np.float32) / scale)[None] for d in (first, second)
                ]
                rows, cols = window.toslices()
                total[rows, cols] += probability_of(*images)[0, 0].numpy()
                count[rows, cols] += 1
        probability = total / count
        profile = first.profile | {"count": 1, "dtype": "float32", "nodata": None}
        crs, transform = first.crs, first.transform
    with rasterio.open(Path(out) / "loop.tif", "w", **profile) as raster:
        raster.write(probability, 1)
    mask = (probability >= threshold).astype(np.uint8)
    found = [shape(polygon) for polygon, value in shapes(mask, mask=mask == 1, transform=transform)]
    gpd.GeoDataFrame(geometry=found, crs=crs).to_file(Path(out) / "loop.gpkg")
    print(json.dumps({"seconds": time.perf_counter() - STARTED, "px": height * width}))


def _ours(model: str) -> tuple[Any, float]:
    from changedet.network.package import load_model

    network = load_model(model)
    return network.probability, network.card.threshold


def _torchgeo() -> tuple[Any, float]:
    import torch
    from torchgeo.models import FCSiamDiff

    network = FCSiamDiff(in_channels=3, classes=1, encoder_weights=None).eval()

    @torch.inference_mode()
    def probability(before: Any, after: Any) -> Any:
        return network(torch.stack([before, after], dim=1)).sigmoid()

    # Above any that drawn weights give: what is timed is the network and the loop, not polygons of noise.
    return probability, 1.0


if __name__ == "__main__":
    main()
