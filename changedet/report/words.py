"""Numbers, dates and names as people read them, with their units."""

from __future__ import annotations

from datetime import date
from pathlib import PurePosixPath
from typing import Any

# Attribute → label and what kind of value it is, which says how the page writes it. Others are shown under their name.
ATTRIBUTES: dict[str, tuple[str, str]] = {
    "id": ("Id", "text"),
    "area_m2": ("Area", "area"),
    "perimeter_m": ("Perimeter", "length"),
    "probability_mean": ("Mean probability", "probability"),
    "probability_max": ("Highest probability", "probability"),
    "class": ("Class", "number"),
    "direction": ("Direction", "text"),
    "brightness_change": ("Change of brightness", "number"),
    "ndvi_change": ("Change of NDVI", "number"),
    "compactness": ("Compactness", "number"),
    "touches_edge": ("Cut by an edge or nodata", "truth"),
    "date_before": ("Date before", "text"),
    "date_after": ("Date after", "text"),
    "model": ("Model", "text"),
    "threshold": ("Threshold", "number"),
    "lon": ("Longitude", "longitude"),
    "lat": ("Latitude", "latitude"),
}
# Where changedet has made a name a unit's business, as in `height_m`.
_SUFFIXES = {"_m2": "area", "_m": "length"}


def attribute(name: str) -> tuple[str, str]:
    """Return the label of an attribute and the kind of its values."""
    if name in ATTRIBUTES:
        return ATTRIBUTES[name]
    kind = next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), "number")
    return name, kind


# What stands above a column of the list, where the label is long.
SHORT = {"probability_mean": "Probability", "lat": "Lat.", "lon": "Lon."}


def area(square_metres: float) -> str:
    """Return an area for people.

    >>> area(551_890.2), area(22_260_000), area(0.25)
    ('551,890 m²', '22.26 km²', '0.25 m²')
    """
    if square_metres >= 1e6:
        return f"{square_metres / 1e6:,.2f} km²".replace(".00 ", " ")
    return f"{square_metres:,.0f} m²" if square_metres >= 10 or square_metres == 0 else f"{square_metres:.2g} m²"


def share(part: float, whole: float) -> str:
    """Return a share in percent; of nothing, a dash."""
    return f"{part / whole:.2%}".replace("%", " %") if whole else "–"


def day(text: str | None) -> str:
    """Return an ISO date for people, or what else there is.

    >>> day("2018-10-05"), day(None)
    ('5 October 2018', 'date unknown')
    """
    if text is None:
        return "date unknown"
    try:
        when = date.fromisoformat(text[:10])
    except ValueError:
        return text
    return f"{when.day} {when:%B %Y}"


def short_name(path: str) -> str:
    """Return the end of a path that tells scenes apart: a file's name, a folder's with the one that holds it.

    >>> short_name("data/before.tif"), short_name("oscd/beirut/imgs_1")
    ('before.tif', 'beirut/imgs_1')
    """
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return "/".join(parts[-1:] if "." in parts[-1] else parts[-2:]) if parts else path


def pixel(height: float, width: float) -> str:
    """Return the size of a pixel (m) for people.

    >>> pixel(10.0, 10.001), pixel(10.97, 9.16)
    ('10 m', '10.97 × 9.16 m')
    """
    high, wide = (f"{side:.2f}".rstrip("0").rstrip(".") for side in (height, width))
    return f"{high} m" if high == wide else f"{high} × {wide} m"


def short_number(value: float) -> str:
    """Return a count for the side of a chart.

    >>> short_number(80), short_number(10_000), short_number(2_500_000)
    ('80', '10 k', '2.5 M')
    """
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {sign}"
    return f"{value:g}"


def point(lon: float, lat: float) -> str:
    """Return a place on earth for people.

    >>> point(2.18768, -48.07293)
    '48.07293° S, 2.18768° E'
    """
    return f"{abs(lat):.5f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.5f}° {'E' if lon >= 0 else 'W'}"


def plain(value: Any) -> str:
    """Return the value of a parameter for people."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name}={plain(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
