"""What is built at the sample place, before and between the dates: a list of things, the later drawn over the earlier.

Lengths are metres and angles degrees; x runs east and y south from the upper left corner of the raster.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import country
from country import Thing, parcels_in
from numpy.random import Generator
from shapely import unary_union
from shapely.affinity import rotate
from shapely.geometry import MultiPolygon, Point, Polygon
from shapes import inset, parts, pick, rect, section, shrink, split, stream, tone

Builder = Callable[[Polygon, Generator], Iterator[Thing]]
BOTH, NEW = (True, True), (False, True)


def built(seen: tuple[bool, bool], outline: Polygon, material: str, rng: Generator, height: float = 0.0) -> Thing:
    """A thing there at both dates or only at the second, brighter or darker than its like."""
    before, after = (material if there else None for there in seen)
    return Thing(outline, before, after, height, tone(rng))


def houses(block: Polygon, rng: Generator, seen: tuple[bool, bool] = BOTH) -> Iterator[Thing]:
    """Detached houses; the gardens of new ones have hardly begun to grow."""
    for plot in split(block, rng.uniform(380, 750), rng, stretch=1.4):
        if seen == NEW:
            ground = pick(rng, gravel=4, soil=2, garden=1, concrete=2)
        else:
            ground = pick(rng, garden=6, meadow=1.5, concrete=0.5)
        yield built(seen, plot, ground, rng)
        yield built(seen, shrink(plot, 0.9, 0.25), pick(rng, concrete=1, asphalt=1), rng)
        home = shrink(plot, rng.uniform(0.45, 0.62), rng.uniform(0.45, 0.65))
        yield built(seen, home, pick(rng, tile=5, slate=3, flat_roof=2, bright_roof=0.3), rng, 6)


def terraces(block: Polygon, rng: Generator) -> Iterator[Thing]:
    """Closed rows of old houses around a yard."""
    for plot in split(block, 260, rng, stretch=1.5):
        yield built(BOTH, plot, pick(rng, tile=5, slate=4, flat_roof=1, bright_roof=0.3), rng, 10)
    for yard in inset(block, 13):
        yield built(BOTH, yard, pick(rng, garden=3, asphalt=1, concrete=1), rng)


def flats(block: Polygon, rng: Generator, seen: tuple[bool, bool] = BOTH) -> Iterator[Thing]:
    """Long blocks of flats with parking between them."""
    yield built(seen, block, "concrete" if seen == NEW else pick(rng, garden=2, parking=1), rng)
    for plot in split(block, 1_600, rng, stretch=2.0):
        yield built(seen, shrink(plot, 0.82, 0.85), "parking", rng)
        yield built(seen, shrink(plot, 0.72, 0.55), pick(rng, flat_roof=2, bright_roof=2, slate=1), rng, 14)


def works(block: Polygon, rng: Generator) -> Iterator[Thing]:
    """Workshops and warehouses, each in its yard."""
    for plot in split(block, rng.uniform(3_000, 9_000), rng, stretch=1.3):
        yield built(BOTH, plot, pick(rng, asphalt=4, parking=3, concrete=2, meadow=1.5), rng)
        roof = pick(rng, flat_roof=4, slate=2, bright_roof=2, white_roof=1)
        yield built(BOTH, shrink(plot, *rng.uniform(0.5, 0.8, 2)), roof, rng, 9)


def town(kept_free: MultiPolygon) -> Iterator[Thing]:
    """Old centre, ring of houses with some flats and works, two villages; all keep off river and railway."""
    rng = stream("town")
    bed = unary_union([country.RIVER.buffer(45), country.RAILWAY.buffer(14), country.MOTORWAY.buffer(40)])
    for outline, core in ((country.TOWN, 330), (country.SUBURB, 0), (country.VILLAGE, 70)):
        for ground in parts(unary_union(parcels_in(outline, kept_free)).buffer(2).difference(bed), 3_000):
            yield Thing(ground, "asphalt", "asphalt")
            for quarter in split(ground, 45_000, rng, bend=8):
                yield from blocks(quarter, quarter.centroid.distance(outline.centroid) < core, rng)
    for ground in (rect(3420, 2180, 720, 400, -23), rect(1120, 1760, 420, 150, -14)):
        yield Thing(ground, "asphalt", "asphalt")
        for quarter in split(ground, 45_000, rng):
            yield from in_streets(works, quarter, 30_000, 5, rng)


def blocks(quarter: Polygon, old: bool, rng: Generator) -> Iterator[Thing]:
    """A quarter is built all in one manner, between wider streets."""
    kind = "terraces" if old else pick(rng, houses=10, flats=2.5, works=1.0, park=2.0, terraces=2.0)
    builders = {"terraces": terraces, "houses": houses, "flats": flats, "works": works, "park": park}
    yield from in_streets(builders[kind], quarter, rng.uniform(6_000, 14_000), rng.uniform(2.5, 4.5), rng)


def in_streets(build: Builder, ground: Polygon, area: float, half_street: float, rng: Generator) -> Iterator[Thing]:
    """Leave a street around every block and build what remains."""
    for inner in inset(ground, 3):
        for block in split(inner, area, rng, stretch=1.3, bend=2):
            for plot in inset(block, half_street):
                yield from build(plot, rng)


def park(block: Polygon, rng: Generator) -> Iterator[Thing]:
    """Grass with trees in the middle."""
    yield built(BOTH, block, "meadow", rng)
    yield built(BOTH, shrink(block, *rng.uniform(0.3, 0.8, 2)), "garden", rng, 5)


def farms(kept_free: MultiPolygon) -> Iterator[Thing]:
    """Barns around a yard, with trees, alone in the fields."""
    rng = stream("farms")
    taken = unary_union(
        [
            kept_free,
            country.TOWN,
            country.SUBURB,
            country.VILLAGE,
            country.LAKE,
            country.RIVER.buffer(90),
            country.MOTORWAY.buffer(60),
            *country.WOODS,
        ]
    ).buffer(70)
    for x, y in rng.uniform((60, 60), (5060, 4420), (26, 2)):
        angle = rng.uniform(0, 90)
        if taken.contains(Point(x, y)):
            continue
        yield Thing(Point(x, y).buffer(rng.uniform(40, 65)), "garden", "garden", 3)
        yield Thing(rect(x, y, 75, 55, angle), "gravel", "gravel", 0, (0.8, 0.8))
        for dx in (-20, 12):
            barn = rotate(rect(x + dx, y + rng.uniform(-9, 9), 16, rng.uniform(25, 45)), angle, origin=(x, y))
            yield built(BOTH, barn, pick(rng, tile=2, slate=1, flat_roof=2), rng, 7)


# --- what is new ------------------------------------------------------------------------------------------------------


def hall(plot: Polygon, rng: Generator) -> Iterator[Thing]:
    """A large hall, its yard paved all round, lorries along one side."""
    yield built(NEW, plot, pick(rng, concrete=3, asphalt=2), rng)
    yield built(NEW, section(plot, 0.04, 0.05, 0.96, 0.17), "parking", rng)
    yield built(NEW, section(plot, 0.8, 0.2, 0.97, 0.95), pick(rng, gravel=1, concrete=1), rng)
    yield built(NEW, section(plot, 0.09, 0.27, 0.77, 0.92), pick(rng, white_roof=3, bright_roof=2), rng, 12)


def logistics_park(plot: Polygon, rng: Generator) -> Iterator[Thing]:
    """Four halls, one of them darker, around a loop road with a branch to the main road."""
    yield built(NEW, plot, "asphalt", rng)
    yard = plot.buffer(-20, join_style="mitre").buffer(20, join_style="mitre")  # without its narrow access road
    for left, top in ((0, 0), (0.52, 0), (0, 0.53), (0.52, 0.53)):
        yield from hall(section(yard, left + 0.015, top + 0.02, left + 0.465, top + 0.45), rng)
    yield built(NEW, section(yard, 0.56, 0.67, 0.86, 0.94), "flat roof", rng, 12)


def estate(plot: Polygon, rng: Generator) -> Iterator[Thing]:
    """Streets of new houses."""
    yield built(NEW, plot, "asphalt", rng)
    yield from in_streets(partial(houses, seen=NEW), plot, 5_000, 4, rng)


def stadium(plot: Polygon, rng: Generator) -> Iterator[Thing]:
    """Stands around a pitch, and a car park beside it."""
    yield built(NEW, plot, "concrete", rng)
    yield built(NEW, section(plot, 0.53, 0.06, 0.97, 0.94), "parking", rng)
    stands = section(plot, 0.06, 0.12, 0.48, 0.88).buffer(-15).buffer(15)
    yield built(NEW, stands, "white roof", rng, 18)
    yield built(NEW, shrink(stands, 0.55, 0.5), "meadow", rng)


def shops(plot: Polygon, rng: Generator) -> Iterator[Thing]:
    """A supermarket and a restaurant in their car park."""
    yield built(NEW, plot, "parking", rng)
    for top, material in ((0.08, "concrete"), (0.12, "bright roof")):
        yield built(NEW, section(plot, 0.05, top, 0.9, 0.55), material, rng, 8)
    yield built(NEW, section(plot, 0.1, 0.66, 0.35, 0.9), "white roof", rng, 6)


def barns(plot: Polygon, rng: Generator) -> Iterator[Thing]:
    """Two new barns and their yard."""
    yield built(NEW, plot, "gravel", rng)
    for left in (0.1, 0.56):
        yield built(NEW, section(plot, left, 0.12, left + 0.33, 0.85), "bright roof", rng, 8)


def building_site(plot: Polygon, rng: Generator) -> Iterator[Thing]:
    """Stripped ground, foundations and one shell."""
    yield built(NEW, plot, "gravel", rng)
    for left, material in ((0.1, "concrete"), (0.4, "concrete"), (0.7, "bright roof")):
        yield built(NEW, section(plot, left, 0.2, left + 0.2, 0.75), material, rng, 6)


def extension(plot: Polygon, rng: Generator) -> Iterator[Thing]:
    """The hall beside it, FACTORY, was there before; the ground was bare."""
    yield built(NEW, plot, "concrete", rng)
    yield built(NEW, section(plot, 0.0, 0.1, 0.9, 0.9), "white roof", rng, 10)


def factory() -> Iterator[Thing]:
    """What the extension extends, and the bare ground it is built on."""
    rng = stream("factory")
    yield built(BOTH, rect(3200, 3760, 250, 170, 5), "asphalt", rng)
    yield built(BOTH, rect(3152, 3752, 110, 90, 5), "bright roof", rng, 10)
    yield built(BOTH, rect(3256, 3762, 104, 110, 5), "soil", rng)


class Site(NamedTuple):
    """A change: the whole plot is the truth, and `build` paves or builds on all of it."""

    kind: str
    plot: Polygon
    build: Builder


SITES = [
    Site("logistics", unary_union([rect(3480, 3300, 520, 300, 28), rect(3571, 3128, 16, 110, 28)]), logistics_park),
    Site("hall", rect(3900, 1900, 210, 150, -27), hall),
    Site("hall", rect(2430, 2620, 180, 140, -20), hall),
    Site("hall", rect(1290, 3230, 160, 120, -22), hall),
    Site("hall", rect(4800, 3080, 190, 140, -14), hall),
    Site("housing", rect(700, 1180, 330, 280, 12), estate),
    Site("housing", rect(3860, 3860, 230, 200, 40), estate),
    Site("stadium", rect(1440, 330, 270, 170, -8), stadium),
    Site("shops", rect(2280, 2300, 200, 160, 60), shops),
    Site("flats", rect(3380, 1010, 150, 110, 25), partial(flats, seen=NEW)),
    Site("extension", rect(3250, 3757, 86, 90, 5), extension),
    Site("farm", rect(420, 2300, 95, 75, 30), barns),
    Site("building site", rect(4480, 470, 180, 135, 10), building_site),
]


def things() -> Iterator[Thing]:
    """Everything at the place, from the ground up."""
    kept_free = unary_union([site.plot.buffer(6) for site in SITES])
    yield from country.countryside(kept_free)
    yield from country.woods(kept_free)
    yield from farms(kept_free)
    yield from country.water()
    yield from town(kept_free)
    yield from factory()
    yield from country.ways()
    for number, site in enumerate(SITES):
        yield from site.build(site.plot, stream(f"site {number}"))
