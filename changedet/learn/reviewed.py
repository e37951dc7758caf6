"""A user's pair with polygons they reviewed: which pixels to learn from, and which to keep apart for the proof."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from changedet.config import NEUTRAL_REFLECTANCE, RunConfig
from changedet.detect.choose import bands_for
from changedet.detect.prepare import prepare
from changedet.detect.scenes import reading_options
from changedet.errors import ConfigError, PairError
from changedet.grid import Window
from changedet.learn.datasets.labels import Bools, PolygonLabels, read_polygons
from changedet.learn.datasets.training import LabelledScene
from changedet.network.card import Card, Place
from changedet.read.pair import Correction, PairOptions, RasterPair
from changedet.read.scene import Scene
from changedet.read.target import crop

# How far beyond the polygons (px) the pair is taken as reviewed where no layer says so, and read for its context.
MARGIN_PX = 48
# Between what is learned and what is held out (px): a building's edge must not be on both sides.
_GAP_PX = 8
_BLOCKS_PER_AXIS = 4
_FEWEST_TO_HOLD_OUT = 4
_LARGEST_PX = 40_000_000


@dataclass(frozen=True, slots=True)
class ReviewedPair:
    """A pair cut to what was reviewed, in memory.

    Attributes:
        scene: all bands of the model, an optional one that is missing neutral; valid where it is to be learned from.
        refuted: bool (H, W), True = a reviewed false alarm to learn from.
        held_out: bool (H, W), True = known and valid, and not to be learned from.
        polygons: how many polygons of change there are, and how many of them are held out.
        place: where it lies.
    """

    scene: LabelledScene
    refuted: Bools
    held_out: Bools
    polygons: tuple[int, int]
    place: Place


@dataclass(frozen=True, slots=True)
class CutPair:
    """Both dates of a pair, the part that was reviewed, and how they are read; opened anew each time."""

    before: Scene
    after: Scene
    options: PairOptions
    correction: Correction

    def open(self) -> RasterPair:
        """Open it."""
        return RasterPair(self.before, self.after, self.options, self.correction)


def review(
    scenes: tuple[Scene, Scene], labels: Path, card: Card, reading: RunConfig, *, held_out_share: float, seed: int
) -> tuple[ReviewedPair, CutPair]:
    """Read a pair where it was reviewed, and split it in space.

    What was reviewed is the layer named area, aoi or reviewed of the file of labels; without one, the bounding box of
    the polygons and `MARGIN_PX` around it. There all that is no polygon of change is unchanged.

    Args:
        scenes: both dates.
        labels: file of polygons, see `read_polygons`.
        card: of the model, for its bands.
        reading: how the pair is read, as in a run.
        held_out_share: of the polygons of change.
        seed: of the split.

    Raises:
        PairError: no polygon of change lies on valid pixels.
        ConfigError: the reviewed area is too large to hold in memory.
    """
    bands = bands_for(card, scenes)
    first, second = (scene.select(bands) for scene in scenes)
    options = reading_options(reading)
    with RasterPair(first, second, options) as pair:
        polygons, area = read_polygons(labels, pair.geobox)
        area = _bounding(polygons, pair.geobox) if area is None else area
        bounds = _bounds(polygons, area, pair.geobox)
    options = replace(options, grid=replace(options.grid, bounds=bounds))
    with RasterPair(first, second, options) as pair:
        preparation = prepare(pair, coregister=reading.coregister, normalize=reading.normalize)
    cut = CutPair(first, second, options, preparation.correction)
    with cut.open() as pair:
        height, width = pair.geobox.shape
        if height * width > _LARGEST_PX:
            raise ConfigError(
                f"the reviewed area has {height} x {width} px",
                expected=f"at most {_LARGEST_PX:,} px",
                remedy="a layer named area in the file of labels, around a part of the polygons",
            )
        whole = Window(0, 0, height, width)
        chip = pair.read(whole)
        truth = PolygonLabels(polygons, area, pair.geobox)
        kinds, known = truth.read(whole)
        valid = known & chip.valid
        if not ((kinds > 0) & valid).any():
            raise PairError(f"no polygon of change in {labels} lies on valid pixels", expected="at least one")
        held = _hold_out(polygons, held_out_share, seed)
        apart = _held_region(held, pair.geobox)
        learned = valid & ~ndimage.binary_dilation(apart, iterations=_GAP_PX) if apart.any() else valid
        before, after = (_completed(image, bands, card.bands) for image in (chip.before, chip.after))
        box = pair.geobox.geographic_extent.boundingbox
        name = labels.stem
    reviewed = ReviewedPair(
        scene=LabelledScene(name, before, after, kinds, learned),
        refuted=truth.refuted(whole) & learned,
        held_out=valid & apart,
        polygons=(int(_is_change(polygons).sum()), int((held.polygons & _is_change(polygons)).sum())),
        place=Place(name=name, bounds=(box.left, box.bottom, box.right, box.top)),
    )
    return reviewed, cut


def _is_change(polygons: gpd.GeoDataFrame) -> Bools:
    """Return which polygons are changes, bool (N,); the others are reviewed false alarms."""
    changes: Bools = polygons["kind"].to_numpy() > 0
    return changes


def _bounding(polygons: gpd.GeoDataFrame, geobox: GeoBox) -> shapely.Geometry:
    box: shapely.Geometry = shapely.box(*polygons.total_bounds)
    return shapely.buffer(box, MARGIN_PX * _pixel(geobox), join_style="mitre")


def _pixel(geobox: GeoBox) -> float:
    """Return the larger side of a pixel (CRS units)."""
    return max(abs(geobox.resolution.x), abs(geobox.resolution.y))


def _bounds(polygons: gpd.GeoDataFrame, area: shapely.Geometry, geobox: GeoBox) -> tuple[float, float, float, float]:
    """Return the bounds (CRS units) of all that is known and its context, inside the pair."""
    around = shapely.box(*shapely.union(area, shapely.box(*polygons.total_bounds)).bounds)
    wanted = shapely.buffer(around, MARGIN_PX * _pixel(geobox), join_style="mitre")
    left, bottom, right, top = crop(geobox, wanted.bounds).boundingbox.bbox
    return left, bottom, right, top


def _completed(image: NDArray[np.float32], given: tuple[str, ...], wanted: tuple[str, ...]) -> NDArray[np.float16]:
    complete = np.full((len(wanted), *image.shape[1:]), NEUTRAL_REFLECTANCE, np.float16)
    complete[[wanted.index(band) for band in given]] = image
    return complete


@dataclass(frozen=True, slots=True)
class Split:
    """What is held out.

    Attributes:
        polygons: bool (N,), True = held out.
        held: their geometries and those of the blocks they lie in.
        learned: geometries of the polygons to learn from, which cut into such blocks.
    """

    polygons: Bools
    held: NDArray[np.object_]
    learned: NDArray[np.object_]


def _hold_out(polygons: gpd.GeoDataFrame, share: float, seed: int) -> Split:
    """Hold out whole blocks of a lattice over the polygons, and whole polygons, until their share is reached.

    Nothing is held out where there are fewer than four polygons of change, or all of them lie in one block.
    """
    shapes, changed = polygons.geometry.to_numpy(), _is_change(polygons)
    blocks = _block_boxes(shapely.total_bounds(shapes[changed]))
    points = shapely.point_on_surface(shapes)
    of_polygon = np.array([int(np.argmin(shapely.distance(blocks, point))) for point in points])
    wanted = math.ceil(share * changed.sum()) if changed.sum() >= _FEWEST_TO_HOLD_OUT else 0
    chosen: list[int] = []
    order = np.random.default_rng(seed).permutation(np.unique(of_polygon[changed]))
    for block in order[:-1]:  # the last is always left to learn from
        if int((np.isin(of_polygon, chosen) & changed).sum()) < wanted:
            chosen.append(int(block))
    held = np.isin(of_polygon, chosen)
    return Split(held, np.concatenate([shapes[held], blocks[chosen]]), shapes[~held])


def _block_boxes(bounds: NDArray[np.float64]) -> NDArray[np.object_]:
    left, bottom, right, top = bounds
    xs, ys = (np.linspace(a, b, _BLOCKS_PER_AXIS + 1) for a, b in ((left, right), (bottom, top)))
    return np.array([shapely.box(xs[i], ys[j], xs[i + 1], ys[j + 1]) for j in range(4) for i in range(4)], dtype=object)


def _held_region(split: Split, geobox: GeoBox) -> Bools:
    """Return the pixels of what is held out, less those of polygons to learn from, bool (H, W)."""
    height, width = geobox.shape
    masks = [
        PolygonLabels(gpd.GeoDataFrame({"kind": np.ones(len(part), np.uint8)}, geometry=part), None, geobox)
        for part in (split.held, split.learned)
    ]
    held, learned = (mask.read(Window(0, 0, height, width))[0] > 0 for mask in masks)
    return held & ~learned
