"""Band names: everything is called by its Sentinel-2 name, and known under its common name too.

The common names are those of the STAC EO extension (https://github.com/stac-extensions/eo#common-band-names).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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


def parse_mapping(text: str) -> dict[str, int]:
    """Read `red=3,nir=4` (also `B04=3`) into band name → 1-based band number.

    Raises:
        ConfigError: not of that form, an unknown name, a band number below one, or a name given twice.
    """
    mapping: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        label, _, number = item.partition("=")
        name = canonical(label)
        if name is None or not number.strip().isdigit() or int(number) < 1 or name in mapping:
            raise ConfigError(
                f"band mapping {item!r}",
                expected="name=number, each name once, numbers from 1, names out of "
                + ", ".join(f"{common} or {band}" for common, band in COMMON_NAMES.items()),
                remedy="--bands red=3,green=2,blue=1,nir=4",
            )
        mapping[name] = int(number)
    return mapping


def check_mapping(mapping: Mapping[str, int], count: int, path: str) -> None:
    """Refuse a mapping that names a band the file does not have.

    Raises:
        ConfigError: a band number is above `count`.
    """
    beyond = {name: number for name, number in mapping.items() if number > count}
    if beyond:
        raise ConfigError(
            f"band numbers {beyond} for {path}, which has {count} bands", expected=f"numbers from 1 to {count}"
        )
