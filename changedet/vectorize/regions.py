"""Connected regions of a mask with what its pixels say of them, streamed.

The mask is read in strips of whole rows. A region is done when a strip's last row has none of it; until then its
pieces wait. So no region is split, and in memory are one strip, the regions that cross its last row, and nothing else.
GDAL's polygonize, as rasterio offers it, would hold every polygon of the raster before it gives the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, Self, TypeAlias

import numpy as np
import rasterio
import rasterio.env
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from changedet.grid.window import Window
from changedet.vectorize.islands import Island
from changedet.vectorize.polygons import Geometries, joined, outlines
from changedet.vectorize.source import rasterio_window, values_of

Connectivity: TypeAlias = Literal[4, 8]

# Some 100,000 regions of the worst noise.
_STRIP_PX = 2**21


@dataclass(frozen=True)
class Regions:
    """Connected regions of equal values.

    Attributes:
        values: (N,) uint8, of the mask.
        pixels: (N,) valid MultiPolygons in pixel coordinates.
        at_edge: (N,) bool, True where a region may go on unseen: it reaches the raster's border, or a nodata pixel's
            edge or corner.
        count: (N,) int64, pixels with a probability.
        total: (N,) float64, sum of their stored values.
        largest: (N,) float64, greatest of them, minus infinity where there are none.
        known: (N, B) int64, pixels with a value in each of the images' bands.
        sums: (N, B) float64, sums of these.
    """

    values: NDArray[np.uint8]
    pixels: Geometries
    at_edge: NDArray[np.bool_]
    count: NDArray[np.int64]
    total: NDArray[np.float64]
    largest: NDArray[np.float64]
    known: NDArray[np.int64]
    sums: NDArray[np.float64]

    @classmethod
    def none(cls, bands: int = 0) -> Self:
        """Return no regions."""
        return cls(
            np.empty(0, np.uint8),
            np.empty(0, object),
            np.empty(0, np.bool_),
            np.empty(0, np.int64),
            np.empty(0),
            np.empty(0),
            np.empty((0, bands), np.int64),
            np.empty((0, bands)),
        )

    def __len__(self) -> int:
        return len(self.values)

    def where(self, keep: NDArray[Any] | slice) -> Self:
        """Return the regions that a mask, an index or a slice along N picks."""
        return type(self)(*(getattr(self, entry.name)[keep] for entry in fields(self)))

    def and_(self, other: Self) -> Self:
        """Return these regions and then the others."""
        return type(self)(
            *(np.concatenate([getattr(self, entry.name), getattr(other, entry.name)]) for entry in fields(self))
        )


@dataclass(frozen=True)
class _Strip:
    """Whole rows of a raster, labelled: `labels` (H, W), and one region a label, which may go on above or below."""

    labels: NDArray[np.int32]
    regions: Regions


@dataclass(frozen=True)
class _Open:
    """Pieces of regions that go on.

    Attributes:
        pieces: (P,).
        groups: (P,), which of them belong together.
        bottom: (W,), the group at each pixel of the last row read, -1 for none.
    """

    pieces: Regions
    groups: NDArray[np.int64]
    bottom: NDArray[np.int64]


class Images(Protocol):
    """Bands on the mask's grid."""

    @property
    def count(self) -> int:
        """Their number."""
        ...

    def values(self, strip: Window, at: NDArray[np.intp]) -> Iterator[NDArray[np.float64]]:
        """Yield each band's values (P,) at pixels `at` (P,) of a strip, counted row by row; NaN where invalid."""
        ...


def connected_regions(
    mask: Any,
    probability: Any | None = None,
    images: Images | None = None,
    *,
    connectivity: Connectivity,
    nodata: int | None,
    island: Island | None = None,
    strip_px: int = _STRIP_PX,
) -> Iterator[Regions]:
    """Yield the regions of a mask, strip by strip; each whole, where the last of its rows has been read.

    Another thread reads the datasets meanwhile.

    Args:
        mask: an open rasterio dataset of one uint8 band.
        probability: an open rasterio dataset on the same grid, one band or one a class; invalid pixels are its nodata
            value or NaN.
        images: what else is summed under each region.
        connectivity: 8 joins pixels that share an edge or a corner, 4 only those that share an edge.
        nodata: value of the mask's unknown pixels. They make regions too; those of 0 do only where it is 0.
        island: where to look; pixels outside of it are unknown, but make no regions. None is everywhere.
        strip_px: pixels that are looked at together; the rows that follow are at least one.
    """
    island = island or Island.whole(*mask.shape)
    strips = island.bounds.strips(strip_px)
    # GDAL's options are a thread's own.
    options = rasterio.env.getenv() if rasterio.env.hasenv() else {}

    def read(strip: Window) -> _Strip:
        with rasterio.Env():
            rasterio.env.setenv(**options)
            return _read_strip(mask, probability, images, island, strip, connectivity, nodata)

    nothing = Regions.none(images.count if images else 0)
    waiting = _Open(nothing, np.empty(0, np.int64), np.full(island.bounds.width, -1))
    # The next strip is read and traced while whoever asked is at the regions of this one.
    with ThreadPoolExecutor(1, "changedet-strip") as beside:
        ahead = beside.submit(read, strips[0])
        for following in (*strips[1:], None):
            strip = ahead.result()
            if following is not None:
                ahead = beside.submit(read, following)
            done, waiting = _continued(waiting, strip, connectivity, is_last=following is None)
            yield done


