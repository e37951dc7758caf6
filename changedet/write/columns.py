"""What the layers of polygons and their columns mean, for files that can say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LAYERS: Final[Mapping[str, str]] = {
    "changes": "What changed between the two dates, one row for each connected area",
    "footprint": "What could be compared",
    "unknown": "What could not be compared: no data, cloud or nothing at one date or both",
}
COLUMNS: Final[Mapping[str, str]] = {
    "id": "The same for the same grid, dates and first pixel",
    "area_m2": "Area on the ellipsoid, square metres",
    "perimeter_m": "Length of the outline on the ellipsoid, metres",
    "probability_mean": "Mean probability of change of its pixels, 0 to 1",
    "probability_max": "Highest probability of change of its pixels, 0 to 1",
    "class": "Kind of change, as the values of mask.tif",
    "direction": "brighter, darker, greener or less green: the larger of the two changes that follow",
    "brightness_change": "Change of the mean reflectance of the visible bands",
    "ndvi_change": "Change of the normalised difference vegetation index",
    "compactness": "4 pi area / perimeter squared: 1 for a disc, near 0 for a line",
    "touches_edge": "Whether it may go on unseen: cut by the border or by pixels without data",
    "date_before": "Date of the earlier scene",
    "date_after": "Date of the later scene",
    "model": "Model or detector that found it",
    "threshold": "Probability from which a pixel counts as changed",
}
