"""The chip plan: what to read and what to keep, decided once for the whole raster.

One axis is solved and applied twice. With chip size k, halo h and an axis of n pixels padded up to the network's
stride, chips start at ``min(i * (k - 2h), n - k)`` and a core ends h before its chip does, except the last, which
ends with the axis. Unless k belongs to the network, it is first made as small as the number of chips allows. So the
cores partition the axis, every chip has one shape, and every core pixel lies at least h from its chip's edge unless
that edge is the raster's own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from changedet.errors import ConfigError
from changedet.grid.window import Window


@dataclass(frozen=True, slots=True)
class ChipWindow:
    """One chip: the window to `read` and the part of it, `core`, whose result is kept.

    Both count from the raster's first pixel. `read` may reach below and right of the raster, by less than one
    stride; `core` never does.
    """

    read: Window
    core: Window


@dataclass(frozen=True, slots=True)
class ChipPlan:
    """All chips of a raster, row by row, with the lattice they came from (px)."""

    height: int
    width: int
    chip_height: int
    chip_width: int
    halo: int
    stride: int
    chips: tuple[ChipWindow, ...]

    @property
    def redundancy(self) -> float:
        """Pixels read more than once or outside the raster, over the raster's pixels: 0.25 is a quarter more work."""
        return len(self.chips) * self.chip_height * self.chip_width / (self.height * self.width) - 1

    def within(self, window: Window) -> ChipPlan:
        """Return the plan with only those chips whose cores meet a window, and of each core only what lies in it.

        The chips read what they read in the whole plan, so a tile computed by them has the bytes of the whole.

        Raises:
            ConfigError: the window lies outside the raster.
        """
        # Row by row, so of the chips in order neither the first nor the last row of a core ever decreases.
        first = bisect_right(self.chips, window.row, key=lambda chip: chip.core.stop_row)
        stop = bisect_left(self.chips, window.stop_row, key=lambda chip: chip.core.row)
        cut = ((chip, chip.core.intersect(window)) for chip in self.chips[first:stop])
        chips = tuple(ChipWindow(chip.read, core) for chip, core in cut if core is not None)
        if not chips:
            raise ConfigError(f"{window}", expected=f"a window that meets the raster, {self.height} x {self.width} px")
        return replace(self, chips=chips)

    def lattice(self) -> dict[str, int | float]:
        """Return what another run needs to make the very same plan, for run.json."""
        return {
            "height": self.height,
            "width": self.width,
            "chip_height": self.chip_height,
            "chip_width": self.chip_width,
            "halo": self.halo,
            "stride": self.stride,
            "chips": len(self.chips),
            "redundancy": round(self.redundancy, 4),
        }


@dataclass(frozen=True, slots=True)
class _Span:
    """One chip along one axis: reads [start, start + size), keeps [core_start, core_stop)."""

    start: int
    size: int
    core_start: int
    core_stop: int


@dataclass(frozen=True, slots=True)
class Lattice:
    """What the chips of rasters of any size follow from, as `plan_chips` takes it (px)."""

    chip: int
    halo: int
    stride: int
    fixed: bool = False

    def over(self, height: int, width: int) -> ChipPlan:
        """Return the chips of a raster; see `plan_chips`."""
        return plan_chips(height, width, chip=self.chip, halo=self.halo, stride=self.stride, fixed=self.fixed)

    def side(self, length: int) -> int:
        """Return the size of the chips along an axis of `length` px."""
        return _split_axis(length, chip=self.chip, halo=self.halo, stride=self.stride, fixed=self.fixed)[0].size

    def edges(self, length: int) -> list[int]:
        """Return where cores begin along an axis of `length` px, and its end."""
        spans = _split_axis(length, chip=self.chip, halo=self.halo, stride=self.stride, fixed=self.fixed)
        return [*(span.core_start for span in spans), length]


def plan_chips(height: int, width: int, *, chip: int, halo: int, stride: int, fixed: bool = False) -> ChipPlan:
    """Plan the chips of a raster of `height` x `width` px.

    Args:
        height: rows of the raster.
        width: columns of the raster.
        chip: longest side of a chip, a multiple of `stride`.
        halo: pixels read around a core and discarded, a multiple of `stride`.
        stride: the network's stride; every chip starts and ends at a multiple of it.
        fixed: chips are of just that size, smaller only where the padded raster is. Otherwise they are as small as
            their number allows, so that little is read twice.

    Raises:
        ConfigError: a size is not positive, not a multiple of the stride, or leaves no core.
    """
    if min(height, width, chip, stride) < 1 or halo < 0:
        raise ConfigError(
            f"raster {height} x {width}, chip {chip}, halo {halo}, stride {stride}", expected="positive sizes"
        )
    if chip % stride or halo % stride:
        raise ConfigError(f"chip {chip} px and halo {halo} px", expected=f"multiples of the stride, {stride} px")
    rows, cols = (_split_axis(length, chip=chip, halo=halo, stride=stride, fixed=fixed) for length in (height, width))
    return _crossed(rows, cols, height=height, width=width, halo=halo, stride=stride)


def plan_again(lattice: Mapping[str, Any]) -> ChipPlan:
    """Return the plan that `ChipPlan.lattice` told of, whether its chips were of a fixed size or not."""
    height, width, halo, stride = (lattice[name] for name in ("height", "width", "halo", "stride"))
    rows, cols = (
        # Told of is the size that they came to have, so it is fixed now.
        _split_axis(length, chip=chip, halo=halo, stride=stride, fixed=True)
        for length, chip in ((height, lattice["chip_height"]), (width, lattice["chip_width"]))
    )
    return _crossed(rows, cols, height=height, width=width, halo=halo, stride=stride)


def _crossed(rows: list[_Span], cols: list[_Span], *, height: int, width: int, halo: int, stride: int) -> ChipPlan:
    """Return the chips of every row of spans and every column."""
    chips = tuple(
        ChipWindow(
            read=Window(row.start, col.start, row.size, col.size),
            core=Window(row.core_start, col.core_start, row.core_stop - row.core_start, col.core_stop - col.core_start),
        )
        for row in rows
        for col in cols
    )
    return ChipPlan(height, width, rows[0].size, cols[0].size, halo, stride, chips)


def _split_axis(length: int, *, chip: int, halo: int, stride: int, fixed: bool) -> list[_Span]:
    padded = -(-length // stride) * stride
    size = min(chip, padded)
    if size < padded and size <= 2 * halo:
        raise ConfigError(
            f"a chip of {size} px with a halo of {halo} px on each side",
            expected=f"a chip of more than {2 * halo} px",
            remedy="a larger --max-memory, or a smaller --halo",
        )
    if size < padded and not fixed:
        chips = -(-(padded - 2 * halo) // (size - 2 * halo))
        size = -(-(padded - 2 * halo) // (chips * stride)) * stride + 2 * halo
    step = size - 2 * halo
    spans: list[_Span] = []
    core_start = 0
    while core_start < length:
        start = min(len(spans) * step, padded - size)
        last = start + size == padded
        core_stop = length if last else start + size - halo
        # Padding is shorter than one stride and so than any halo: a core that begins inside the raster ends inside.
        spans.append(_Span(start, size, core_start, min(core_stop, length)))
        core_start = core_stop
    return spans
