from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from changedet.grid import Window
from changedet.learn.datasets import LabelledScene
from changedet.learn.evaluate import evaluate_scene
from changedet.learn.rate import threshold_of_rate
from changedet.learn.scene_term import fit_scene_term
from changedet.network.package import build_network

BANDS = ("B02", "B03", "B04", "B08")


def test_the_threshold_marks_as_many_pixels_as_the_statistic(make_scene: Callable[..., LabelledScene]) -> None:
    torch.manual_seed(0)
    network = build_network("fc_siam_diff", {"in_channels": 4, "width": 4}).eval()
    scenes = []
    for seed in range(2):
        scene, rng = make_scene(128, seed), np.random.default_rng(seed)
        noise = (0.01 * rng.standard_normal(scene.after.shape)).astype(np.float16)
        scenes.append(replace(scene, after=scene.after + noise))
    terms = [fit_scene_term(scene, BANDS, 4.0) for scene in scenes]
    threshold, share = threshold_of_rate(network, terms)
    marked = sum(
        float((term.values(window)[0] >= 1.7).sum()) for term in terms for window in [_whole(term.scene.shape)]
    )
    assert share == marked / (2 * 128**2)
    assert share > 0
    found = sum(
        (evaluate_scene(network, t.scene, term=t).counts(threshold) for t in terms[1:]),
        start=evaluate_scene(network, terms[0].scene, term=terms[0]).counts(threshold),
    )
    assert abs(found.tp + found.fp - marked) < 0.2 * marked


def _whole(shape: tuple[int, int]) -> Window:
    return Window(0, 0, *shape)
