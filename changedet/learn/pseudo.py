"""Labels that a statistic of the pair itself is sure of, in place of those that people draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from changedet.config import PseudoConfig
from changedet.grid import Window
from changedet.grid.window import blocks
from changedet.learn.datasets import TrainingScene
from changedet.learn.datasets.cache import Pixels
from changedet.learn.datasets.labels import NOT_KNOWN
from changedet.learn.datasets.training import evenly
from changedet.learn.scene_term import SceneTerm

_BLOCK_PX: Final = 512


@dataclass(frozen=True, slots=True)
class PseudoScene:
    """A `TrainingScene` whose truth is a statistic's, and not known where that is not sure.

    Attributes:
        scene: whose imagery it has.
        labels: uint8 (H, W), 0 surely unchanged, 1 surely changed, 255 not known.
    """

    scene: TrainingScene
    labels: NDArray[np.uint8]

    @property
    def name(self) -> str:
        """See `TrainingScene`."""
        return self.scene.name

    @property
    def shape(self) -> tuple[int, int]:
        """See `TrainingScene`."""
        return self.scene.shape

    @property
    def channels(self) -> int:
        """See `TrainingScene`."""
        return self.scene.channels

    def changed_pixels(self) -> NDArray[np.intp]:
        """See `TrainingScene`."""
        return evenly(np.argwhere(self.labels == 1))

    def read(self, window: Window) -> Pixels:
        """See `TrainingScene`."""
        before, after, _, valid = self.scene.read(window)
        return before, after, self.labels[window.slices], valid

    def select(self, channels: Sequence[int]) -> PseudoScene:
        """See `TrainingScene`."""
        return PseudoScene(self.scene.select(channels), self.labels)


def pseudo_labelled(term: SceneTerm, config: PseudoConfig) -> PseudoScene:
    """Label a scene by the statistic that was fitted to it.

    Args:
        term: the scene and its statistic.
        config: from where on it is sure.
    """
    labels = np.full(term.scene.shape, NOT_KNOWN, np.uint8)
    for window in blocks(*term.scene.shape, _BLOCK_PX):
        statistic, valid = term.values(window)
        labels[window.slices][valid & (statistic <= config.unchanged_to)] = 0
        labels[window.slices][valid & (statistic >= config.changed_from)] = 1
    return PseudoScene(term.scene, labels)
