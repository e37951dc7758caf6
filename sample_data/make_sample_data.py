"""Make the sample pair: one invented place, seen twice by a Sentinel-2 like sensor, and what was built in between.

    python make_sample_data.py [OUTPUT_FOLDER]

The place (country.py, place.py) is rendered on a grid of 2 m, blurred and averaged to 10 m. Its colours, contrast, blur
and noise follow Sentinel-2 Level-1C scenes of towns in western France. Lengths are metres.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import geopandas
import numpy as np
import rasterio
from country import Thing
from numpy.random import Generator
from numpy.typing import NDArray
from place import SITES, things
from rasterio.features import rasterize, shapes
from rasterio.transform import Affine, from_origin
from scipy.ndimage import gaussian_filter, zoom
from shapely import unary_union
from shapely.geometry import Polygon, shape
from shapes import stream

# float64 throughout: processors differ in the last digits of float32, which now and then would decide a rounding.
Floats = NDArray[np.float64]

HEIGHT, WIDTH, PIXEL_M = 448, 512, 10
FINE_M = 2
SAMPLES = PIXEL_M // FINE_M
FINE_SHAPE = (HEIGHT * SAMPLES, WIDTH * SAMPLES)
CRS = "EPSG:32631"
TRANSFORM = from_origin(436_000, 5_328_000, PIXEL_M, PIXEL_M)
BANDS = ("B04", "B03", "B02", "B08")
NODATA_CORNER = Polygon([(5121, 2180), (5121, 4481), (4520, 4481)])  # beyond the edge of the second date's swath

# The four bands in file order: light that never reached the ground, and the share of direct light that shadow keeps.
PATH = np.array([0.032, 0.050, 0.073, 0.014])
SHADOW = np.array([0.22, 0.27, 0.36, 0.20])
POINT_SPREAD_M = 3.2  # standard deviation; with the 10 m average it gives about the contrast of Sentinel-2 at Nyquist
NOISE_FLOOR, NOISE_SHARE = 4.0, 0.004  # standard deviation in digital numbers, and as a share of the signal
# A denser canopy is darker in the visible and brighter in the near infrared; anything else is brighter or darker.
DENSITY = {True: np.array([-0.9, -0.5, -0.4, 0.7]), False: np.array([1.0, 0.95, 0.9, 0.8])}


class Material(NamedTuple):
    """Reflectance at the top of the atmosphere in June, in file order, and relative texture."""

    colour: tuple[float, float, float, float]
    grain: float  # at 2 m
    patches: float  # at 20 to 200 m
    rows: float = 0.0  # along the direction of the field
    green: bool = False
    canopy_m: float = 0.0  # standard deviation of its height


MATERIALS = {
    "cereal": Material((0.086, 0.108, 0.102, 0.285), 0.05, 0.18, 0.07, True),
    "ripe": Material((0.148, 0.139, 0.124, 0.265), 0.05, 0.09, 0.06),
    "stubble": Material((0.172, 0.152, 0.136, 0.258), 0.05, 0.10, 0.07),
    "soil": Material((0.148, 0.132, 0.125, 0.212), 0.05, 0.12, 0.06),
    "dark soil": Material((0.116, 0.109, 0.112, 0.168), 0.05, 0.12, 0.06),
    "maize": Material((0.062, 0.088, 0.094, 0.320), 0.05, 0.17, 0.06, True),
    "seedlings": Material((0.108, 0.116, 0.114, 0.235), 0.05, 0.22, 0.08, True),
    "meadow": Material((0.082, 0.102, 0.106, 0.260), 0.10, 0.24, 0.03, True),
    "dry meadow": Material((0.102, 0.110, 0.112, 0.230), 0.10, 0.24, 0.03, True),
    "garden": Material((0.074, 0.089, 0.100, 0.220), 0.45, 0.22, 0.0, True, 1.6),
    "forest": Material((0.050, 0.075, 0.085, 0.285), 0.30, 0.18, 0.0, True, 1.5),
    "autumn forest": Material((0.064, 0.082, 0.087, 0.245), 0.30, 0.24, 0.0, True, 1.5),
    "asphalt": Material((0.094, 0.100, 0.115, 0.128), 0.10, 0.08),
    "parking": Material((0.112, 0.114, 0.127, 0.146), 0.38, 0.10),
    "ballast": Material((0.115, 0.108, 0.115, 0.140), 0.15, 0.10),
    "concrete": Material((0.178, 0.170, 0.172, 0.212), 0.12, 0.12),
    "gravel": Material((0.226, 0.205, 0.192, 0.262), 0.12, 0.14),
    "tile": Material((0.150, 0.122, 0.122, 0.200), 0.14, 0.0),
    "slate": Material((0.092, 0.096, 0.113, 0.120), 0.14, 0.0),
    "flat roof": Material((0.140, 0.139, 0.151, 0.165), 0.14, 0.06),
    "bright roof": Material((0.255, 0.242, 0.245, 0.275), 0.10, 0.05),
    "white roof": Material((0.325, 0.304, 0.298, 0.340), 0.08, 0.05),
    "lake": Material((0.040, 0.062, 0.083, 0.034), 0.03, 0.05),
    "river": Material((0.072, 0.084, 0.095, 0.055), 0.03, 0.08),
    "muddy river": Material((0.094, 0.095, 0.100, 0.060), 0.03, 0.08),
}


class Look(NamedTuple):
    """What differs between the dates but the ground: Thing's field, sun, haze at its densest, gain, wind noise."""

    field: str
    sun_azimuth: float
    sun_elevation: float
    haze: tuple[float, float, float, float]
    gain: tuple[float, float, float, float]
    taken: str


