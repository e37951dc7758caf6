"""Both dates as pictures on the run's grid, and the probability: read coarsely, in bounded memory, encoded to a budget.

Picture pixels are whole multiples of the grid's pixels, so what is drawn over them lies exactly where it belongs.
"""

from __future__ import annotations

import base64
import io
import math
import os
from dataclasses import dataclass, replace

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.enums import Resampling

from changedet.grid.quantise import NODATA, STEPS, as_bytes
from changedet.grid.window import Window, blocks
from changedet.read.bands import describe
from changedet.read.coarse import coarsened
from changedet.read.displacement import NONE, Displacement
from changedet.read.pair import Correction, PairOptions, RasterPair, common_bands
from changedet.read.reader import SceneReader
from changedet.read.scene import Scene
from changedet.report.colours import RAMP

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

# Some 2,000 x 2,000: more than a screen shows at once, and two of them take 100 MB as float32 and 4 MB as WebP.
MOST_PX = 4_000_000
# WebP holds 16,383 px a side.
LONGEST_PX = 8_000
# In the file, before base64 makes four bytes of three.
MOST_BYTES = 1_750_000
MOST_BYTES_PROBABILITY = 900_000

_BLOCK_PX = 512
_QUALITIES = (45, 60, 75, 85, 92)
# In a mosaic of the two dates of one place, the darkest and the brightest fiftieth are shadows, glint and clouds.
_PERCENTILES = (2.0, 98.0)
# Pixels of a date that they are taken from, or somewhat more.
_STRETCHED_PX = 250_000
# Rows of a picture in every so many that tell how large its WebP will be, and how much larger it may come out.
_TOLD_ROWS, _OF_ROWS, _SURE = 32, 512, 1.1
_NATURAL = ("B04", "B03", "B02")
_FALSE = ("B08", "B04", "B03")


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a grid becomes a picture.

    Attributes:
        step: grid pixels between two samples along an axis.
        samples: samples along an axis that are averaged for one picture pixel.
        height: rows of the picture.
        width: columns of the picture.
    """

    step: int
    samples: int
    height: int
    width: int

    @property
    def factor(self) -> int:
        """Grid pixels of a picture pixel along an axis."""
        return self.step * self.samples

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns of the grid that the picture covers, the last picture pixel in full."""
        return self.height * self.factor, self.width * self.factor

    def sampled(self, geobox: GeoBox) -> GeoBox:
        """Return the grid of the samples."""
        own, step = geobox.affine, self.step
        affine = Affine(step * own.a, step * own.b, own.c, step * own.d, step * own.e, own.f)
        return GeoBox((self.height * self.samples, self.width * self.samples), affine, geobox.crs)


