"""Landsat Collection 2 products: a folder of GeoTIFFs with the metadata file MTL, as text, JSON or XML.

Landsat 8-9 Collection 2 Level 2 Science Product Guide (LSDS-1619) and Level 1 Data Format Control Book (LSDS-1822).
"""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from changedet.errors import SceneError
from changedet.read import bands as names
from changedet.read.dates import parse_date
from changedet.read.folder import bands_of_files
from changedet.read.scene import Scene

_OLI = {"1": "B01", "2": "B02", "3": "B03", "4": "B04", "5": "B8A", "6": "B11", "7": "B12", "9": "B10"}
_TM = {"1": "B02", "2": "B03", "3": "B04", "4": "B08", "5": "B11", "7": "B12"}
_SENSORS = {"LC08": _OLI, "LC09": _OLI, "LO08": _OLI, "LE07": _TM, "LT05": _TM, "LT04": _TM}
_BAND_FILE = re.compile(
    r"(?P<sensor>L[CEOT]0[4-9])_L\w\w\w_\d{6}_(?P<date>\d{8})_\d{8}_02_\w\w_(?P<level2>SR_)?B(?P<number>\d)\.TIF",
    re.IGNORECASE,
)
# (group, key) → value. Keys repeat between levels: groups tell.
_Metadata: TypeAlias = dict[tuple[str, str], str]
# The same for every scene of Collection 2, so that a folder without its MTL can still be understood.
_LEVEL2_SCALING = (2.75e-05, -0.2)


def is_landsat_folder(folder: Path) -> bool:
    """Return whether a folder holds bands named as Landsat Collection 2 names them."""
    return any(_BAND_FILE.fullmatch(file.name) for file in folder.iterdir())


def open_landsat(folder: Path) -> Scene:
    """Open a Landsat Collection 2 folder, its surface reflectance where it has any, else top of atmosphere.

    Raises:
        SceneError: level 1 without its metadata, or no band that is known.
    """
    matches = [(match, file) for file in sorted(folder.iterdir()) if (match := _BAND_FILE.fullmatch(file.name))]
    level2 = any(match["level2"] for match, _ in matches)
    wanted = [(match, file) for match, file in matches if bool(match["level2"]) == level2]
    first = wanted[0][0]
    sensor = first["sensor"].upper()
    known = [(name, match["number"], file) for match, file in wanted if (name := _SENSORS[sensor].get(match["number"]))]
    numbers = {name: number for name, number, _ in known}
    named = [(name, str(file)) for name, _, file in known]
    if not named:
        raise SceneError(f"{folder} holds none of the bands 1 to 7", expected="…_SR_B4.TIF and others")
    metadata = _metadata(folder)
    bands = []
    for band in bands_of_files(named, str(folder)):
        scale, offset = _scaling(metadata, numbers[band.name], level2=level2, folder=folder)
        also = names.stand_ins(band.name, "landsat")
        nodata = 0.0 if band.nodata is None else band.nodata  # fill is 0 in Collection 2, tagged or not
        bands.append(replace(band, scale=scale, offset=offset, scaled_by="product metadata", also=also, nodata=nodata))
    quality = next((f"qa_pixel:{file}" for file in sorted(folder.glob("L*_QA_PIXEL.[Tt][Ii][Ff]"))), None)
    level = "surface reflectance" if level2 else "top of atmosphere"
    date = parse_date(metadata.get(("IMAGE_ATTRIBUTES", "DATE_ACQUIRED"), first["date"]))
    return Scene(str(folder), tuple(bands), date, quality, f"Landsat Collection 2 {sensor}, {level}")


def _metadata(folder: Path) -> _Metadata:
    """Return what the MTL file says, the text before its twins; nothing without one."""
    for suffix, read in {"txt": _of_text, "json": _of_json, "xml": _of_xml}.items():
        for file in sorted(folder.glob(f"L*_MTL.{suffix}")):
            try:
                return read(file.read_text(encoding="utf-8", errors="replace"))
            except (ValueError, AttributeError, TypeError, KeyError, ET.ParseError) as error:
                raise SceneError(
                    f"{file} is damaged ({error})",
                    expected="metadata of Landsat Collection 2",
                    remedy="fetch the product again",
                ) from error
    return {}


def _of_text(content: str) -> _Metadata:
    found: _Metadata = {}
    groups: list[str] = []
    for line in content.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            groups.append(value)
        elif key == "END_GROUP" and groups:
            groups.pop()
        elif groups:
            found[groups[-1], key] = value.strip('"')
    return found


def _of_json(content: str) -> _Metadata:
    groups = json.loads(content)["LANDSAT_METADATA_FILE"]
    return {(group, key): str(value) for group, values in groups.items() for key, value in values.items()}


def _of_xml(content: str) -> _Metadata:
    groups = ET.fromstring(content)  # noqa: S314  # expat bounds the expansion of entities since 2.4.1
    return {(group.tag, value.tag): value.text or "" for group in groups for value in group}


def _scaling(metadata: _Metadata, number: str, *, level2: bool, folder: Path) -> tuple[float, float]:
    """Return scale and offset of band `number` to reflectance."""
    group = "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS" if level2 else "LEVEL1_RADIOMETRIC_RESCALING"
    if level2 and not metadata:
        return _LEVEL2_SCALING
    try:
        scale = float(metadata[group, f"REFLECTANCE_MULT_BAND_{number}"])
        offset = float(metadata[group, f"REFLECTANCE_ADD_BAND_{number}"])
        if level2:
            return scale, offset
        # Level 1 is as if the sun stood overhead; surfaces seen under a lower sun are darker by its sine.
        sun = math.sin(math.radians(float(metadata["IMAGE_ATTRIBUTES", "SUN_ELEVATION"])))
        return scale / sun, offset / sun
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise SceneError(
            f"{folder} does not say how band {number} becomes reflectance ({error})",
            expected="a file …_MTL.txt, .json or .xml with it",
            remedy="fetch the product again",
        ) from error
