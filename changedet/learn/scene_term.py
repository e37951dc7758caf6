"""What of a labelled scene is joined with a network's answer, as `changedet.detect.fused` does it with a pair's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from changedet.detect.sample import moments_of
from changedet.detect.stitch import silent
from changedet.grid import Window
from changedet.learn.datasets.training import TrainingScene
from changedet.read.pair import Chip
from changedet.stats.moments import Moments
from changedet.stats.urban import UrbanChange, fit_urban, joined


@dataclass(frozen=True, slots=True)
class SceneTerm:
    """The statistic of one scene.

    Attributes:
        scene: it is of.
        statistic: fitted to it.
        weight: what a unit of it adds to the logit.
    """

    scene: TrainingScene
    statistic: UrbanChange
    weight: float

    def values(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the statistic over a window of the scene, float32 (H, W), and where it is valid, bool (H, W)."""
        halo, (height, width) = self.statistic.halo, self.scene.shape
        around = Window(window.row - halo, window.col - halo, window.height + 2 * halo, window.width + 2 * halo)
        inside = around.intersect(Window(0, 0, height, width))
        assert inside is not None  # noqa: S101 - the window lies in the scene
        before, after, _, valid = self.scene.read(inside)
        image = self.statistic.image(before.astype(np.float32), after.astype(np.float32), valid)
        here = window.relative_to(inside).slices
        return image[0][here], valid[here]

    def join(self, probability: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """Join a network's answer (1, H, W) over a window of the scene with the statistic there."""
        return joined(probability, self.values(window)[0][None], self.weight)


def scene_moments(scene: TrainingScene) -> Moments:
    """Return the moments of the stacked bands (before, then after) of a scene's valid pixels."""

    def read(window: Window) -> Chip:
        before, after, _, valid = scene.read(window)
        return Chip(before.astype(np.float32), after.astype(np.float32), valid, window)

    return moments_of(read, scene.shape, scene.channels, silent)


def fit_scene_term(scene: TrainingScene, bands: tuple[str, ...], weight: float) -> SceneTerm:
    """Fit the statistic to a scene whose channels are these Sentinel-2 bands.

    Raises:
        PairError: at one date no band varies.
    """
    return SceneTerm(scene, fit_urban(scene_moments(scene), bands), weight)