def reduction(height: int, width: int) -> Reduction:
    """Return the finest picture of a grid that stays within `MOST_PX` and `LONGEST_PX`.

    Up to a factor of 3 every grid pixel counts. Beyond, two samples along each axis are averaged, which tames aliasing
    and leaves most of what would have to be read and resampled alone.
    """
    factor = 1
    while _too_large(-(-height // factor), -(-width // factor)):
        factor += 1 if factor < 4 else 2
    step, samples = (1, factor) if factor < 4 else (factor // 2, 2)
    return Reduction(step, samples, -(-height // factor), -(-width // factor))


def _too_large(height: int, width: int) -> bool:
    return height * width > MOST_PX or max(height, width) > LONGEST_PX


@dataclass(frozen=True)
class Picture:
    """An encoded picture and where it lies.

    Attributes:
        uri: `data:` URI of a WebP.
        extent: rows and columns of the grid that it covers, from the grid's first pixel on.
        alt: what it shows, for those who do not see it.
    """

    uri: str
    extent: tuple[int, int]
    alt: str


def date_pictures(
    before: Scene,
    after: Scene,
    geobox: GeoBox,
    *,
    options: PairOptions,
    displacements: tuple[Displacement, Displacement] = (NONE, NONE),
    names: tuple[str, str] = ("before", "after"),
) -> tuple[Picture, Picture]:
    """Return both dates in one stretch, transparent where a date has no valid pixel.

    Args:
        before: the earlier scene, with all of its bands.
        after: the later scene.
        geobox: the run's grid.
        options: how the run read the pair.
        displacements: of each date, which the run removed, px of `geobox`.
        names: what to call the dates in the alternative texts.

    Raises:
        SceneError: a file is damaged or truncated.
        PairError: the scenes have no band in common.
    """
    bands, shown = _shown_bands(before, after)
    scenes = before.select(bands), after.select(bands)
    plan = reduction(*geobox.shape)
    with _reduced_pair(scenes, geobox, plan, options=options, displacements=displacements) as pair:
        images = [_read(reader, plan, geobox) for reader in pair.readers]
    low, high = _stretch(images)
    first, second = (
        Picture(encode(_rgba(image, valid, low, high)), plan.extent, f"{name}, {shown}")
        for (image, valid), name in zip(images, names, strict=True)
    )
    return first, second


def _shown_bands(before: Scene, after: Scene) -> tuple[tuple[str, ...], str]:
    shared = common_bands(before, after)
    for bands, what in ((_NATURAL, "natural colour"), (_FALSE, "false colour")):
        if set(bands) <= set(shared):
            return bands, f"{what} ({', '.join(describe(band) for band in bands)} as red, green, blue)"
    if len(shared) < 3:
        return shared[:1], f"{_described(shared[0])} in grey"
    return shared[:3], f"{', '.join(_described(band) for band in shared[:3])} as red, green, blue"


def _described(band: str) -> str:
    return f"band {band}" if band.isdigit() else describe(band)


def _reduced_pair(
    scenes: tuple[Scene, Scene],
    geobox: GeoBox,
    plan: Reduction,
    *,
    options: PairOptions,
    displacements: tuple[Displacement, Displacement],
) -> RasterPair:
    """Return the pair on the grid of the samples: what the run read, or every so many of its pixels."""
    grid = plan.sampled(geobox)
    if plan.step == 1:
        before, after = displacements
        return RasterPair(*scenes, options, Correction(after, displacement_before=before), geobox=grid)
    coarse = coarsened(scenes[0], grid), coarsened(scenes[1], grid)
    before, after = (displacement.on_pixels_of(plan.step) for displacement in displacements)
    correction = Correction(after, displacement_before=before)
    return RasterPair(*coarse, replace(options, resampling="nearest"), correction, geobox=grid)


def _read(reader: SceneReader, plan: Reduction, geobox: GeoBox) -> tuple[Floats, Bools]:
    """Return one date, reflectance (bands, height, width), and valid (height, width), of the picture's size."""
    samples = plan.samples
    image = np.zeros((len(reader.scene.bands), plan.height, plan.width), dtype=np.float32)
    valid = np.zeros((plan.height, plan.width), dtype=np.bool_)
    for window in blocks(plan.height, plan.width, _BLOCK_PX):
        fine = Window(*(samples * part for part in (window.row, window.col, window.height, window.width)))
        pixels, known = reader.read(fine)
        known &= _inside(fine, plan.step, geobox)
        counts = _summed(known.astype(np.float32), samples)
        sums = _summed(np.where(known, pixels, 0), samples)
        rows, cols = window.slices
        image[:, rows, cols] = sums / np.maximum(counts, 1)
        valid[window.slices] = counts > 0
    return image, valid


def _inside(window: Window, step: int, geobox: GeoBox) -> Bools:
    """Return which samples of a window lie on the run's grid: the last picture pixels reach out of it."""
    rows, cols = (
        (np.arange(start, stop) + 0.5) * step < length
        for start, stop, length in zip(
            (window.row, window.col), (window.stop_row, window.stop_col), geobox.shape, strict=True
        )
    )
    inside: Bools = rows[:, None] & cols[None]
    return inside


def _summed(array: Floats, samples: int) -> Floats:
    """Return the sums over `samples` x `samples` of the last two axes."""
    # One of each cell's samples after another: numpy sums along an axis this short a pixel at a time.
    parts = [array[..., row::samples, col::samples] for row in range(samples) for col in range(samples)]
    sums: Floats = parts[0].copy()
    for part in parts[1:]:
        sums += part
    return sums


def _stretch(images: list[tuple[Floats, Bools]]) -> tuple[Floats, Floats]:
    """Return the reflectance (bands, 1, 1) that becomes black and white, from the valid pixels of both dates."""
    step = max(1, math.isqrt(images[0][1].size // _STRETCHED_PX))
    known = np.concatenate([image[:, ::step, ::step][:, valid[::step, ::step]] for image, valid in images], axis=1)
    if known.shape[1] == 0:
        return np.zeros((len(known), 1, 1), np.float32), np.ones((len(known), 1, 1), np.float32)
    low, high = np.percentile(known, _PERCENTILES, axis=1).astype(np.float32)[:, :, None, None]
    return low, np.maximum(high, low + 1e-6)


def _rgba(image: Floats, valid: Bools, low: Floats, high: Floats) -> NDArray[np.uint8]:
    """Return a stretched picture, uint8 (height, width, 4)."""
    bytes_ = np.rint(255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)
    colours = np.broadcast_to(bytes_, (3, *valid.shape))
    return np.dstack([*np.where(valid, colours, 0), np.where(valid, 255, 0).astype(np.uint8)])


def probability_picture(path: str | os.PathLike[str]) -> Picture:
    """Return probability.tif in colours, transparent where nothing could be compared; of classes the highest."""
    with rasterio.open(path) as dataset:
        plan = reduction(dataset.height, dataset.width)
        size = (dataset.count, plan.height, plan.width)
        stored = as_bytes(dataset.read(out_shape=size, resampling=Resampling.average))
        extent = dataset.height, dataset.width
    known = (stored != NODATA).all(axis=0)
    colours = np.where(known, _palette()[:, np.minimum(stored.max(axis=0), STEPS)], 0)
    pixels = np.dstack([*colours, np.where(known, 255, 0)]).astype(np.uint8)
    return Picture(encode(pixels, MOST_BYTES_PROBABILITY), extent, "probability of change")


def _palette() -> NDArray[np.uint8]:
    """Return the colour (3, 255) of each stored probability."""
    places = [probability * STEPS for probability, _ in RAMP]
    channels = np.array([colour for _, colour in RAMP], dtype=float).T
    return np.stack([np.interp(np.arange(STEPS + 1), places, channel) for channel in channels]).astype(np.uint8)


def encode(pixels: NDArray[np.uint8], most_bytes: int = MOST_BYTES) -> str:
    """Return RGBA pixels as a `data:` URI of a WebP of at most `most_bytes`, as good as fits.

    Where the lowest quality is still too large, as for noise, the picture is halved.
    """
    image = Image.fromarray(pixels)
    if (pixels[..., 3] == 255).all():
        image = image.convert("RGB")
    while (found := _best_within(image, most_bytes)) is None:
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BOX)
    return "data:image/webp;base64," + base64.b64encode(found).decode()


def _best_within(image: Image.Image, most_bytes: int) -> bytes | None:
    """Return the WebP of the highest quality that fits, or None; as few as can be are tried, as each takes time."""
    part, share = _part_of(image)
    likely = [quality for quality in _QUALITIES if len(_webp(part, quality)) * _SURE <= most_bytes * share]
    for quality in (*reversed(likely), _QUALITIES[0]):
        found = _webp(image, quality)
        if len(found) <= most_bytes:
            return found
    return None


def _part_of(image: Image.Image) -> tuple[Image.Image, float]:
    """Return rows from all over a picture as one, and their share of it."""
    pixels = np.asarray(image)
    rows = np.arange(len(pixels)) % _OF_ROWS < _TOLD_ROWS
    return Image.fromarray(pixels[rows]), float(rows.mean())


def _webp(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=3)
    return stream.getvalue()
