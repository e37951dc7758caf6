"""Which files each tile reads, and by what they are known again: a tile is done again when one of its own changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from changedet.batch.pieces import Rectangle, pieces_of
from changedet.config import RunConfig
from changedet.detect.scenes import open_scenes, reading_options
from changedet.grid import ChipPlan
from changedet.grid.lattice import pixel_offset, transformed
from changedet.read.quality import quality_of
from changedet.read.scene import Scene
from changedet.remote import is_named_to_gdal
from changedet.write.provenance import fingerprint

# Size, time of change (ns) and digest of a file.
Known = tuple[int, int, str]
# First row, first column, last row, last column (px).
Bounds = tuple[float, float, float, float]
# A kernel, a rounded edge and a displacement reach a little further than the pixels asked for (px).
_MARGIN: Final = 16.0
# Boxes that only touch share no pixel (px).
_INSIDE: Final = 0.25
# Points along each edge of a source that is warped.
_POINTS: Final = 21


@dataclass(frozen=True, slots=True)
class Source:
    """A file, and where in a scene its pixels are seen.

    Attributes:
        path: of the file.
        place: what says the same of two files at the same place: that, and the band.
        bounds: on the grid of the mosaic; infinite for what lies everywhere.
    """

    path: str
    place: str
    bounds: Bounds


# Begins what is no digest of what a file holds.
_BY_NAME: Final = "name:"
_EVERYWHERE: Final[Bounds] = (-np.inf, -np.inf, np.inf, np.inf)


class Files:
    """Digests of files; those whose size and time are as they were known need not be read again.

    Args:
        known: path → what was known.
    """

    def __init__(self, known: dict[str, Known]) -> None:
        self._known = known
        self.seen: dict[str, Known] = {}

    def digest(self, path: str) -> str:
        """Return the digest of a file's size and ends; of one that is not on a local disk, or not there, its name."""
        if is_named_to_gdal(path):
            return f"{_BY_NAME}{path}"
        if path not in self.seen:
            try:
                self.seen[path] = self._look(path)
            except OSError:
                # The tiles that read it will tell.
                return f"{_BY_NAME}{path} is missing"
        return self.seen[path][2]

    def _look(self, path: str) -> Known:
        status = os.stat(path)  # noqa: PTH116  # of as many files as there are tiles
        then = self._known.get(path)
        if then is not None and then[:2] == (status.st_size, status.st_mtime_ns):
            return then
        return status.st_size, status.st_mtime_ns, fingerprint(path)["sha256_ends"]


@dataclass(frozen=True, slots=True, eq=False)
class TileInputs:
    """What the tiles of one mosaic read, in their order.

    Attributes:
        digests: of all that a tile reads, one a tile.
        identical: bool (tiles,), whether it reads the same at both dates.
        covered: bool (tiles,), whether both dates have pixels there.
    """

    digests: list[str]
    identical: NDArray[np.bool_]
    covered: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class MosaicInputs:
    """The sources of both dates of a mosaic, with their digests."""

    dates: tuple[list[tuple[Source, str]], list[tuple[Source, str]]]

    @property
    def digest(self) -> str:
        """Of all of them."""
        return _joined(f"{source.place} {digest}" for date in self.dates for source, digest in date)

    def of_tiles(self, plan: ChipPlan, windows: NDArray[np.int32]) -> TileInputs:
        """Return what tiles read.

        Args:
            plan: the chips of the mosaic.
            windows: row, column, height and width of each tile (tiles, 4), counted from the mosaic's first pixel.
        """
        boxes = _boxes(_reads(plan, windows))
        before, after = (_digests(date, boxes) for date in self.dates)
        return TileInputs(
            [_joined(pair) for pair in zip(before, after, strict=True)],
            np.array([first == second and _BY_NAME not in first for first, second in zip(before, after, strict=True)]),
            np.array([bool(first) and bool(second) for first, second in zip(before, after, strict=True)]),
        )


def inputs_of(before: str, after: str, geobox: GeoBox, config: RunConfig, files: Files) -> MosaicInputs:
    """Look at the files of a mosaic.

    Args:
        before: as a run takes it.
        after: likewise.
        geobox: grid of the mosaic.
        config: options, of which some name files.
        files: gives digests.

    Raises:
        NotFoundError, SceneError: a file is not there.
    """
    scenes = open_scenes(before, after, config)
    asked = reading_options(config).valid_mask
    dates = [
        [(source, files.digest(source.path)) for source in _sources(scene, mask, geobox, moved=bool(config.coregister))]
        for scene, mask in zip(scenes, asked, strict=True)
    ]
    return MosaicInputs((dates[0], dates[1]))