LOOKS = {
    "before": Look("before", 147, 60, (0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 1.0), "2017:06:17 10:50:31"),
    "after": Look("after", 168, 35, (0.011, 0.015, 0.021, 0.006), (1.02, 0.99, 1.015, 0.97), "2018:10:05 10:50:19"),
}


class Scene(NamedTuple):
    """One date on the fine grid: which thing is seen, and of each thing its properties, index 0 being nothing."""

    ids: NDArray[np.int32]
    materials: list[Material]
    things: list[Thing]
    tones: Floats

    def of(self, name: str) -> Floats:
        """A property of the materials, spread over the grid."""
        values: Floats = np.array([float(getattr(material, name)) for material in self.materials])[self.ids]
        return values


def scene_of(place: list[Thing], look: Look) -> Scene:
    """Draw what is there at the date of the look."""
    seen = [thing for thing in place if getattr(thing, look.field)]
    numbered = ((thing.outline, number) for number, thing in enumerate(seen))
    grid = Affine.scale(FINE_M)
    ids = rasterize(numbered, FINE_SHAPE, transform=grid, dtype="int32")
    date = list(LOOKS).index(look.field)
    tones = np.array([thing.tones[date] for thing in seen])
    return Scene(ids, [MATERIALS[getattr(thing, look.field)] for thing in seen], seen, tones)


def noise(rng: Generator, length_m: float, grid: tuple[int, int] = FINE_SHAPE, cell_m: float = FINE_M) -> Floats:
    """Smooth noise of unit variance."""
    field = gaussian_filter(rng.standard_normal(grid), length_m / cell_m)
    result: Floats = (field - field.mean()) / field.std()
    return result


def patchiness(date: str) -> Floats:
    """Noise of 14 to 150 m, half of its variance the ground's, the same at both dates, and half the season's."""
    layers = [
        noise(stream(f"{of} {m} m"), m, (HEIGHT, WIDTH), PIXEL_M) for of in ("ground", date) for m in (14, 45, 150)
    ]
    fine: Floats = zoom(np.sum(layers, axis=0), SAMPLES, order=1) / np.sqrt(len(layers))
    return fine


def row_texture(scene: Scene, date: str) -> Floats:
    """What sowing and spraying leave: stripes along the direction of each field."""
    angles = np.radians([thing.angle for thing in scene.things])[scene.ids]
    y, x = np.mgrid[: FINE_SHAPE[0], : FINE_SHAPE[1]] * float(FINE_M)
    across = (x + 9_000) * -np.sin(angles) + (y + 9_000) * np.cos(angles)
    profile = gaussian_filter(stream("rows" + date).standard_normal(4_096), 1.2, mode="wrap")
    stripes: Floats = profile[np.floor(across / 5).astype(int) % profile.size] / profile.std()
    return stripes


def texture(scene: Scene, look: Look) -> Floats:
    """Relative deviation from the plain colour of each thing."""
    date = look.field
    deviation = scene.of("grain") * noise(stream("grain"), 2.4) + scene.of("patches") * patchiness(date)
    clipped: Floats = np.clip(deviation + scene.of("rows") * row_texture(scene, date), -0.6, 0.8)
    return clipped


