"""A model's map of one labelled scene against its truth, streamed: the chips and the stitching are those of a run."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from changedet.detect.budget import plan_within
from changedet.detect.detector import ChangeDetector
from changedet.detect.fused import fused
from changedet.detect.stitch import Progress, silent, stitch
from changedet.grid import Window
from changedet.grid.quantise import NODATA, stored_change, stored_threshold
from changedet.learn.class_counts import ClassCounts
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.datasets.labels import Labels
from changedet.learn.datasets.scene import SceneSource
from changedet.learn.objects import ObjectCounts, count_objects
from changedet.write.raster import RasterLayout, RasterSink, mask_of


@dataclass(frozen=True, slots=True)
class SceneScore:
    """What a map of one scene is worth.

    Attributes:
        name: of the scene.
        pixels: its valid pixels whose truth is known, by stored probability and truth.
        objects: at the threshold it was scored with.
        classes: likewise, pixels by their class of change; None where map and labels do not tell the same ones apart.
    """

    name: str
    pixels: ProbabilityHistogram
    objects: ObjectCounts
    classes: ClassCounts | None = None


class ScoringSink:
    """A `WindowSink` that compares what it takes with the truth and keeps counts and two masks, not probabilities.

    Args:
        labels: on the same grid.
        lowest: stored probability from which a pixel is changed.
        mask: takes the map's changed pixels.
        truth: takes the truth's, where the map is valid.
        channels: of what it takes, the first so many are probabilities; the rest is not looked at.
        by_class: count classes of change too.
    """

    def __init__(
        self, labels: Labels, lowest: int, mask: RasterSink, truth: RasterSink, *, channels: int, by_class: bool
    ) -> None:
        self._labels = labels
        self._channels = channels
        self._lowest = lowest
        self._mask = mask
        self._truth = truth
        self.pixels = ProbabilityHistogram.empty()
        self.classes = ClassCounts.empty(channels) if by_class else None

    def write(self, window: Window, array: NDArray[np.uint8]) -> None:
        """Take the stored probabilities (K, H, W); of several kinds of change, that of any counts."""
        array = array[: self._channels]
        stored = stored_change(array)
        truth, known = self._labels.read(window)
        counted, changed = known & (stored != NODATA), truth > 0
        self.pixels = self.pixels + ProbabilityHistogram.of(stored, changed, counted)
        if self.classes is not None:
            self.classes += ClassCounts.of(mask_of(array, self._lowest), truth, counted, classes=self._channels)
        self._mask.write(window, (counted & (stored >= self._lowest)).astype(np.uint8))
        self._truth.write(window, (counted & changed).astype(np.uint8))


def score_scene(
    source: SceneSource,
    detector: ChangeDetector,
    *,
    threshold: float,
    max_memory: int,
    all_pixels: bool = False,
    channels: int | None = None,
    by_class: bool = False,
    progress: Progress = silent,
) -> SceneScore:
    """Map a scene and compare the map with its truth.

    Args:
        source: of any size.
        detector: its bands are read.
        threshold: probability from which a pixel is changed, for the objects.
        max_memory: bytes the process may hold.
        all_pixels: count every pixel of the labels, those without a map as mapped unchanged.
        channels: how many of the detector's channels, from the first, are probabilities; None for all.
        by_class: count the classes of change too, which are those of the labels.
        progress: hears of each chip.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(source.open(detector.bands))
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="changedet-")))
        geobox = opened.pair.geobox
        height, width = geobox.shape
        detector = fused(detector, opened.pair, progress)
        plan = plan_within(height, width, detector, halo=detector.halo, max_memory=max_memory)
        layout = RasterLayout(geobox)
        with RasterSink(work / "mask.tif", layout) as mask, RasterSink(work / "truth.tif", layout) as truth:
            sink = ScoringSink(
                opened.labels,
                stored_threshold(threshold),
                mask,
                truth,
                channels=channels or detector.classes,
                by_class=by_class,
            )
            stitch(opened.pair, detector, plan, sink, progress)
        objects = count_objects(work / "mask.tif", work / "truth.tif", pixel_m2=source.resolution_m() ** 2)
        pixels = _completed(sink.pixels, opened.labels) if all_pixels else sink.pixels
    return SceneScore(source.name, pixels, objects, sink.classes)


def _completed(pixels: ProbabilityHistogram, labels: Labels) -> ProbabilityHistogram:
    """Add the labelled pixels that have no map, invalid or outside the pair's overlap, at probability 0."""
    changed, unchanged = labels.totals()
    full = ProbabilityHistogram(pixels.changed.copy(), pixels.unchanged.copy())
    full.changed[0] += changed - pixels.changed.sum()
    full.unchanged[0] += unchanged - pixels.unchanged.sum()
    return full
