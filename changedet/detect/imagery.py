"""The bands of both dates that tell which way a change went."""

from __future__ import annotations

from odc.geo.geobox import GeoBox

from changedet.read.align import turned_to
from changedet.read.pair import Correction, PairOptions, RasterPair
from changedet.read.scene import Scene
from changedet.vectorize import Imagery
from changedet.vectorize.direction import INFRARED, VISIBLE
from changedet.vectorize.images import ImageBand


def imagery_of(
    scenes: tuple[Scene, Scene], reading: PairOptions, correction: Correction, geobox: GeoBox | None = None
) -> Imagery | None:
    """Return the bands that both dates have of those that directions need, or None where there are none.

    Args:
        scenes: before and after.
        reading: how they are read.
        correction: what was put right: of it, how far the dates are displaced.
        geobox: the grid of the mask, where it was decided before; what `reading` says when None.
    """
    wanted = tuple(name for name in (*VISIBLE, INFRARED) if all(name in scene.names for scene in scenes))
    selected = [scene.select(wanted) for scene in scenes]
    # Of a file whose control points bend, it is not known well enough where a polygon lies on its pixels.
    if not wanted or any(band.by_gcps for scene in selected for band in scene.bands):
        return None
    with RasterPair(selected[0], selected[1], reading, geobox=geobox) as pair:
        dates = [
            tuple(
                ImageBand(
                    name=band.name,
                    path=band.path,
                    index=band.index,
                    scale=scaling.scale,
                    offset=scaling.offset,
                    nodata=nodata.value,
                    geobox=turned_to(band.geobox, pair.geobox),
                )
                for band, scaling, nodata in zip(scene.bands, pair.scaling[which], pair.nodata[which], strict=True)
            )
            for which, scene in enumerate((pair.before, pair.after))
        ]
    displacements = (correction.displacement_before, correction.displacement)
    before, after = (None if displacement.is_none else displacement.at for displacement in displacements)
    return Imagery(dates[0], dates[1], (before, after))
