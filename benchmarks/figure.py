"""Before, after and the polygons of a run side by side, as PNG.

python -m benchmarks.figure OUT docs/images/sample.png [--labels labels.gpkg] [--bounds LEFT BOTTOM RIGHT TOP]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from PIL import Image, ImageDraw

from changedet.grid import Window
from changedet.read import open_pair

RED, BLUE = (255, 40, 40), (60, 150, 255)
GAP = 8


def main() -> None:
    """Draw the pair of a run from its run.json, with its polygons in red and labels, if given, in blue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="output folder of a run")
    parser.add_argument("png", type=Path)
    parser.add_argument("--labels", type=Path, help="polygon layer of the truth")
    parser.add_argument("--bounds", type=float, nargs=4, help="in the CRS of the run")
    parser.add_argument("--zoom", type=int, default=1)
    options = parser.parse_args()
    record = json.loads((options.out / "run.json").read_text())
    paths = [record["inputs"][role]["path"] for role in ("before", "after")]
    with open_pair(
        *paths, bands=("B04", "B03", "B02"), bounds=tuple(options.bounds) if options.bounds else None
    ) as pair:
        height, width = pair.geobox.shape
        chip = pair.read(Window(0, 0, height, width))
        inverse = ~pair.geobox.affine
    limits = [np.percentile(np.stack([chip.before, chip.after])[:, :, chip.valid], q) for q in (1, 99)]
    images = [_picture(image, chip.valid, limits, options.zoom) for image in (chip.before, chip.after, chip.after)]
    draw = ImageDraw.Draw(images[2])
    layers = [(options.out / "changes.gpkg", RED)] + ([(options.labels, BLUE)] if options.labels else [])
    for path, colour in reversed(layers):
        for ring in _rings(gpd.read_file(path, layer="changes").geometry):
            points = [inverse * point for point in ring.coords]
            draw.line(
                [(x * options.zoom, y * options.zoom) for x, y in points], fill=colour, width=1 + options.zoom // 2
            )
    sheet = Image.new("RGB", (sum(i.width for i in images) + 2 * GAP, images[0].height), "white")
    for index, image in enumerate(images):
        sheet.paste(image, (index * (image.width + GAP), 0))
    options.png.parent.mkdir(parents=True, exist_ok=True)
    # 256 colours are enough for a look and make a quarter of the bytes.
    sheet.quantize(256).save(options.png, optimize=True)


def _picture(image: np.ndarray, valid: np.ndarray, limits: list[float], zoom: int) -> Image.Image:
    low, high = limits
    colour = np.clip((image - low) / (high - low), 0, 1) ** 0.7 * valid
    picture = Image.fromarray((colour * 255).astype(np.uint8).transpose(1, 2, 0))
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def _rings(geometries: gpd.GeoSeries) -> list[shapely.LinearRing]:
    polygons = shapely.get_parts(geometries.to_numpy())
    return list(shapely.get_rings(polygons))


if __name__ == "__main__":
    main()
