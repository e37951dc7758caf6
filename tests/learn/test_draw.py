from pathlib import Path

import numpy as np
from PIL import Image

from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.draw import draw_scores, draw_training

_BLUE, _ORANGE = (31, 119, 180), (255, 127, 14)


def _histogram(seed: int = 0) -> ProbabilityHistogram:
    changed, unchanged = (np.sort(part) for part in np.random.default_rng(seed).integers(0, 99, (2, 255)))
    return ProbabilityHistogram(changed, unchanged[::-1])


def _pixels_of(path: Path, colour: tuple[int, int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    with Image.open(path) as picture:
        same: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = (np.asarray(picture.convert("RGB")) == colour).all(2)
    return same


def test_a_training_is_drawn_over_its_steps_and_beside_it_what_it_is_worth(tmp_path: Path) -> None:
    rows = [{"step": str(step), "loss": str(1 / (step + 1)), "validation_f1": "0.5"} for step in range(300)]
    both, loss = tmp_path / "both.png", tmp_path / "loss.png"
    draw_training(both, rows, _histogram(), 0.5)
    draw_training(loss, rows, ProbabilityHistogram.empty(), 0.5)
    assert _pixels_of(both, _BLUE).shape == (400, 1100)
    assert _pixels_of(loss, _BLUE).shape == (400, 600)
    assert _pixels_of(both, _BLUE)[:, :550].any()
    # The threshold is marked by a dot, which is thicker than the curve.
    assert _pixels_of(both, _BLUE)[60:340, 620:].sum(axis=0).max() > 4


def test_each_model_has_a_line_of_its_own_in_both_pictures(tmp_path: Path) -> None:
    draw_scores(tmp_path / "scores.png", [("one", _histogram(0), 0.5), ("two $", _histogram(1), 0.4)])
    for colour in (_BLUE, _ORANGE):
        left, right = np.array_split(_pixels_of(tmp_path / "scores.png", colour), 2, axis=1)
        assert left.sum() > 100
        assert right.sum() > 100
