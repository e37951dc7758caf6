"""From the tiles of a batch to one result: mosaics over their rasters, and polygons that no tile's edge cuts.

The polygons are those of a run over each whole pair of mosaics, by the sweep that `changedet run` does. It holds one
strip and what crosses it, so memory does not grow with the batch, and as rows and columns count from the first pixel of
the mosaic, a polygon has the same id and the same corners whatever the tiles were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox

from changedet.batch.manifest import Tile
from changedet.batch.outcome import Outcomes, tile_folder
from changedet.config import PolygonConfig
from changedet.detect.rasters import MASK, PROBABILITY
from changedet.vectorize import Findings, Imagery, Labels, LayerSink, vectorize
from changedet.vectorize.islands import islands_of
from changedet.write.raster import RasterLayout
from changedet.write.vrt import TileFile, add_overviews, write_vrt

_CLASSES: Final = frozenset({MASK})


@dataclass(frozen=True, eq=False)
class Part:
    """A mosaic of a batch whose tiles are computed.

    Attributes:
        name: of the mosaic.
        labels: what its polygons say of their run.
        imagery: its scenes; None where directions cannot be told.
    """

    name: str
    labels: Labels
    imagery: Imagery | None


def write_mosaics(out: Path, work: Path, outcomes: Outcomes, layouts: Mapping[str, RasterLayout]) -> list[str]:
    """Write a virtual raster over each kind of raster that tiles have, and overviews of the whole.

    Args:
        out: output folder of the batch, where the tiles lie.
        work: a folder in it; what is made there is to be moved to `out`.
        outcomes: the tiles.
        layouts: name of a tile's raster → what the whole is.

    Returns:
        The names of the files in `work`.
    """
    made = []
    tiles, layouts = list(outcomes.with_files()), _with_stored_crs(layouts, out, outcomes)
    for name, layout in layouts.items():
        mosaic = work / f"{Path(name).stem}.vrt"
        # Overviews are computed from where the tiles are seen, while the mosaic is in `work`.
        seen_mosaic(mosaic, out, tiles, name, layout)
        overviews = add_overviews(mosaic, resampling="nearest" if name in _CLASSES else "average")
        write_vrt(mosaic, layout, _files(Path(), tiles, name))
        made += [path.name for path in (mosaic, overviews) if path is not None]
    return made


def seen_mosaic(path: Path, out: Path, tiles: Iterable[Tile], name: str, layout: RasterLayout) -> Path:
    """Write a virtual raster that can be read wherever it lies, as it has the tiles' absolute paths; return it.

    Args:
        path: file to make.
        out: output folder of the batch.
        tiles: with files.
        name: of the tiles' raster.
        layout: of the whole.
    """
    write_vrt(path, layout, _files(out.absolute(), tiles, name))
    return path


def join_polygons(
    out: Path,
    work: Path,
    outcomes: Outcomes,
    parts: Iterable[Part],
    layouts: Mapping[str, RasterLayout],
    *,
    sink: LayerSink,
    config: PolygonConfig,
) -> Findings:
    """Trace the polygons of every mosaic over the edges of its tiles; those of two mosaics never join.

    What the layers `footprint` and `unknown` tell of are the tiles: ground between them was not asked for.

    Args:
        out: output folder of the batch, where the tiles lie.
        work: folder for temporary files.
        outcomes: the tiles.
        parts: the mosaics, each once.
        layouts: of `MASK` and `PROBABILITY`, see `write_mosaics`.
        sink: where the rows go.
        config: which polygons, and their shape.

    Returns:
        What all of them come to.
    """
    layouts = _with_stored_crs(layouts, out, outcomes)
    findings: Findings | None = None
    for part in parts:
        whole = outcomes.manifest.mosaic(part.name).window
        mask, probability = work / "one-mask.vrt", work / "one-probability.vrt"
        for path, name in ((mask, MASK), (probability, PROBABILITY)):
            grid = layouts[name].geobox[whole.slices]
            files = [
                TileFile(file.href, file.window.relative_to(whole))
                for file in _files(out.absolute(), outcomes.with_files(part.name), name)
            ]
            write_vrt(path, replace(layouts[name], geobox=grid), files)
        asked = outcomes.windows(part.name) - np.array([whole.row, whole.col, 0, 0], np.int32)
        labels, imagery = part.labels, part.imagery
        more = vectorize(
            mask, probability, sink=sink, config=config, labels=labels, imagery=imagery, islands=islands_of(asked)
        )
        if findings is None:
            findings = more
        else:
            findings.add_mask(more)
    if findings is None:
        raise ValueError("a batch without mosaics")
    return findings


def _with_stored_crs(layouts: Mapping[str, RasterLayout], out: Path, outcomes: Outcomes) -> dict[str, RasterLayout]:
    """Return layouts whose CRS is in the words of the tiles: a GeoTIFF does not give back the text that it took.

    The ids of polygons are hashes of that text, among others, and a mosaic must give those of a single file.
    """
    first = next(outcomes.with_files(), None)
    if first is None:
        return dict(layouts)
    with rasterio.open(tile_folder(out, first.id) / MASK) as mask:
        crs = mask.crs
    return {
        name: replace(layout, geobox=GeoBox(layout.geobox.shape, layout.geobox.affine, crs))
        for name, layout in layouts.items()
    }


def _files(out: Path, tiles: Iterable[Tile], name: str) -> list[TileFile]:
    return [TileFile((tile_folder(out, tile.id) / name).as_posix(), tile.window) for tile in tiles]
