"""Open scenes, put both on one grid, and hand out chips with their validity. No torch."""

from changedet.read.opening import open_scene
from changedet.read.pair import BiTemporalPair, Chip, RasterPair, open_pair
from changedet.read.scene import Band, Scene

__all__ = ["Band", "BiTemporalPair", "Chip", "RasterPair", "Scene", "open_pair", "open_scene"]
