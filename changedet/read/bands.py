"""Band names: everything is called by its Sentinel-2 name, and known under its common name too.

Near infrared is the one band where sensors differ in kind: Sentinel-2 has a broad one (B08) and a narrow one (B8A),
the others have one that stands in for either.

The common names are those of the STAC EO extension (https://github.com/stac-extensions/eo#common-band-names).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from changedet.errors import ConfigError

COMMON_NAMES = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge071": "B05",
    "rededge075": "B06",
    "rededge078": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
}
_SENTINEL2 = frozenset(COMMON_NAMES.values())
_COMMON_OF = {name: common for common, name in COMMON_NAMES.items()}

# Two digits on purpose: 'B5' or 'band 5' is red edge on one sensor and near infrared on another.
_IN_FILE_NAME = re.compile(r"(?:^|[_\-. ])(B\d\d|B8A)(?=[_\-. ]|$)", re.IGNORECASE)


def canonical(label: str) -> str | None:
    """Return the Sentinel-2 name a label stands for, or None where it does not say for certain.

    >>> canonical("B04"), canonical("NIR"), canonical("vis-red"), canonical("band 5")
    ('B04', 'B08', 'B04', None)
    """
    text = label.strip()
    if text.upper() in _SENTINEL2:
        return text.upper()
    return COMMON_NAMES.get(text.lower().removeprefix("vis-"))


def in_file_name(stem: str) -> str | None:
    """Return the band a file name without its suffix ends in or carries, e.g. B02 of `T31TCJ_2018_B02_10m`."""
    found = [match.upper() for match in _IN_FILE_NAME.findall(stem)]
    known = [name for name in found if name in _SENTINEL2]
    return known[-1] if known else canonical(stem)


def describe(name: str) -> str:
    """Return a band's name for people: `B04 (red)`."""
    return f"{name} ({_COMMON_OF[name]})" if name in _COMMON_OF else name


def suggest_mapping(names: tuple[str, ...]) -> str:
    """Return the `--bands` option a user would complete to name the given bands, in file order 1, 2, 3."""
    return "--bands " + ",".join(f"{_COMMON_OF.get(name, name)}={index}" for index, name in enumerate(names, start=1))


# Which bands a stack without names holds, in order, by sensor. Sentinel-2 stacks come in several usual selections, told
# apart by their number of bands; of the others the first bands count.
PRESETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "sentinel-2": (
        ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"),
        ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
        ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
        ("B02", "B03", "B04", "B08"),
    ),
    "landsat-8": (("B01", "B02", "B03", "B04", "B8A", "B11", "B12"),),
    "landsat-7": (("B02", "B03", "B04", "B08", "B11", "B12"),),
    "naip": (("B04", "B03", "B02", "B08"),),
    "rgb": (("B04", "B03", "B02"),),
}
_EXAMPLE = "--bands red=3,green=2,blue=1,nir=4"

# Band name → 1-based number or the band's description in the file; or the name of a preset.
Mapping = dict[str, int | str] | str


def parse_mapping(text: str) -> Mapping:
    """Read `red=3,nir=4` (also `B04=3` and `red=surface red`, a description), or the name of a preset.

    Raises:
        ConfigError: not of that form, an unknown name, a band number below one, or a name given twice.
    """
    if text.strip().lower() in PRESETS:
        return text.strip().lower()
    mapping: dict[str, int | str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        label, _, where = (part.strip() for part in item.partition("="))
        name = canonical(label)
        number = int(where) if re.fullmatch(r"-?\d+", where) else None
        if name is None or not where or name in mapping or (number is not None and number < 1):
            raise ConfigError(
                f"band mapping {item!r}",
                expected="name=number or name=description, each name once, numbers from 1, names out of "
                + ", ".join(f"{common} or {band}" for common, band in COMMON_NAMES.items())
                + f"; or one of {', '.join(PRESETS)}",
                remedy=_EXAMPLE,
            )
        mapping[name] = where if number is None else number
    return mapping


def parse_mappings(text: str, count: int) -> tuple[Mapping, ...]:
    """Read one mapping for all of `count` dates, or one a date with slashes between: `landsat-8/sentinel-2`.

    Raises:
        ConfigError: neither one nor `count` mappings, or one cannot be read.
    """
    parts = [parse_mapping(part) for part in text.split("/")]
    if len(parts) not in (1, count):
        raise ConfigError(f"{len(parts)} band mappings for {count} dates", expected=f"one, or {count} with / between")
    return tuple(parts * count if len(parts) == 1 else parts)


def resolve_mapping(mapping: Mapping, descriptions: Sequence[str | None], path: str) -> dict[str, int]:
    """Return band name → 1-based number in the file `path`, whose bands have `descriptions` (None for none).

    Raises:
        ConfigError: the file has no such band, or not the number of bands of the preset.
    """
    if isinstance(mapping, str):
        return _of_preset(mapping, len(descriptions), path)
    told = [(text or "").strip().lower() for text in descriptions]
    numbers = {name: _number(where, told, path) for name, where in mapping.items()}
    beyond = {name: number for name, number in numbers.items() if number > len(told)}
    if beyond:
        raise ConfigError(
            f"band numbers {beyond} for {path}, which has {len(told)} bands", expected=f"numbers from 1 to {len(told)}"
        )
    return numbers


def _number(where: int | str, descriptions: list[str], path: str) -> int:
    if isinstance(where, int):
        return where
    if descriptions.count(where.lower()) != 1:
        raise ConfigError(
            f"{path} has {descriptions.count(where.lower())} bands described as {where!r}",
            expected=f"one of {', '.join(map(repr, filter(None, descriptions))) or 'none: no band is described'}",
            remedy=_EXAMPLE,
        )
    return descriptions.index(where.lower()) + 1


def _of_preset(preset: str, count: int, path: str) -> dict[str, int]:
    stacks = PRESETS[preset]
    fitting = [s for s in stacks if len(s) == count or (len(stacks) == 1 and len(s) <= count)]
    if not fitting:
        raise ConfigError(
            f"--bands {preset} for {path}, which has {count} bands",
            expected=" or ".join(str(len(stack)) for stack in stacks)
            + (" or more" if len(stacks) == 1 else "")
            + " bands",
            remedy=f"say which band is which: {_EXAMPLE}",
        )
    return {name: number for number, name in enumerate(fitting[0], start=1)}


def stand_ins(name: str, sensor: str | None) -> tuple[str, ...]:
    """Return the names that a band may be asked for by beside its own: one near infrared serves as broad and narrow.

    Args:
        name: Sentinel-2 name of the band.
        sensor: a preset's or a platform's name; None where it is not known.
    """
    other = {"B08": "B8A", "B8A": "B08"}.get(name)
    return (other,) if other and sensor and sensor.startswith(("landsat", "naip")) else ()
