"""How good a model is on scenes whose truth is known: histograms of its stored probability, summed over scenes."""

from __future__ import annotations

import torch
from torch import Tensor

from changedet.grid.quantise import quantise
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.datasets import LabelledScene
from changedet.network.base import ChangeNetwork
from changedet.network.normalise import LogReflectance


def evaluate_scene(network: ChangeNetwork, scene: LabelledScene) -> ProbabilityHistogram:
    """Return the histogram of one scene, all of it in one pass, from the bytes that a run would store."""
    with torch.inference_mode():
        before, after = (LogReflectance()(_tensor(image)) for image in (scene.before, scene.after))
        probability = network(before, after).float().sigmoid()[0, 0].numpy()
    return ProbabilityHistogram.of(quantise(probability, scene.valid), scene.changed, scene.valid)


def _tensor(image: object) -> Tensor:
    return torch.as_tensor(image, dtype=torch.float32)[None]
