"""Colours of the classes of change, the same in every file."""

from __future__ import annotations

import colorsys

import numpy as np

Colour = tuple[int, int, int, int]

UNCHANGED: Colour = (236, 236, 236, 255)
_CHANGED: Colour = (227, 26, 28, 255)
# Told apart by colour-blind readers too: Okabe and Ito, "Color Universal Design", 2008, without black.
_CLASSES: tuple[Colour, ...] = (
    (213, 94, 0, 255),
    (0, 114, 178, 255),
    (0, 158, 115, 255),
    (230, 159, 0, 255),
    (204, 121, 167, 255),
    (86, 180, 233, 255),
    (240, 228, 66, 255),
)
# From dark to light, and in order for colour-blind readers too: viridis of Smith and van der Walt, 2015 (CC0).
_SEQUENCE: tuple[tuple[int, int, int], ...] = (
    (68, 1, 84),
    (59, 82, 139),
    (33, 145, 140),
    (94, 201, 98),
    (253, 231, 37),
)
# A turn by the golden ratio never comes near a hue it had before.
_TURN = 0.618034


def class_colours(count: int) -> list[Colour]:
    """Return a colour (red, green, blue, alpha; 0..255) for each of `count` classes of change."""
    if count == 1:
        return [_CHANGED]
    more = (colorsys.hsv_to_rgb(index * _TURN % 1, 0.65, 0.75) for index in range(count - len(_CLASSES)))
    turned = [(round(255 * red), round(255 * green), round(255 * blue), 255) for red, green, blue in more]
    return [*_CLASSES[:count], *turned]


def sequence_colours(count: int) -> list[Colour]:
    """Return a colour (red, green, blue, alpha; 0..255) for each of `count` steps of an order, from dark to light."""
    places = np.linspace(0, len(_SEQUENCE) - 1, count)
    channels = [np.interp(places, range(len(_SEQUENCE)), channel) for channel in zip(*_SEQUENCE, strict=True)]
    return [(round(red), round(green), round(blue), 255) for red, green, blue in zip(*channels, strict=True)]
