"""The open country of the sample place: what was there before any building.

Lengths are metres and angles degrees; x runs east and y south from the upper left corner of the raster.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from shapely import unary_union
from shapely.affinity import translate
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box
from shapes import blob, curve, longest_edge, pick, split, stream, tone

SCENE = box(0, 0, 5120, 4480)

# (before, after) of a field, and how often; a season, not a change.
CROPS = {
    ("meadow", "meadow"): 5,
    ("meadow", "dry meadow"): 4,
    ("maize", "maize"): 3,
    ("ripe", "stubble"): 3,
    ("soil", "dark soil"): 2,
    ("seedlings", "maize"): 2,
    ("soil", "seedlings"): 2,
    ("ripe", "seedlings"): 1,
}


class Thing(NamedTuple):
    """An outline and its material before and after; None leaves what lies below to be seen."""

    outline: Polygon | MultiPolygon
    before: str | None
    after: str | None
    height: float = 0.0
    tones: tuple[float, float] = (1.0, 1.0)  # brightness of the ground before and after
    angle: float = 0.0


RIVER = curve(
    (4250, -100), (4130, 350), (3700, 640), (3250, 800), (3000, 1150), (3070, 1600), (2750, 1930), (2250, 2010),
    (1850, 2250), (1700, 2680), (1250, 2930), (800, 2850), (450, 3050), (-100, 3350),
)  # fmt: skip
MOTORWAY = curve((-100, 3950), (900, 3680), (2000, 3080), (3000, 2700), (4000, 2260), (5250, 1100))
RAILWAY = curve((-100, 2200), (900, 1990), (1700, 1790), (2600, 1480), (3300, 1250), (4100, 1010), (5250, 620))
ROADS = [
    curve((2080, -60), (2010, 350), (2040, 800), (1950, 1250)),
    curve((1950, 1250), (1400, 1480), (800, 1490), (-60, 1380)),
    curve((1950, 1250), (2480, 2100), (2760, 2450), (2960, 2780), (3060, 3250), (2960, 3800), (3020, 4550)),
    curve((2960, 2780), (3500, 3040), (4000, 3300), (4250, 3650), (4380, 4100), (4330, 4550)),
    curve((4250, 3650), (4700, 3560), (5200, 3480)),
    curve((2040, 800), (2700, 480), (3500, 300), (4300, 180), (5200, 260)),
]
LAKE = blob(4370, 1330, 270, 150, stream("lake"))
TOWN = blob(1930, 1230, 900, 700, stream("town outline"))
SUBURB = blob(3480, 1560, 330, 260, stream("suburb outline"))
VILLAGE = blob(4260, 3640, 300, 230, stream("village outline"))
WOODS = [
    blob(2050, 3980, 640, 400, stream("south wood")),
    blob(560, 330, 470, 240, stream("north wood")),
    blob(4800, 4330, 330, 160, stream("east wood")),
    blob(3750, 4180, 180, 110, stream("copse")),
    blob(330, 2640, 150, 100, stream("river wood")),
]


@cache
def districts() -> list[tuple[Polygon, list[Polygon]]]:
    """The open country, each district with its parcels in a direction and of a size of their own."""
    rng = stream("parcels")
    return [
        (district, list(split(district, rng.uniform(12_000, 40_000), rng, rng.uniform(1.3, 3.0), bend=1.5)))
        for district in split(SCENE.buffer(150), 480_000, rng, bend=13)
    ]


def parcels_in(outline: Polygon | MultiPolygon, kept_free: MultiPolygon) -> list[Polygon]:
    """Woods and towns end where a parcel ends, and leave room for what will be built."""
    free = (parcel for _, parcels in districts() for parcel in parcels if not parcel.intersects(kept_free))
    return [parcel for parcel in free if outline.contains(parcel.representative_point())]


def countryside(kept_free: MultiPolygon) -> Iterator[Thing]:
    """Fields, hedges along some of them, lanes around some districts."""
    rng = stream("fields")
    edges: list[Thing] = []
    for district, parcels in districts():
        leafy = rng.uniform(0, 0.6)
        for parcel in parcels:
            yield field(parcel, rng)
            if rng.random() < leafy and not parcel.intersects(kept_free):
                hedge = LineString(parcel.exterior.coords[:3]).buffer(rng.uniform(2.5, 6))
                edges.append(Thing(hedge, "forest", "autumn forest", 5))
        if not district.exterior.intersects(kept_free) and rng.random() < 0.7:
            surface = pick(rng, asphalt=3, soil=1, concrete=1)
            edges.append(Thing(district.exterior.buffer(2.8), surface, surface))
    yield from edges


def field(parcel: Polygon, rng: Generator) -> Thing:
    """What grows there at the two dates."""
    weights = np.array(list(CROPS.values()))
    before, after = list(CROPS)[rng.choice(len(CROPS), p=weights / weights.sum())]
    tones = tone(rng, 0.1)[0], tone(rng, 0.1)[0]
    return Thing(parcel, before, after, 0, tones, longest_edge(parcel) + rng.choice([0, 0, 90]))


def woods(kept_free: MultiPolygon) -> Iterator[Thing]:
    """Woods with a field in them here and there."""
    rng = stream("woods")
    for wood in parcels_in(unary_union(WOODS), kept_free):
        if rng.random() < 0.93:
            yield Thing(wood.buffer(1), "forest", "autumn forest", rng.uniform(8, 18), tone(rng, 0.06))


def water() -> Iterator[Thing]:
    """The river between trees and meadows, the lake with a beach in its park."""
    rng = stream("water")
    yield Thing(RIVER.buffer(62), "meadow", "dry meadow")
    for at in np.arange(0, RIVER.length, 9):
        x, y = RIVER.interpolate(at).coords[0] + rng.normal(0, 33, 2)
        yield Thing(Point(x, y).buffer(rng.uniform(4, 13)), "forest", "autumn forest", 8)
    yield Thing(RIVER.buffer(29), "river", "muddy river")
    yield Thing(LAKE.buffer(80), "meadow", "meadow")
    for x, y in rng.normal(LAKE.centroid.coords[0], (230, 140), (260, 2)):
        yield Thing(Point(x, y).buffer(rng.uniform(5, 16)), "forest", "autumn forest", 8)
    yield Thing(translate(LAKE, 13, 9), "gravel", "gravel")
    yield Thing(LAKE, "lake", "lake")


def ways() -> Iterator[Thing]:
    """Railway, motorway and roads; they come after the river, so they bridge it."""
    yield Thing(RAILWAY.buffer(7), "ballast", "ballast")
    for road in ROADS:
        yield Thing(road.buffer(6.5), "asphalt", "asphalt", 0, (1.35, 1.35))
    yield Thing(MOTORWAY.buffer(24), "meadow", "dry meadow")
    for side in (-8, 8):
        yield Thing(MOTORWAY.parallel_offset(side).buffer(6), "asphalt", "asphalt", 0, (1.15, 1.15))
