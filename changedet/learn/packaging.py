"""From finished trainings to a model file: figures, calibration, what is measured for the card."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from changedet.config import TrainConfig
from changedet.grid import Window
from changedet.learn.calibrate import recalibrated
from changedet.learn.card import make_card, measure
from changedet.learn.checkpoint import CHECKPOINT
from changedet.learn.datasets import LabelledScene, TrainingScene
from changedet.learn.distance import distance_figures
from changedet.learn.draw import draw_training
from changedet.learn.kinds import Kinds
from changedet.learn.log import read_log
from changedet.learn.task import Task, held_out, held_out_classes, scenes_of, train_task, write_json
from changedet.learn.train import built_with
from changedet.network.base import ChangeNetwork
from changedet.network.metric import MetricNetwork
from changedet.network.package import save_model
from changedet.network.shipped import file_digest

_PROTOCOL = "cross-validated over folds of scenes, all valid pixels of those held out, counts pooled, change class"
# Side (px) of the largest image on which a network is measured for its card.
_LARGEST_EXAMPLE_PX = 2048


def package(task: Task, command: str, report: Callable[[str], None]) -> Path:
    """Save the model of a final training, whose folds are done too, with figures and PNG beside it; return its path.

    Args:
        task: a training on all scenes.
        command: to be stated on the card.
        report: hears a line.
    """
    bands = task.config.models[task.model].bands
    cities = scenes_of(task.config, bands)
    network = train_task(task, cities)
    figures = {name: cross_validation(task.model, name, task.config) for name in task.config.candidates_of(task.model)}
    write_json(task.config.out / f"{task.model}.json", figures)
    scores = held_out(task.model, task.candidate, task.config).calibrated(task.config.calibration)
    stated = figures[task.candidate]
    if isinstance(network, MetricNetwork):
        stated = {**stated, "distance": distance_figures(network, scores.calibration, stated["threshold"])}
    candidate, kinds = task.config.candidates[task.candidate], Kinds.of(task.config.data)
    arguments, crop = built_with(candidate, bands, kinds), task.config.augment.crop_px
    measured = measured_once(task.folder, network, arguments, cities, crop)
    card = make_card(task.model, candidate, network, task.config, stated, scores.calibration, measured, command)
    path = task.config.out / f"{task.model}.safetensors"
    draw_training(path.with_suffix(".png"), read_log(task.folder), scores.pooled, card.threshold)
    save_model(path, network, card)
    report(f"{path}: {task.candidate}, cross-validated F1 {figures[task.candidate]['pooled']['f1']:.3f}")
    return path


def cross_validation(model: str, candidate: str, config: TrainConfig) -> dict[str, Any]:
    """Return the figures for the card: of calibrated probabilities; at 0.5 of the networks' own, as is published."""
    scores = held_out(model, candidate, config)
    calibrated = scores.calibrated(config.calibration)
    apart = scores.fit_apart(config.calibration)
    method = {} if calibrated.calibration is None else {"method": calibrated.calibration.method}
    figures = calibrated.figures()
    kinds = Kinds.of(config.data)
    by_class = {}
    if kinds.several:
        pixels = held_out_classes(model, candidate, config)
        pixels = pixels if calibrated.calibration is None else pixels.moved(recalibrated(calibrated.calibration))
        by_class = {"by_class": pixels.counts(calibrated.pooled.best_threshold()).figures(kinds.names)}
    at_half = {"pooled_at_0.5": scores.pooled.counts(0.5).figures()}
    return {"protocol": _PROTOCOL, **figures, **at_half, **by_class, "calibration": {**method, **apart}}


def measured_once(
    folder: Path, network: ChangeNetwork, arguments: dict[str, Any], cities: Mapping[str, TrainingScene], crop_px: int
) -> dict[str, Any]:
    """Return what is measured of a network for its card, see `measure`; once for a checkpoint, as it takes minutes.

    Args:
        folder: of its training.
        network: trained, in eval mode.
        arguments: that it was built with.
        cities: scenes, of which the largest is the example.
        crop_px: side of the chips it learned from.
    """
    path, trained = folder / "measured.json", file_digest(folder / CHECKPOINT)
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get("checkpoint") != trained:
        example = _example(max(cities.values(), key=lambda scene: math.prod(scene.shape)))
        known = {"checkpoint": trained, "measured": measure(network, arguments, example, crop_px)}
        write_json(path, known)
    return dict(known["measured"])


def _example(scene: TrainingScene) -> LabelledScene:
    """Return a scene in memory to measure a network on, the middle of one that is too large for that.

    Corners are often nodata, on which any halo seems wide enough.
    """
    height, width = (min(side, _LARGEST_EXAMPLE_PX) for side in scene.shape)
    row, col = (scene.shape[0] - height) // 2, (scene.shape[1] - width) // 2
    return LabelledScene(scene.name, *scene.read(Window(row, col, height, width)))