def _read_strip(
    mask: Any,
    probability: Any | None,
    images: Images | None,
    island: Island,
    strip: Window,
    connectivity: Connectivity,
    nodata: int | None,
) -> _Strip:
    # With a row of neighbours on either side, which may be nodata.
    bounds = island.bounds
    top, bottom = max(bounds.row, strip.row - 1), min(bounds.stop_row, strip.stop_row + 1)
    read = Window(top, strip.col, bottom - top, strip.width)
    around, covered = mask.read(1, window=rasterio_window(read)), island.covered(read)
    inside = strip.relative_to(read).slices
    labels, values = _labelled(around[inside], covered[inside], connectivity, nodata)
    count = len(values)
    if count == 0:
        return _Strip(labels, Regions.none(images.count if images else 0))
    near_unknown = _near(~covered if nodata is None else ~covered | (around == nodata))[inside]
    at_edge = _at_edge(labels, count, near_unknown, strip.row == bounds.row, strip.stop_row == bounds.stop_row)
    # What is read beside the mask counts at the pixels of regions only, mostly few.
    at = np.flatnonzero(labels)
    owner = labels.ravel()[at] - 1
    statistics = _statistics(owner, count, _probabilities(probability, values[owner], strip, at))
    known, sums = _sums(owner, count, images, strip, at)
    pixels = outlines(labels, count, row=strip.row, col=strip.col)
    return _Strip(labels, Regions(values, pixels, at_edge, *statistics, known, sums))


