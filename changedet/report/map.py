"""The map of a page with the list of polygons beside it: what assets/explorer.html shows and assets/report.js draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from changedet.read.align import ground_resolution
from changedet.report import words
from changedet.report.colours import CLASSES, as_hex
from changedet.report.picture import Picture
from changedet.report.place import lonlat_table, up_azimuth
from changedet.report.polygons import Shapes

# Turned by less than this, a grid's upper edge is north to whoever looks at it (degrees).
_NORTH = 5.0
_TABLE = ("area_m2", "probability_mean", "direction", "class", "lat", "lon")


@dataclass(frozen=True, eq=False)
class Map:
    """Pictures and polygons on a grid.

    Attributes:
        geobox: the grid.
        pictures: by name.
        shapes: the polygons.
        views: what the map can show, the first one first: the name of a picture, or `swipe`, and what it is called.
        sides: left and right of the divider: the name of the picture, its title and more about it.
        threshold: of the polygons; colours below are not in the legend.
    """

    geobox: GeoBox
    pictures: Mapping[str, Picture]
    shapes: Shapes
    views: Sequence[tuple[str, str]]
    sides: tuple[tuple[str, str, str], tuple[str, str, str]]
    threshold: float

    def context(self) -> dict[str, Any]:
        """Return what the template shows, and where the grid is."""
        table = lonlat_table(self.geobox)
        middle = {axis: float(np.nanmean(np.array(table[axis], dtype=np.float64))) for axis in ("lon", "lat")}
        up = up_azimuth(self.geobox)
        return {
            "pictures": self.pictures,
            "shapes": self.shapes,
            "views": self.views,
            "sides": [side[1:] for side in self.sides],
            "legend": _legend(self.threshold),
            "place": words.point((middle["lon"] + 180) % 360 - 180, middle["lat"]),
            "pixel": words.pixel(*ground_resolution(self.geobox)),
            "turned": f"{up:.0f}" if abs(up) > _NORTH else None,
        }

    def data(self) -> dict[str, Any]:
        """Return what the page's script draws."""
        height, width = self.geobox.shape
        metres = ground_resolution(self.geobox)
        columns = self.shapes.columns
        return {
            "height": height,
            "width": width,
            "pixel_height_m": metres[0],
            "pixel_width_m": metres[1],
            "place": lonlat_table(self.geobox),
            "swipe": [side[0] for side in self.sides],
            "extents": {name: picture.extent for name, picture in self.pictures.items()},
            "classes": [(lower, as_hex(colour)) for lower, colour in CLASSES],
            "rings": self.shapes.rings,
            "columns": [_column(name, values) for name, values in columns.items()],
            "table": [name for name in _TABLE if any(value is not None for value in columns.get(name, []))],
        }


def _legend(threshold: float) -> list[tuple[str, str]]:
    """Return the colour and the range of each class of probability that a polygon can be in."""
    uppers = [lower for lower, _ in CLASSES[1:]] + [1.0]
    return [
        (as_hex(colour), f"{lower:.1f}–{upper:.1f}")
        for (lower, colour), upper in zip(CLASSES, uppers, strict=True)
        if upper > threshold
    ]


def _column(name: str, values: list[Any]) -> dict[str, Any]:
    """Return an attribute of all polygons; where it is the same for all of them, once."""
    label, kind = words.attribute(name)
    same = len(values) > 1 and all(value == values[0] for value in values)
    return {
        "name": name,
        "label": label,
        "short": words.SHORT.get(name, label),
        "kind": kind,
        **({"value": values[0]} if same else {"values": values}),
    }
