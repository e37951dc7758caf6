"""Pairs that touch and agree become one mosaic, and every mosaic gets its window on the one grid of the batch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from changedet.batch.mosaic import can_be_mosaicked, on_one_lattice, signature, union
from changedet.batch.names import distinct
from changedet.batch.sources import Pair, Unmatched
from changedet.errors import PairError
from changedet.grid import Window
from changedet.grid.lattice import crs_name, pixel_offset
from changedet.read.align import footprint_window, ground_resolution, overlap
from changedet.read.target import GridOptions, crop_to, target_grid, with_resolution

# A pixel of the batch may be so much longer or shorter on the ground than one of the mosaic: beyond, the CRS of the
# batch does not suit the place.
_MOST_STRETCH: Final = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Pairs that are one mosaic.

    Attributes:
        name: its own, and safe as the name of a folder.
        pairs: at least one; of several all touch, and agree in dates, bands and lattice.
    """

    name: str
    pairs: tuple[Pair, ...]

    @property
    def grids(self) -> tuple[GeoBox, GeoBox]:
        """Grids of the mosaic's finest band, before and after."""
        before = union(pair.before.geobox for pair in self.pairs)
        return before, union(pair.after.geobox for pair in self.pairs)


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A group, and its window on the grid of the batch.

    Attributes:
        group: the pairs.
        window: where they lie.
        warped: whether the before scenes have to be resampled to that grid; a run of the mosaic alone would not.
    """

    group: Group
    window: Window
    warped: bool


def group_pairs(pairs: Sequence[Pair], *, apart: bool) -> list[Group]:
    """Return the mosaics that pairs make up.

    Args:
        pairs: in the order in which they are to be seen where they overlap, the last on top.
        apart: each pair is a mosaic of its own, and has its own Preparation, even where it touches others.
    """
    if apart or len(pairs) == 1:
        return [Group(pair.name, (pair,)) for pair in pairs]
    order = {pair.name: number for number, pair in enumerate(pairs)}
    groups = [group for alike in _alike(pairs) for group in _touching(alike)]
    groups.sort(key=lambda group: order[group[0].name])
    names = distinct(group[0].name if len(group) == 1 else "mosaic" for group in groups)
    return [Group(name, tuple(group)) for name, group in zip(names, groups, strict=True)]


def _alike(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Return pairs together that agree in all that a mosaic has one of."""
    found: dict[Hashable, list[list[Pair]]] = defaultdict(list)
    for pair in pairs:
        scenes = pair.before, pair.after
        if not all(map(can_be_mosaicked, scenes)):
            found[id(pair)].append([pair])
            continue
        alike = found[pair.dates, *((signature(scene), _spacing(scene.geobox)) for scene in scenes)]
        same = next((group for group in alike if _on_one_lattice(group[0], pair)), None)
        if same is None:
            alike.append([pair])
        else:
            same.append(pair)
    return [group for alike in found.values() for group in alike]


def _spacing(grid: GeoBox) -> Hashable:
    """Return what grids of one lattice have in common: a quick test before the exact one."""
    return str(grid.crs), *(float(f"{value:.6g}") for value in grid.affine[:2] + grid.affine[3:5])


def _on_one_lattice(one: Pair, other: Pair) -> bool:
    return on_one_lattice(one.before, other.before) and on_one_lattice(one.after, other.after)


def _touching(pairs: list[Pair]) -> list[list[Pair]]:
    """Return pairs together that are connected by pixels that touch, even at a corner."""
    first = pairs[0].before.geobox
    windows = [
        Window(*(pixel_offset(first, it.before.geobox) or (0, 0)), *map(int, it.before.geobox.shape)) for it in pairs
    ]
    boxes = shapely.box(*np.array([(w.col, w.row, w.stop_col, w.stop_row) for w in windows], dtype=float).T)
    one, other = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    links = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(pairs), len(pairs)))
    count, labels = connected_components(links, directed=False)
    return [[pair for pair, label in zip(pairs, labels, strict=True) if label == number] for number in range(count)]


def place_on_grid(
    groups: Sequence[Group], options: GridOptions, *, refuse_warps: bool
) -> tuple[GeoBox, list[Placed], list[Unmatched]]:
    """Return the grid of the batch, the mosaics on it, and those that have no place there.

    The grid of one mosaic is that of a run of it. That of several is of the CRS and pixels that most of them have.

    Args:
        groups: at least one.
        options: what the user says of the grid.
        refuse_warps: mosaics whose pixels would have to be resampled are left out.

    Raises:
        PairError: none has a place on it.
    """
    if len(groups) == 1:
        geobox = target_grid(*groups[0].grids, options)
        warped = pixel_offset(groups[0].grids[0], geobox) is None
        return geobox, [Placed(groups[0], _whole(geobox), warped)], []
    grids = [overlap(*group.grids) for group in groups]
    geobox = _grid_of_all(grids, options)
    found = [_place(group, grid, geobox, refuse_warps) for group, grid in zip(groups, grids, strict=True)]
    placed = [place for place in found if isinstance(place, Placed)]
    left = [place for place in found if isinstance(place, Unmatched)]
    if not placed:
        raise PairError(f"no mosaic has a place on the grid of the batch: {left[0].source}: {left[0].why}")
    return geobox, placed, left


def _whole(geobox: GeoBox) -> Window:
    return Window(0, 0, *map(int, geobox.shape))


def _grid_of_all(grids: list[GeoBox], options: GridOptions) -> GeoBox:
    """Return the grid of all, with the pixels that most have, or what the user says."""
    geobox = options.like
    if geobox is None:
        ((spacing, _),) = Counter(map(_spacing, grids)).most_common(1)
        geobox = next(grid for grid in grids if _spacing(grid) == spacing)
        if options.res is not None:
            geobox = with_resolution(geobox, *options.res)
        windows = [window for window in (footprint_window(geobox, grid) for grid in grids) if window is not None]
        row, col = min(w.row for w in windows), min(w.col for w in windows)
        height, width = max(w.stop_row for w in windows) - row, max(w.stop_col for w in windows) - col
        geobox = GeoBox((height, width), geobox.translate_pix(col, row).affine, geobox.crs)
    return crop_to(geobox, options)


def _place(group: Group, grid: GeoBox, geobox: GeoBox, refuse_warps: bool) -> Placed | Unmatched:
    source = f"{group.pairs[0].sources[0]} and {group.pairs[0].sources[1]}"
    footprint = footprint_window(geobox, grid)
    window = footprint and footprint.intersect(_whole(geobox))
    if window is None:
        return Unmatched(source, "it lies outside the grid of the batch")
    warped = pixel_offset(grid, geobox) is None
    if warped and refuse_warps:
        return Unmatched(source, f"it lies on another grid than the batch, {_told(grid)} and not {_told(geobox)}")
    part = geobox[window.slices]
    stretch = [one / other for one, other in zip(ground_resolution(part), ground_resolution(grid), strict=True)]
    if max(*stretch, *(1 / ratio for ratio in stretch)) > _MOST_STRETCH:
        size = " x ".join(f"{length:.3g}" for length in ground_resolution(part))
        own = " x ".join(f"{length:.3g}" for length in ground_resolution(grid))
        return Unmatched(
            source, f"its pixels of {own} m would become {size} m on the grid of the batch, {_told(geobox)}"
        )
    return Placed(group, window, warped)


def _told(grid: GeoBox) -> str:
    return f"{abs(grid.affine.a):.6g} units of {crs_name(grid.crs)}"