def _sources(scene: Scene, mask: str, geobox: GeoBox, *, moved: bool) -> Iterator[Source]:
    """Yield the files of a scene, each once, in a fixed order."""
    quality = quality_of(scene, mask)
    bands = [*scene.bands, *([quality.band] if quality else [])]
    for path, grid in {band.path: band.geobox for band in bands}.items():
        direct = not moved and pixel_offset(grid, geobox) is not None
        yield from _of_file(path, grid, geobox, 0.0 if direct else _MARGIN)


def _of_file(path: str, grid: GeoBox, geobox: GeoBox, margin: float) -> Iterator[Source]:
    for piece in pieces_of(path, grid):
        yield Source(piece.path, piece.place, _bounds(grid, piece.rectangle, geobox, margin))


def _bounds(grid: GeoBox, rectangle: Rectangle, geobox: GeoBox, margin: float) -> Bounds:
    """Return where a rectangle of one grid lies on another, with a margin (px)."""
    row, col, height, width = rectangle
    if not np.isfinite(rectangle).all() or grid.crs is None:
        return _EVERYWHERE
    steps = np.linspace(0, 1, _POINTS)
    rows, cols = np.meshgrid(row + height * steps, col + width * steps, indexing="ij")
    x, y = transformed(grid.affine, cols.ravel(), rows.ravel())
    if grid.crs != geobox.crs:
        x, y = Transformer.from_crs(grid.crs, geobox.crs, always_xy=True).transform(x, y)
    cols, rows = transformed(~geobox.affine, np.asarray(x), np.asarray(y))
    if not (np.isfinite(rows).all() and np.isfinite(cols).all()):
        return _EVERYWHERE
    # Between the points along an edge of a warped rectangle its outline bends.
    bend = 0.0 if grid.crs == geobox.crs else max(float(np.ptp(rows)), float(np.ptp(cols))) / _POINTS
    margin += bend
    return (
        float(rows.min()) - margin,
        float(cols.min()) - margin,
        float(rows.max()) + margin,
        float(cols.max()) + margin,
    )


def _reads(plan: ChipPlan, windows: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return what the chips of tiles read: first row, first column, last row, last column (tiles, 4)."""
    columns = []
    for axis in (0, 1):
        spans = sorted({_span(chip.core, axis) + _span(chip.read, axis) for chip in plan.chips})
        core_start, core_stop, read_start, read_stop = np.array(spans).T
        start, stop = windows[:, axis], windows[:, axis] + windows[:, axis + 2]
        first = np.searchsorted(core_stop, start, side="right")
        last = np.searchsorted(core_start, stop, side="left") - 1
        columns.append((read_start[first], read_stop[last]))
    (top, bottom), (left, right) = columns
    return np.stack([top, left, bottom, right], axis=1).astype(np.float64)


def _span(window: Any, axis: int) -> tuple[int, int]:
    return (window.row, window.stop_row) if axis == 0 else (window.col, window.stop_col)


def _boxes(reads: NDArray[np.float64]) -> Any:
    top, left, bottom, right = reads.T
    return shapely.box(left + _INSIDE, top + _INSIDE, right - _INSIDE, bottom - _INSIDE)


def _digests(date: Sequence[tuple[Source, str]], boxes: Any) -> list[str]:
    """Return what the tiles read at one date, one text a tile, empty where it reads nothing."""
    told = [f"{source.place} {digest}" for source, digest in date]
    limits = np.clip(np.array([source.bounds for source, _ in date]), -1e12, 1e12)
    tree = shapely.STRtree(shapely.box(limits[:, 1], limits[:, 0], limits[:, 3], limits[:, 2]))
    tiles, sources = tree.query(boxes)
    order = np.lexsort((sources, tiles))
    tiles, sources = tiles[order], sources[order]
    edges = np.searchsorted(tiles, np.arange(len(boxes) + 1))

    @cache  # most tiles read what their neighbours read
    def joined(which: tuple[int, ...]) -> str:
        return "\n".join(told[index] for index in which)

    return [joined(tuple(sources[start:stop].tolist())) for start, stop in pairwise(edges)]


def _joined(texts: Any) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
