"""The colours of probability, the same for polygons, pixels and the legend.

From blue over pink to yellow, ever lighter: whoever cannot tell red from green sees the same order, all of them stand
out from vegetation, soil and roofs with a dark edge around them, and the surest most.
"""

from __future__ import annotations

from typing import Final

Colour = tuple[int, int, int]

# Lower bound of the probability and colour (red, green, blue).
CLASSES: Final[tuple[tuple[float, Colour], ...]] = (
    (0.0, (40, 85, 175)),
    (0.5, (95, 100, 245)),
    (0.6, (180, 130, 255)),
    (0.7, (250, 145, 205)),
    (0.8, (255, 178, 105)),
    (0.9, (255, 238, 80)),
)
# For pixels: the same from the middle on, and down to near black, so that what is unlikely does not draw the eye.
RAMP: Final[tuple[tuple[float, Colour], ...]] = (
    (0.0, (22, 25, 32)),
    (0.3, (40, 66, 140)),
    *((lower + 0.05, colour) for lower, colour in CLASSES[1:]),
)


def as_hex(colour: Colour) -> str:
    """Return a colour as CSS has it.

    >>> as_hex((227, 26, 28))
    '#e31a1c'
    """
    return "#" + "".join(f"{channel:02x}" for channel in colour)