def _labelled(
    mask: NDArray[np.uint8], covered: NDArray[np.bool_], connectivity: Connectivity, nodata: int | None
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return labels (H, W), 0 for none, and the value of each, (N,)."""
    structure = ndimage.generate_binary_structure(2, connectivity // 4)
    labels, values = np.zeros(mask.shape, np.int32), np.empty(0, np.uint8)
    for value in values_of(mask):
        if value == 0 and nodata != 0:
            continue
        own, count = ndimage.label((mask == value) & covered, structure, output=np.int32)
        np.add(labels, own + np.int32(len(values)), out=labels, where=own > 0)
        values = np.append(values, np.full(count, value, np.uint8))
    return labels, values


def _near(unknown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return (H, W) where a pixel is unknown or has one that is beside it or at a corner."""
    # A dilation, along one axis and then along the other: twenty times as fast as scipy's.
    tall = unknown.copy()
    tall[1:] |= unknown[:-1]
    tall[:-1] |= unknown[1:]
    near = tall.copy()
    near[:, 1:] |= tall[:, :-1]
    near[:, :-1] |= tall[:, 1:]
    return near


def _at_edge(
    labels: NDArray[np.int32], count: int, near_unknown: NDArray[np.bool_], is_first: bool, is_last: bool
) -> NDArray[np.bool_]:
    reached = np.zeros(count + 1, np.bool_)
    reached[labels[near_unknown]] = True
    reached[labels[:, [0, -1]]] = True
    if is_first:
        reached[labels[0]] = True
    if is_last:
        reached[labels[-1]] = True
    return reached[1:]


def _probabilities(
    probability: Any | None, values: NDArray[np.uint8], strip: Window, at: NDArray[np.intp]
) -> NDArray[np.float64] | None:
    """Return the stored probability (P,) of each pixel's own class, NaN where invalid.

    Args:
        probability: see `connected_regions`.
        values: of the mask (P,), at these pixels.
        strip: where they are.
        at: (P,), which pixels of it, counted row by row.
    """
    if probability is None:
        return None
    bands = probability.read(window=rasterio_window(strip)).reshape(probability.count, -1)
    own = np.clip(values.astype(np.intp), 1, len(bands)) - 1
    stored: NDArray[np.float64] = (bands[0, at] if len(bands) == 1 else bands[own, at]).astype(np.float64)
    nodata = np.array([np.nan if value is None else value for value in probability.nodatavals])
    stored[(stored == nodata[own]) | ~np.isfinite(stored)] = np.nan
    return stored


def _statistics(
    owner: NDArray[np.int32], count: int, stored: NDArray[np.float64] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return count, sum and maximum of the valid stored values (P,) of each owner (P,), (N,) each."""
    largest = np.full(count, -np.inf)
    if stored is None:
        return np.zeros(count, np.int64), np.zeros(count), largest
    known = np.isfinite(stored)
    owner, value = owner[known], stored[known]
    np.maximum.at(largest, owner, value)
    total = np.bincount(owner, weights=value, minlength=count).astype(np.float64, copy=False)
    return np.bincount(owner, minlength=count).astype(np.int64), total, largest


def _sums(
    owner: NDArray[np.int32], count: int, images: Images | None, strip: Window, at: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return count and sum of the valid values of each band at pixels (P,), by their owners (P,), both (N, B)."""
    known = np.zeros((count, images.count if images else 0), np.int64)
    sums = np.zeros(known.shape)
    for band, values in enumerate(images.values(strip, at) if images else ()):
        is_known = np.isfinite(values)
        known[:, band] = np.bincount(owner[is_known], minlength=count)
        sums[:, band] = np.bincount(owner[is_known], weights=values[is_known], minlength=count)
    return known, sums


def _continued(waiting: _Open, strip: _Strip, connectivity: Connectivity, *, is_last: bool) -> tuple[Regions, _Open]:
    """Return the regions that end in or above a strip, and those that go on below it."""
    groups, labels = int(waiting.groups.max(initial=-1)) + 1, len(strip.regions)
    above, below = _links(waiting, strip, connectivity)
    size = groups + labels
    links = coo_array((np.ones(len(above), np.bool_), (above, below + groups)), shape=(size, size))
    count, component = connected_components(links, directed=False)
    pieces = waiting.pieces.and_(strip.regions)
    owner = component[np.concatenate([waiting.groups, groups + np.arange(labels)])].astype(np.int64)
    goes_on = np.zeros(count, np.bool_)
    last_row = strip.labels[-1].astype(np.int64)
    if not is_last:
        goes_on[component[groups + last_row[last_row > 0] - 1]] = True
    # Groups are numbered anew, without those that are done.
    number = np.cumsum(goes_on) - 1
    bottom = np.full(len(last_row), -1)
    if not is_last:
        bottom[last_row > 0] = number[component[groups + last_row[last_row > 0] - 1]]
    stays = goes_on[owner]
    return _merged(pieces.where(~stays), owner[~stays]), _Open(pieces.where(stays), number[owner[stays]], bottom)


def _links(waiting: _Open, strip: _Strip, connectivity: Connectivity) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the groups above and the labels - 1 below that are one region across a strip's upper edge."""
    value_of_group = np.zeros(int(waiting.groups.max(initial=-1)) + 1, np.uint8)
    value_of_group[waiting.groups] = waiting.pieces.values
    below = strip.labels[0].astype(np.int64) - 1
    pairs = [np.empty((2, 0), np.int64)]
    for shift in (-1, 0, 1) if connectivity == 8 else (0,):
        upper = waiting.bottom[max(0, -shift) : len(below) - max(0, shift)]
        lower = below[max(0, shift) : len(below) - max(0, -shift)]
        both = (upper >= 0) & (lower >= 0)
        pair = np.stack([upper[both], lower[both]])
        pairs.append(pair[:, value_of_group[pair[0]] == strip.regions.values[pair[1]]])
    above, labels = np.concatenate(pairs, axis=1)
    return above, labels


def _merged(pieces: Regions, owner: NDArray[np.int64]) -> Regions:
    """Return one region for each owner, (M,)."""
    if len(pieces) == 0:
        return pieces
    order = np.argsort(owner, kind="stable")
    ordered = pieces.where(order)
    starts, index = np.unique(owner[order], return_index=True, return_inverse=True)[1:]
    return Regions(
        ordered.values[starts],
        joined(ordered.pixels, index.astype(np.int64)),
        np.logical_or.reduceat(ordered.at_edge, starts),
        np.add.reduceat(ordered.count, starts),
        np.add.reduceat(ordered.total, starts),
        np.maximum.reduceat(ordered.largest, starts),
        np.add.reduceat(ordered.known, starts),
        np.add.reduceat(ordered.sums, starts),
    )
