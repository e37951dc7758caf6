"""Products in the layouts of their agencies, made small: the same ground as Sentinel-2 or Landsat would deliver it."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from tests.data import NORTH_UP, UTM, texture, write_raster

# Name, pixel size and band_id of the Sentinel-2 bands that the tests need.
SAFE_BANDS = {"B02": (10, 1), "B03": (10, 2), "B04": (10, 3), "B08": (10, 7), "B05": (20, 4), "B01": (60, 0)}


def ground(size: int, pixel: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Return reflectance of a square of `size` m in pixels of `pixel` m, the mean of the same 10 m pixels."""
    fine = texture(size // 10, size // 10, seed=seed).astype(np.float64)
    step = pixel // 10
    return fine.reshape(size // pixel, step, size // pixel, step).mean(axis=(1, 3))


def _write_jp2(path: Path, image: NDArray[np.uint16], pixel: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = image.shape
    transform = Affine(pixel, 0, NORTH_UP.c, 0, -pixel, NORTH_UP.f)
    profile = {"driver": "JP2OpenJPEG", "height": height, "width": width, "count": 1, "dtype": image.dtype}
    options = {"QUALITY": "100", "REVERSIBLE": "YES"}
    with rasterio.open(path, "w", crs=UTM, transform=transform, **profile, **options) as dataset:
        dataset.write(image, 1)


def make_safe(
    folder: Path, *, level: str = "L1C", baseline: str = "05.09", seed: int = 0, scl: NDArray[np.uint8] | None = None
) -> Path:
    """Write a `.SAFE` of 600 m; from baseline 04.00 on, values carry the offset and the metadata say so."""
    shifted = baseline >= "04.00"
    name = f"S2A_MSI{level}_20220203T105251_N{baseline.replace('.', '')}_R051_T31TCJ_20220203T130000.SAFE"
    images = folder / name / "GRANULE" / "L1C_T31TCJ" / "IMG_DATA"
    for band, (pixel, _) in SAFE_BANDS.items():
        stored = np.rint(ground(600, pixel, seed=seed) * 10_000 + (1000 if shifted else 0)).astype(np.uint16)
        where = images if level == "L1C" else images / f"R{pixel}m"
        suffix = "" if level == "L1C" else f"_{pixel}m"
        _write_jp2(where / f"T31TCJ_20220203T105251_{band}{suffix}.jp2", stored, pixel)
    if scl is not None:
        _write_jp2(images / "R20m" / "T31TCJ_20220203T105251_SCL_20m.jp2", scl, 20)
    kind, tag = ("RADIO", "QUANTIFICATION_VALUE") if level == "L1C" else ("BOA", "BOA_QUANTIFICATION_VALUE")
    offsets = "".join(
        f'<{kind}_ADD_OFFSET band_id="{number}">-1000</{kind}_ADD_OFFSET>' for _, number in SAFE_BANDS.values()
    )
    (folder / name / f"MTD_MSI{level}.xml").write_text(
        "<n1:Product><PRODUCT_START_TIME>2022-02-03T10:52:51.024Z</PRODUCT_START_TIME>"
        f"<PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>"
        f'<{tag} unit="none">10000</{tag}>{offsets if shifted else ""}</n1:Product>'
    )
    return folder / name


_MTL = """GROUP = LANDSAT_METADATA_FILE
  GROUP = IMAGE_ATTRIBUTES
    DATE_ACQUIRED = 2020-06-01
    SUN_ELEVATION = 30.0
  END_GROUP = IMAGE_ATTRIBUTES
  GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
{level2}
  END_GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
  GROUP = LEVEL1_RADIOMETRIC_RESCALING
{level1}
  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING
END_GROUP = LANDSAT_METADATA_FILE
"""


def make_landsat(
    folder: Path, *, level: int = 2, sensor: str = "LC08", quality: NDArray[np.uint16] | None = None, seed: int = 0
) -> Path:
    """Write a Landsat Collection 2 folder of 600 m; the first row is fill."""
    product = f"{sensor}_L{'2SP' if level == 2 else '1TP'}_022049_20200601_20200824_02_T1"
    (folder / product).mkdir(parents=True)
    numbers = range(1, 8) if sensor[1] == "C" else (1, 2, 3, 4, 5, 7)
    image = ground(600, 30, seed=seed)
    for number in numbers:
        # Level 1 stores reflectance times the sine of the sun's elevation, here 0.5.
        value = (image + 0.2) / 2.75e-05 if level == 2 else (image * 0.5 + 0.1) / 2e-05
        stored = np.rint(value).astype(np.uint16)
        stored[0] = 0
        part = f"SR_B{number}" if level == 2 else f"B{number}"
        _geotiff(folder / product / f"{product}_{part}.TIF", stored)
    if quality is not None:
        _geotiff(folder / product / f"{product}_QA_PIXEL.TIF", quality)
    rows = {
        key: "\n".join(f"    REFLECTANCE_MULT_BAND_{n} = {mult}\n    REFLECTANCE_ADD_BAND_{n} = {add}" for n in numbers)
        for key, mult, add in (("level2", 2.75e-05, -0.2), ("level1", 2e-05, -0.1))
    }
    (folder / product / f"{product}_MTL.txt").write_text(_MTL.format(**rows))
    return folder / product


def _geotiff(path: Path, stored: NDArray[np.uint16]) -> None:
    write_raster(path, stored, transform=Affine(30, 0, NORTH_UP.c, 0, -30, NORTH_UP.f))