def shadow(scene: Scene, look: Look) -> NDArray[np.bool_]:
    """True = the sun is hidden by something higher that stands towards it."""
    heights = np.array([thing.height for thing in scene.things])[scene.ids]
    heights += scene.of("canopy_m") * noise(stream("crowns"), 3.5)
    azimuth, rise = np.radians(look.sun_azimuth), np.tan(np.radians(look.sun_elevation)) * FINE_M
    hidden = np.zeros(FINE_SHAPE, dtype=bool)
    for step in range(1, int(25 / rise)):
        away = round(-step * np.cos(azimuth)), round(step * np.sin(azimuth))  # rows run south
        hidden |= np.roll(heights, (-away[0], -away[1]), (0, 1)) - step * rise > heights
    return hidden


def sense(fine: Floats) -> Floats:
    """What a pixel of 10 m collects."""
    blurred = gaussian_filter(fine, POINT_SPREAD_M / FINE_M)
    pixels: Floats = blurred.reshape(HEIGHT, SAMPLES, WIDTH, SAMPLES).mean(axis=(1, 3))
    return pixels


def reflectance(place: list[Thing], look: Look) -> Floats:
    """(4, HEIGHT, WIDTH) at the top of the atmosphere."""
    scene = scene_of(place, look)
    deviation, hidden, green = texture(scene, look), shadow(scene, look), scene.of("green")
    bands = []
    for band, path in enumerate(PATH):
        colours = (np.array([material.colour[band] for material in scene.materials]) - path) * scene.tones
        density = np.where(green, DENSITY[True][band], DENSITY[False][band])
        ground = colours[scene.ids] * (1 + density * deviation) * np.where(hidden, SHADOW[band], 1.0)
        bands.append(path + sense(ground))
    return np.stack(bands)


def through_air(clear: Floats, look: Look) -> Floats:
    """Haze adds light, most in the blue, and hides a little of the ground; then each band has its own gain."""
    veil = np.clip(0.55 + 0.3 * noise(stream("haze"), 900, (HEIGHT, WIDTH), PIXEL_M), 0.05, 1.2)
    haze, gain, path = (np.array(values)[:, None, None] for values in (look.haze, look.gain, PATH))
    seen: Floats = gain * (path + (clear - path) * (1 - 3 * haze * veil) + haze * veil)
    return seen


def digital_numbers(signal: Floats, look: Look) -> NDArray[np.uint16]:
    """Reflectance times 10,000, with the noise of the sensor."""
    numbers = signal * 10_000
    spread = np.hypot(NOISE_FLOOR, NOISE_SHARE * numbers)
    noisy = numbers + spread * stream("sensor" + look.field).standard_normal(numbers.shape)
    return np.clip(np.rint(noisy), 1, 65_535).astype(np.uint16)  # 0 means nodata


def on_pixels(outline: Polygon) -> NDArray[np.bool_]:
    """True = the centre of the pixel lies inside."""
    inside: NDArray[np.uint8] = rasterize([outline], (HEIGHT, WIDTH), transform=Affine.scale(PIXEL_M), dtype="uint8")
    return inside.astype(bool)


def truth() -> geopandas.GeoDataFrame:
    """The new plots as squares of pixels, as far as both dates show them."""
    hidden = on_pixels(NODATA_CORNER)
    rows = []
    for number, site in enumerate(SITES, start=1):
        seen = (on_pixels(site.plot) & ~hidden).astype("uint8")
        squares = [shape(outline) for outline, value in shapes(seen, transform=TRANSFORM) if value]
        rows.append({"id": number, "kind": site.kind, "geometry": unary_union(squares)})
    return geopandas.GeoDataFrame(rows, crs=CRS)


def write(path: Path, numbers: NDArray[np.uint16], taken: str) -> None:
    """Write one date; `taken` is the time of acquisition as TIFF writes it."""
    layout = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate", "predictor": 2, "zlevel": 9}
    size = {"count": len(BANDS), "height": HEIGHT, "width": WIDTH, "dtype": "uint16", "nodata": 0}
    with rasterio.open(path, "w", driver="GTiff", crs=CRS, transform=TRANSFORM, **size, **layout) as scene:
        scene.write(numbers)
        scene.descriptions = BANDS
        scene.update_tags(TIFFTAG_DATETIME=taken)


def main(folder: Path) -> None:
    """Write before.tif, after.tif and labels.gpkg."""
    folder.mkdir(parents=True, exist_ok=True)
    place = list(things())
    for name, look in LOOKS.items():
        numbers = digital_numbers(through_air(reflectance(place, look), look), look)
        if name == "after":
            numbers[:, on_pixels(NODATA_CORNER)] = 0
        write(folder / f"{name}.tif", numbers, look.taken)
    truth().to_file(folder / "labels.gpkg", layer="changes", driver="GPKG")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
