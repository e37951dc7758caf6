"""What of a labelled scene is joined with a network's answer, as `changedet.detect.fused` does it with a pair's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from changedet.detect.sample import moments_of
from changedet.detect.stitch import silent
from changedet.errors import PairError
from changedet.grid import Window
from changedet.learn.datasets.training import TrainingScene
from changedet.read.pair import Chip
from changedet.stats.moments import Moments
from changedet.stats.neighbourhood import RADIUS, reinforced
from changedet.stats.urban import UrbanChange, fit_urban, joined


@dataclass(frozen=True, slots=True)
class SceneTerm:
    """The statistic of one scene.

    Attributes:
        scene: it is of.
        statistic: fitted to it.
        weight: what a unit of it adds to the logit.
        neighbour_weight: what a unit of the logarithm of the share of change around adds.
    """

    scene: TrainingScene
    statistic: UrbanChange
    weight: float
    neighbour_weight: float = 0.0

    @property
    def margin(self) -> int:
        """How far (px) around a window `join` has to know the network's answer."""
        return RADIUS if self.neighbour_weight else 0

    def values(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the statistic over a window of the scene, float32 (H, W), and where it is valid, bool (H, W)."""
        inside = window.grown(self.statistic.halo).intersect(Window(0, 0, *self.scene.shape))
        assert inside is not None  # noqa: S101 - the window lies in the scene
        before, after, _, valid = self.scene.read(inside)
        image = self.statistic.image(before.astype(np.float32), after.astype(np.float32), valid)
        here = window.relative_to(inside).slices
        return image[0][here], valid[here]

    def join(self, probability: NDArray[np.float32], core: Window, around: Window) -> NDArray[np.float32]:
        """Return a network's answer over a window of the scene, joined with the statistic and what is around.

        Args:
            probability: (1, h, w), not calibrated, over `around`.
            core: the window.
            around: the same with the `margin`, as far as there is one.
        """
        statistic, valid = self.values(around)
        both = joined(probability, statistic[None], self.weight)
        if self.neighbour_weight:
            both = reinforced(both[0], valid, self.neighbour_weight)[None]
        rows, cols = core.relative_to(around).slices
        return both[:, rows, cols]


def scene_moments(scene: TrainingScene) -> Moments:
    """Return the moments of the stacked bands (before, then after) of a scene's valid pixels.

    Raises:
        PairError: there is none.
    """

    def read(window: Window) -> Chip:
        before, after, _, valid = scene.read(window)
        return Chip(before.astype(np.float32), after.astype(np.float32), valid, window)

    moments = moments_of(read, scene.shape, scene.channels, silent)
    if not moments.weight:
        raise PairError(
            f"no pixel of {scene.name} is valid at both dates",
            expected="one or more",
            remedy="a set without that scene",
        )
    return moments


def fit_scene_term(
    scene: TrainingScene, bands: tuple[str, ...], weight: float, neighbour_weight: float = 0.0
) -> SceneTerm:
    """Fit the statistic to a scene whose channels are these Sentinel-2 bands; the weights as in `SceneTerm`.

    Raises:
        PairError: at one date no band varies, or no pixel is valid.
    """
    return SceneTerm(scene, fit_urban(scene_moments(scene), bands), weight, neighbour_weight)
