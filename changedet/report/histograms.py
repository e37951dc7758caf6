"""Histograms: of the polygons' areas and of the pixels' probabilities, counted exactly, as bars to draw."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import Window as RasterioWindow

from changedet.grid.quantise import NODATA, STEPS, as_bytes, stored_threshold
from changedet.report.words import area, short_number

# Pixels that are read at once.
_PIECE_PX = 2**24
_BINS = 50


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a histogram.

    Attributes:
        start: lower bound, included.
        stop: upper bound, excluded but for the last bar.
        count: how many values.
        height: of the bar, 0..1.
        label: what it counts, for people.
        is_marked: drawn in the accent colour.
    """

    start: float
    stop: float
    count: int
    height: float
    label: str
    is_marked: bool = True


@dataclass(frozen=True)
class Histogram:
    """Bars side by side, and what is written below and said of them.

    Attributes:
        bars: of one width, from left to right.
        ticks: place along the axis, 0..1, and its label.
        levels: height, 0..1, and the count that it stands for.
        alt: what the picture shows, in a sentence.
    """

    bars: list[Bar]
    ticks: list[tuple[float, str]]
    levels: list[tuple[float, str]]
    alt: str


def size_chart(areas: NDArray[np.float64]) -> Histogram | None:
    """Return how many polygons have which area (m²), in classes of 1, 2, 5, 10 …; None where there is no polygon."""
    known = areas[np.isfinite(areas) & (areas > 0)]
    if known.size == 0:
        return None
    edges = _one_two_five(float(known.min()), float(known.max()))
    counts, _ = np.histogram(known, edges)
    bars = [
        Bar(start, stop, int(count), count / counts.max(), f"{area(start)} to {area(stop)}: {count:,}")
        for start, stop, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    every = -(-len(edges) // 5)
    ticks = [(index / len(bars), area(edge)) for index, edge in enumerate(edges)][::every]
    alt = (
        f"Histogram of {known.size:,} areas from {area(known.min())} to {area(known.max())}:"
        f" half of them are below {area(float(np.median(known)))}."
    )
    step = _one_two_five(counts.max() / 4, counts.max() / 4)[0]
    levels = [(level / counts.max(), short_number(level)) for level in np.arange(1, counts.max() // step + 1) * step]
    return Histogram(bars, ticks, levels if step >= 1 else levels[-1:], alt)


def _one_two_five(low: float, high: float) -> list[float]:
    """Return 1, 2, 5 times powers of ten from at or below `low` to above `high`."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    steps = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    first = max(index for index, step in enumerate(steps) if step <= low)
    last = min(index for index, step in enumerate(steps) if step > high)
    return steps[first : last + 1]


def probability_counts(path: str | os.PathLike[str]) -> NDArray[np.int64]:
    """Return how many valid pixels of probability.tif have each byte's value, (255,); of several classes, the top."""
    counts = np.zeros(NODATA + 1, dtype=np.int64)
    with rasterio.open(path) as dataset:
        rows = max(1, _PIECE_PX // dataset.width)
        for row in range(0, dataset.height, rows):
            window = RasterioWindow(0, row, dataset.width, min(rows, dataset.height - row))
            stored = as_bytes(dataset.read(window=window))
            highest = stored[0] if dataset.count == 1 else np.where((stored == NODATA).any(0), NODATA, stored.max(0))
            # numpy's bincount would make eight bytes of each first.
            counts += np.array(Image.fromarray(highest).histogram())
    return counts[:NODATA]


def probability_chart(counts: NDArray[np.int64], threshold: float) -> Histogram:
    """Return how many pixels have which probability, on a logarithmic scale, marked from the threshold on.

    Args:
        counts: of each stored value, (255,).
        threshold: probability from which a pixel is changed, 0..1.
    """
    bins = np.minimum(np.arange(STEPS + 1) * _BINS // STEPS, _BINS - 1)
    summed = np.bincount(bins, weights=counts, minlength=_BINS).astype(np.int64)
    heights = np.log10(summed + 1)
    top = max(float(heights.max()), math.log10(2))
    lowest = stored_threshold(threshold)
    bars = [
        Bar(
            index / _BINS,
            (index + 1) / _BINS,
            int(count),
            float(height / top),
            f"{index / _BINS:.2f} to {(index + 1) / _BINS:.2f}: {count:,} px",
            bool(index >= bins[lowest]),
        )
        for index, (count, height) in enumerate(zip(summed, heights, strict=True))
    ]
    alt = (
        f"Histogram of the probabilities of {int(counts.sum()):,} pixels:"
        f" {int(counts[lowest:].sum()):,} of them are at or above the threshold of {threshold:.3g}."
    )
    ticks = [(place, f"{place:g}") for place in (0, 0.25, 0.5, 0.75, 1)]
    levels = [(float(np.log10(10**power + 1) / top), short_number(10**power)) for power in range(0, int(top) + 1, 2)]
    return Histogram(bars, ticks, levels, alt)
