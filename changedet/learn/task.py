"""One training of a cross-validation as a unit of work, with a folder and a result file of its own."""

from __future__ import annotations

import functools
import json
import operator
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from changedet.config import DatasetConfig, Recipe, TrainConfig
from changedet.learn import parallel
from changedet.learn.class_counts import ClassHistogram
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.datasets import TrainingScene, open_dataset, training_scenes
from changedet.learn.distance import calibrate_distance
from changedet.learn.draw import draw_training
from changedet.learn.evaluate import evaluate_classes, evaluate_scene
from changedet.learn.held_out import HeldOut
from changedet.learn.kinds import Kinds
from changedet.learn.log import read_log
from changedet.learn.predict import chip_of
from changedet.learn.scene_term import fit_scene_term
from changedet.learn.train import train
from changedet.network.base import ChangeNetwork
from changedet.network.metric import MetricNetwork


@dataclass(frozen=True, slots=True)
class Task:
    """One training: a candidate for a model, with one fold held out, or with none (`fold` None)."""

    model: str
    candidate: str
    fold: int | None
    config: TrainConfig

    @property
    def folder(self) -> Path:
        """Where its checkpoint, log and result are."""
        part = "all" if self.fold is None else f"fold{self.fold}"
        return self.config.out / self.model / self.candidate / part

    @property
    def held_out(self) -> tuple[str, ...]:
        """Cities it does not learn from."""
        return () if self.fold is None else self.config.folds[self.fold]

    @property
    def validation(self) -> tuple[str, ...]:
        """Cities that decide when it stops, which it does not learn from either."""
        stop = self.config.early_stop
        return tuple(name for name in stop.scenes if name not in self.held_out) if stop else ()


def run_task(task: Task) -> str:
    """Train and score one task, write its result.json, and return a line for people."""
    bands = task.config.models[task.model].bands
    cities = scenes_of(task.config, bands)
    network = train_task(task, cities)
    if parallel.rank() > 0:
        return ""
    result: dict[str, Any] = {"model": task.model, "candidate": task.candidate, "fold": task.fold, "cities": {}}
    result["initial_weights"] = network.initial_weights
    pooled = ProbabilityHistogram.empty()
    chip = chip_of(network, len(bands), task.config.augment.crop_px)
    kinds = Kinds.of(task.config.data)
    for name in task.held_out:
        histogram, classes = _scored(task, network, cities[name], chip, kinds)
        pooled = pooled + histogram
        result["cities"][name] = {**histogram.as_json(), **({"classes": classes.pixels.tolist()} if classes else {})}
    threshold = pooled.best_threshold() if task.held_out else 0.5
    draw_training(task.folder / "curves.png", read_log(task.folder), pooled, threshold)
    write_json(task.folder / "result.json", result)
    scored = f": F1 {pooled.counts(0.5).f1:.3f} at threshold 0.5" if task.held_out else ""
    part = "all cities" if task.fold is None else f"fold {task.fold}"
    return f"{task.model} · {task.candidate} · {part}, from {network.initial_weights} weights{scored}"


def _scored(
    task: Task, network: ChangeNetwork, scene: TrainingScene, chip: int | None, kinds: Kinds
) -> tuple[ProbabilityHistogram, ClassHistogram | None]:
    if not kinds.several:
        bands, config = task.config.models[task.model].bands, task.config
        weights = config.urban_weight, config.neighbour_weight
        term = fit_scene_term(scene, bands, *weights) if config.urban_weight else None
        return evaluate_scene(network, scene, chip, term), None
    classes = evaluate_classes(network, scene, chip)
    return classes.change(), classes


def train_task(task: Task, cities: Mapping[str, TrainingScene]) -> ChangeNetwork:
    """Train (or finish, or only load) a task's network, with weights rounded to float16 as they will be shipped.

    A network that measures a distance is calibrated on the cities that decide when to stop, where there are some, else
    on those it learned from.
    """
    bands = task.config.models[task.model].bands
    candidate = task.config.candidates[task.candidate]
    validation = [cities[name] for name in task.validation]
    aside = {*task.held_out, *task.validation}
    scenes = [scene for name, scene in cities.items() if name not in aside]
    network = train(scenes, bands, candidate, task.config, task.folder, progress_to(task.folder), validation)
    if isinstance(network, MetricNetwork):
        chip = chip_of(network, len(bands), task.config.augment.crop_px)
        calibrate_distance(network, validation or scenes, chip)
    return network.half().float()


def scenes_of(config: Recipe, bands: tuple[str, ...], *, labelled: bool = True) -> dict[str, TrainingScene]:
    """Return all cities with the bands that a model needs; with `labelled` False, no label is read."""
    every = _all_bands(config)
    channels = [every.index(band) for band in bands]
    return {scene.name: scene.select(channels) for scene in _load(config.data, every, config.scene_memory, labelled)}


@lru_cache(maxsize=1)
def _load(data: DatasetConfig, bands: tuple[str, ...], max_bytes: int, labelled: bool) -> list[TrainingScene]:
    """Return all cities with every band that any model needs, read or opened once a process."""
    return training_scenes(open_dataset(data, labelled=labelled), bands, max_bytes=max_bytes)


def _all_bands(config: Recipe) -> tuple[str, ...]:
    return tuple(sorted({band for plan in config.models.values() for band in plan.bands}))


def held_out(model: str, candidate: str, config: TrainConfig) -> HeldOut:
    """Return what the folds' networks made of the cities that they did not learn from."""
    results = []
    for fold in range(len(config.folds)):
        record = json.loads((Task(model, candidate, fold, config).folder / "result.json").read_text())
        results.append({name: ProbabilityHistogram.from_json(h) for name, h in record["cities"].items()})
    return HeldOut(tuple(results))


def held_out_classes(model: str, candidate: str, config: TrainConfig) -> ClassHistogram:
    """Return the pixels of all held-out cities by class of change."""
    records = [
        json.loads((Task(model, candidate, fold, config).folder / "result.json").read_text())["cities"].values()
        for fold in range(len(config.folds))
    ]
    histograms = (ClassHistogram(np.array(city["classes"], np.int64)) for cities in records for city in cities)
    return functools.reduce(operator.add, histograms)


def progress_to(folder: Path) -> Callable[[int, float], None]:
    """Return a callback that keeps the last step in a small file, for whoever wants to look."""

    def write(step: int, loss: float) -> None:
        if parallel.rank() == 0:
            (folder / "progress.txt").write_text(f"step {step + 1}, loss {loss:.4f}\n")

    return write


def write_json(path: Path, content: object) -> None:
    """Write a JSON file that appears complete or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content))
    os.replace(partial, path)
