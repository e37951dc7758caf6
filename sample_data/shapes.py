"""Outlines of the sample place: lengths in metres, angles in degrees, x to the east and y to the south."""

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.interpolate import CubicSpline
from shapely.affinity import rotate, scale
from shapely.geometry import LineString, Polygon, box

SEED = 20170617


def stream(name: str) -> Generator:
    """Random numbers of their own for every part of the place, so that a change in one leaves the others alone."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def rect(x: float, y: float, width: float, height: float, angle: float = 0.0) -> Polygon:
    """A rectangle about its centre."""
    return rotate(box(x - width / 2, y - height / 2, x + width / 2, y + height / 2), angle)


def blob(x: float, y: float, x_radius: float, y_radius: float, rng: Generator) -> Polygon:
    """An ellipse with a wavy edge."""
    around = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    waves = [rng.normal(0, 0.22 / k) * np.cos(k * around + rng.uniform(0, 6.3)) for k in range(2, 9)]
    radius = 1 + np.sum(waves, axis=0)
    xs, ys = x + x_radius * radius * np.cos(around), y + y_radius * radius * np.sin(around)
    return Polygon(np.stack([xs, ys], 1))


def curve(*points: tuple[float, float]) -> LineString:
    """A smooth line through the points."""
    knots = np.asarray(points, dtype=float)
    along = np.r_[0, np.cumsum(np.hypot(*np.diff(knots, axis=0).T))]
    return LineString(CubicSpline(along, knots)(np.arange(0, along[-1], 15)))


def longest_edge(outline: Polygon) -> float:
    """Direction of the longest edge."""
    steps = np.diff(np.asarray(outline.exterior.coords), axis=0)
    dx, dy = steps[np.argmax(np.hypot(*steps.T))]
    return float(np.degrees(np.arctan2(dy, dx)))


def parts(geometry: Any, least_m2: float = 25.0) -> list[Polygon]:
    """The polygons of any geometry, slivers left out."""
    pieces = getattr(geometry, "geoms", [geometry])
    return [piece for piece in pieces if piece.geom_type == "Polygon" and piece.area > least_m2]


def split(outline: Polygon, area: float, rng: Generator, stretch: float = 1.0, bend: float = 0.0) -> Iterator[Polygon]:
    """Cut into parcels of about `area` m², `stretch` times as long as wide, turning by `bend` at each cut."""
    if outline.area < area * rng.uniform(1.0, 1.9):
        yield outline
        return
    angle, origin = longest_edge(outline) + rng.normal(0, bend), outline.centroid
    level = rotate(outline, -angle, origin)
    left, top, right, bottom = level.bounds
    share = rng.uniform(0.38, 0.62)
    if right - left > stretch * (bottom - top):
        cut = left + share * (right - left)
        halves = box(left, top, cut, bottom), box(cut, top, right, bottom)
    else:
        cut = top + share * (bottom - top)
        halves = box(left, top, right, cut), box(left, cut, right, bottom)
    for half in halves:
        for piece in parts(rotate(level.intersection(half), angle, origin)):
            yield from split(piece, area, rng, stretch, bend)


def inset(outline: Polygon, by: float) -> list[Polygon]:
    """What remains of an outline at this distance from its edge."""
    return parts(outline.buffer(-by, join_style="mitre"))


def shrink(outline: Polygon, along: float, across: float) -> Polygon:
    """Scale about the centre, in the direction of the longest edge and at right angles to it."""
    angle, origin = longest_edge(outline), outline.centroid
    return rotate(scale(rotate(outline, -angle, origin), along, across, origin=origin), angle, origin)


def section(plot: Polygon, left: float, top: float, right: float, bottom: float) -> Polygon:
    """The part of a rectangle between these shares of its length and of its width."""
    angle, origin = longest_edge(plot), plot.centroid
    x, y, x_end, y_end = rotate(plot, -angle, origin).bounds
    width, height = x_end - x, y_end - y
    return rotate(box(x + left * width, y + top * height, x + right * width, y + bottom * height), angle, origin)


def tone(rng: Generator, spread: float = 0.12) -> tuple[float, float]:
    """One brightness for both dates."""
    value = float(np.exp(rng.normal(0, spread)))
    return value, value


def pick(rng: Generator, **weights: float) -> str:
    """Draw a name by weight; an underscore stands for a blank."""
    names = [name.replace("_", " ") for name in weights]
    return str(rng.choice(names, p=np.array(list(weights.values())) / sum(weights.values())))
