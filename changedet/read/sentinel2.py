"""Sentinel-2 products: the `.SAFE` folder, and the offset that came with processing baseline 04.00.

Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD (version 14.9 and later): reflectance is
(stored + offset) / quantification, where the offset is -1000 from baseline 04.00 on and was 0 before.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from changedet.errors import SceneError
from changedet.read import bands as names
from changedet.read.dates import parse_date
from changedet.read.folder import bands_of_files, is_raster
from changedet.read.scene import Band, Scene

_QUANTIFICATION = 10_000.0
_OFFSET = -1000.0
_FIRST_WITH_OFFSET = 400
# The order of `band_id` in the metadata.
_BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_PRODUCT_NAME = re.compile(r"S2[A-D]_MSIL(?:1C|2A)_\d{8}T\d{6}_N(\d{4})_")


def is_safe(folder: Path) -> bool:
    """Return whether a folder is a Sentinel-2 product in its own layout."""
    return (folder / "GRANULE").is_dir()


def open_safe(folder: Path) -> Scene:
    """Open a `.SAFE` folder of level 1C or 2A.

    Raises:
        SceneError: it has no metadata, not one granule, or no bands.
    """
    granules = sorted(path for path in (folder / "GRANULE").iterdir() if (path / "IMG_DATA").is_dir())
    if len(granules) != 1:
        raise SceneError(
            f"{folder} holds {len(granules)} granules",
            expected="one",
            remedy="name the IMG_DATA folder of one granule" if granules else "fetch the product again",
        )
    metadata = _metadata(folder)
    files = sorted(filter(is_raster, (granules[0] / "IMG_DATA").rglob("*.jp2")))
    found = [(_band_of(file), str(file)) for file in files]
    named = [(name, file) for name, file in found if name is not None]
    if not named:
        raise SceneError(f"{folder} holds no bands", expected="…_B02.jp2 and others in GRANULE/*/IMG_DATA")
    bands = bands_of_files(named, str(folder))
    scaling = {band.name: _scaling(metadata, band.name) for band in bands}
    scaled = tuple(
        replace(band, scale=scaling[band.name][0], offset=scaling[band.name][1], scaled_by="product metadata")
        for band in bands
    )
    scl = next((f"scl:{file}" for file in files if re.search(r"_SCL(_20m)?\.jp2$", file.name)), None)
    level = "L2A" if "BOA_QUANTIFICATION_VALUE" in metadata else "L1C"
    baseline = re.search(r"<PROCESSING_BASELINE>([\d.]+)<", metadata)
    product = f"Sentinel-2 {level}" + (f", baseline {baseline[1]}" if baseline else "")
    return Scene(str(folder), scaled, _date(metadata), scl, product)


def _metadata(folder: Path) -> str:
    files = [*folder.glob("MTD_MSIL*.xml"), *folder.glob("*MTD_SAFL*.xml")]
    if not files:
        raise SceneError(
            f"{folder} has no metadata, without which its offset and scale are not known",
            expected="MTD_MSIL1C.xml or MTD_MSIL2A.xml",
            remedy="fetch the product again, or name its IMG_DATA folder with --scale 0.0001 and --offset",
        )
    # Few elements are wanted, all without children: no need to trust a parser with a file from elsewhere.
    return files[0].read_text(encoding="utf-8", errors="replace")


def _band_of(file: Path) -> str | None:
    name = names.in_file_name(file.stem)
    return name if name in _BAND_IDS else None


def _scaling(metadata: str, name: str) -> tuple[float, float]:
    """Return scale and offset of a band to reflectance."""
    quantification = re.search(r"<(?:BOA_)?QUANTIFICATION_VALUE[^>]*>\s*([\d.]+)", metadata)
    divisor = float(quantification[1]) if quantification else _QUANTIFICATION
    number = _BAND_IDS.index(name)
    offset = re.search(rf'<(?:BOA|RADIO)_ADD_OFFSET\s+band_id="{number}"\s*>\s*(-?[\d.]+)', metadata)
    return 1 / divisor, (float(offset[1]) if offset else 0.0) / divisor


def _date(metadata: str) -> str | None:
    started = re.search(r"<(?:DATATAKE_SENSING_START|PRODUCT_START_TIME)>([^<]+)<", metadata)
    return parse_date(started[1]) if started else None


def with_offset_of_baseline(scene: Scene) -> Scene:
    """Return the scene with the offset of its baseline, where a product's name in its path says which that is.

    Files taken out of a `.SAFE` folder keep their values, and lose the metadata that explain them.
    """
    return replace(scene, bands=tuple(map(_with_offset, scene.bands)))


def _with_offset(band: Band) -> Band:
    product = _PRODUCT_NAME.search(band.path)
    if product is None or band.dtype != "uint16" or (band.scale, band.offset) != (1.0, 0.0):
        return band
    offset = _OFFSET if int(product[1]) >= _FIRST_WITH_OFFSET else 0.0
    why = f"processing baseline {product[1][:2]}.{product[1][2:]} in the product's name"
    return replace(band, scale=1 / _QUANTIFICATION, offset=offset / _QUANTIFICATION, scaled_by=why)
