"""Batches made by hand: tiles cut out of whole rasters, as if workers had computed them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.batch.manifest import Manifest
from changedet.batch.outcome import DONE, FAILED, Outcomes, tile_folder
from changedet.grid import Window
from changedet.write.raster import RasterLayout, RasterSink, mask_layout, probability_layout, to_cog


def outcomes_of(manifest: Manifest, failed: Sequence[str] = ()) -> Outcomes:
    """Return the outcome of a batch of which some tiles failed."""
    rows = [
        {
            "state": FAILED if tile.id in failed else DONE,
            "has_files": tile.id not in failed,
            "error": "SceneError" if tile.id in failed else None,
            "message": "damaged, =1+1\n  try: another" if tile.id in failed else None,
            "attempts": 3 if tile.id in failed else 1,
            "seconds": 1.5,
            "changed_px": None if tile.id in failed else 10,
            "known_px": None if tile.id in failed else 100,
        }
        for tile in manifest.tiles()
    ]
    return Outcomes(manifest, pa.Table.from_pylist(rows))


def layouts_of(geobox: GeoBox) -> dict[str, RasterLayout]:
    """Return the layouts of a batch's rasters."""
    tags = {"MODEL": "tiny", "THRESHOLD": "0.5"}
    return {"mask.tif": mask_layout(geobox, tags=tags), "probability.tif": probability_layout(geobox, tags=tags)}


def write_tiles(out: Path, outcomes: Outcomes, wholes: dict[str, NDArray[np.uint8]]) -> None:
    """Cut the rasters of the tiles out of whole ones, (H, W) by their names."""
    whole = layouts_of(outcomes.manifest.geobox)
    for tile in outcomes.with_files():
        folder = tile_folder(out, tile.id)
        folder.mkdir(parents=True)
        layouts = layouts_of(outcomes.manifest.geobox[tile.window.slices])
        assert layouts.keys() == whole.keys()
        for name, layout in layouts.items():
            with RasterSink(folder / "plain.tif", layout) as sink:
                values = np.ascontiguousarray(wholes[name][tile.window.slices])
                sink.write(Window(0, 0, tile.window.height, tile.window.width), values)
            to_cog(folder / "plain.tif", folder / name, overview_resampling="nearest")
            (folder / "plain.tif").unlink()


def read_whole(path: Path) -> NDArray[np.uint8]:
    """Return the first band of a raster."""
    with rasterio.open(path) as dataset:
        values: NDArray[np.uint8] = dataset.read(1)
    return values
