"""Windows and chip plans: integers only, no torch, no raster I/O."""

from changedet.grid.plan import ChipPlan, ChipWindow, Lattice, plan_again, plan_chips
from changedet.grid.window import Window, snap

__all__ = ["ChipPlan", "ChipWindow", "Lattice", "Window", "plan_again", "plan_chips", "snap"]
