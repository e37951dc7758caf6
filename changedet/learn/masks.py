"""Masks with the shapes and sizes of what is built: rectangles, polygons, roads, and groups of buildings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

Rng: TypeAlias = np.random.Generator
Bools: TypeAlias = NDArray[np.bool_]
Shape: TypeAlias = Callable[[int, float, Rng], Bools]

# Smallest side of a building or a clearing, and width of a road (px).
_LEAST_PX: Final = 4.0
_ROAD_PX: Final = (2.0, 5.0)


def draw_mask(size: int, largest: float, rng: Rng) -> Bools:
    """Return a mask, bool (size, size), of a kind, size, place and direction drawn at random; never an empty one.

    Args:
        size: side of the chip, px.
        largest: longest side of a shape, px.
        rng: of all draws.
    """
    kinds: tuple[Shape, ...] = (rectangle, irregular, road, group)
    while True:
        mask = kinds[rng.integers(len(kinds))](size, largest, rng)
        if mask.any():
            return mask


def rectangle(size: int, largest: float, rng: Rng) -> Bools:
    """Return a rectangle of sides from 4 px to `largest`, turned at random: a building, a field that was built over."""
    return _oblong(size, rng.uniform(0, size, 2), _side(largest, rng), _side(largest, rng), rng.uniform(0, np.pi))


def irregular(size: int, largest: float, rng: Rng) -> Bools:
    """Return a polygon of 5 to 11 corners at different distances from its middle: ground that was cleared."""
    corners = int(rng.integers(5, 12))
    angle = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    radius = rng.uniform(0.5, 1.0, corners) * _side(largest, rng) / 2
    middle = rng.uniform(0, size, 2)
    return _filled(size, middle[0] + radius * np.sin(angle), middle[1] + radius * np.cos(angle))


def road(size: int, largest: float, rng: Rng) -> Bools:
    """Return a road of 2 to 5 px: two to four straight pieces, each at most `largest` long, with slight bends."""
    width, angle = rng.uniform(*_ROAD_PX), rng.uniform(0, 2 * np.pi)
    at, mask = rng.uniform(0, size, 2), np.zeros((size, size), np.bool_)
    for _ in range(int(rng.integers(2, 5))):
        length = rng.uniform(largest / 2, largest)
        step = length * np.array([np.sin(angle), np.cos(angle)])
        # Longer by its width, so that the pieces join.
        mask |= _oblong(size, at + step / 2, width, length + width, angle)
        at, angle = at + step, angle + rng.normal(0, 0.4)
    return mask


def group(size: int, largest: float, rng: Rng) -> Bools:
    """Return a row or block of alike buildings, all in one direction, with gaps between them."""
    sides = np.array([rng.uniform(_LEAST_PX, max(_LEAST_PX, largest / 3)) for _ in range(2)])
    pitch = sides + rng.uniform(2.0, 8.0, 2)
    angle, middle = rng.uniform(0, np.pi), rng.uniform(0, size, 2)
    along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    mask = np.zeros((size, size), np.bool_)
    rows, cols = (int(n) for n in rng.integers((1, 2), (4, 5)))
    for row in range(rows):
        for col in range(cols):
            at = middle + (row - rows / 2) * pitch[0] * across + (col - cols / 2) * pitch[1] * along
            mask |= _oblong(size, at, sides[0], sides[1], angle)
    return mask


def _side(largest: float, rng: Rng) -> float:
    # As many between 4 and 8 px as between 16 and 32: small things are built more often.
    return float(np.exp(rng.uniform(np.log(_LEAST_PX), np.log(max(largest, _LEAST_PX)))))


def _oblong(size: int, middle: NDArray[np.float64], width: float, length: float, angle: float) -> Bools:
    """Return a rectangle about `middle` (row, col), its length in the direction of `angle` (from columns to rows)."""
    along = np.array([-1, 1, 1, -1]) * length / 2
    across = np.array([-1, -1, 1, 1]) * width / 2
    sine, cosine = np.sin(angle), np.cos(angle)
    return _filled(size, middle[0] + along * sine + across * cosine, middle[1] + along * cosine - across * sine)


def _filled(size: int, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> Bools:
    mask = np.zeros((size, size), np.bool_)
    mask[polygon(rows, cols, (size, size))] = True  # type: ignore[no-untyped-call]  # skimage has no types
    return mask
