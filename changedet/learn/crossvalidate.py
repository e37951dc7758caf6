"""Cross-validation over fixed folds of cities, and the models that come of it.

For each model every candidate architecture is trained once for each fold, on the other folds, and scored on the fold
that was held out. The candidate with the highest pooled F1 is then trained on all cities and saved with its card. Each
training is a unit of work with a result file of its own, so an interrupted command goes on where it was.
"""

from __future__ import annotations

import functools
import json
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from changedet.config import DatasetConfig, TrainConfig
from changedet.errors import ConfigError
from changedet.grid import Window
from changedet.learn import parallel
from changedet.learn.calibrate import recalibrated
from changedet.learn.card import make_card, measure
from changedet.learn.checkpoint import CHECKPOINT
from changedet.learn.class_counts import ClassHistogram
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.datasets import LabelledScene, TrainingScene, open_dataset, refuse_overlap, training_scenes
from changedet.learn.distance import calibrate_distance, distance_figures
from changedet.learn.draw import draw_training
from changedet.learn.evaluate import evaluate_classes, evaluate_scene
from changedet.learn.held_out import HeldOut
from changedet.learn.kinds import Kinds
from changedet.learn.log import read_log
from changedet.learn.predict import chip_of
from changedet.learn.train import built_with, train
from changedet.network.base import ChangeNetwork
from changedet.network.metric import MetricNetwork
from changedet.network.package import save_model
from changedet.network.shipped import file_digest

_PROTOCOL = "cross-validated over folds of OSCD's training cities, all valid pixels, counts pooled, change class"
# Side (px) of the largest image on which a network is measured for its card.
_LARGEST_EXAMPLE_PX = 2048

Report = Callable[[str], None]


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


def train_models(config: TrainConfig, *, jobs: int, command: str, report: Report) -> list[Path]:
    """Cross-validate, train the best on everything, and save one model file for each entry of `config.models`.

    Args:
        config: the recipe.
        jobs: trainings that run beside each other, each in a process of its own; under torchrun, whose processes share
            every training, 1.
        command: to be stated on the card.
        report: called with a line at each step of progress.

    Returns:
        The model files; none in processes of torchrun but the first.

    Raises:
        ConfigError: the folds are not a partition of the scenes, scenes of two folds share ground, or several jobs
            under torchrun.
    """
    _check_folds(config)
    with parallel.joined():
        first = parallel.rank() == 0
        finals = _train_all(config, jobs, report)
    # The others are done: packaging only loads what they trained.
    return [_package(task, command, report) for task in finals] if first else []


def _train_all(config: TrainConfig, jobs: int, report: Report) -> list[Task]:
    """Carry out every training; return the final ones, on all scenes."""
    every_fold = [
        Task(model, candidate, fold, config)
        for candidate in config.candidates
        for model in config.models
        if candidate in config.candidates_of(model)
        for fold in range(len(config.folds))
    ]
    carry_out(every_fold, jobs, report)
    finals = [Task(model, best_candidate(model, config), None, config) for model in config.models]
    carry_out(finals, jobs, report)
    return finals


def carry_out(tasks: Iterable[Task], jobs: int, report: Report) -> None:
    """Run the tasks that have no result yet, `jobs` at a time; the first failure is raised."""
    left = [task for task in tasks if not (task.folder / "result.json").exists()]
    if parallel.size() > 1:
        _carry_out_together(left, jobs, report)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for line in pool.map(run_task, left):
            report(line)


def _carry_out_together(tasks: list[Task], jobs: int, report: Report) -> None:
    """Run the tasks one after the other, each shared by all processes of torchrun."""
    if jobs > 1:
        raise ConfigError(f"{jobs} jobs under torchrun, whose processes share each training", expected="--jobs 1")
    parallel.wait_for_all()  # until every process has seen which results there are
    for task in tasks:
        line = run_task(task)
        if parallel.rank() == 0:
            report(line)
        parallel.wait_for_all()


def run_task(task: Task) -> str:
    """Train and score one task, write its result.json, and return a line for people."""
    bands = task.config.models[task.model].bands
    cities = _scenes(task.config, bands)
    network = train_task(task, cities)
    if parallel.rank() > 0:
        return ""
    result: dict[str, Any] = {"model": task.model, "candidate": task.candidate, "fold": task.fold, "cities": {}}
    result["initial_weights"] = network.initial_weights
    pooled = ProbabilityHistogram.empty()
    chip = chip_of(network, len(bands), task.config.augment.crop_px)
    kinds = Kinds.of(task.config.data)
    for name in task.held_out:
        histogram, classes = _scored(network, cities[name], chip, kinds)
        pooled = pooled + histogram
        result["cities"][name] = {**histogram.as_json(), **({"classes": classes.pixels.tolist()} if classes else {})}
    threshold = pooled.best_threshold() if task.held_out else 0.5
    draw_training(task.folder / "curves.png", read_log(task.folder), pooled, threshold)
    _write_json(task.folder / "result.json", result)
    scored = f": F1 {pooled.counts(0.5).f1:.3f} at threshold 0.5" if task.held_out else ""
    part = "all cities" if task.fold is None else f"fold {task.fold}"
    return f"{task.model} · {task.candidate} · {part}, from {network.initial_weights} weights{scored}"


def _scored(
    network: ChangeNetwork, scene: TrainingScene, chip: int | None, kinds: Kinds
) -> tuple[ProbabilityHistogram, ClassHistogram | None]:
    if not kinds.several:
        return evaluate_scene(network, scene, chip), None
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
    network = train(scenes, bands, candidate, task.config, task.folder, _progress_to(task.folder), validation)
    if isinstance(network, MetricNetwork):
        calibrate_distance(network, validation or scenes)
    return network.half().float()


def best_candidate(model: str, config: TrainConfig) -> str:
    """Return the candidate of highest F1 over all held-out pixels, each at its own best threshold."""

    def score(candidate: str) -> float:
        pooled = held_out(model, candidate, config).pooled
        return pooled.counts(pooled.best_threshold()).f1

    return max(config.candidates_of(model), key=score)


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


def _package(task: Task, command: str, report: Report) -> Path:
    bands = task.config.models[task.model].bands
    cities = _scenes(task.config, bands)
    network = train_task(task, cities)
    figures = {name: cross_validation(task.model, name, task.config) for name in task.config.candidates_of(task.model)}
    _write_json(task.config.out / f"{task.model}.json", figures)
    scores = held_out(task.model, task.candidate, task.config).calibrated(task.config.calibration)
    stated = figures[task.candidate]
    if isinstance(network, MetricNetwork):
        stated = {**stated, "distance": distance_figures(network, scores.calibration, stated["threshold"])}
    measured = _measured(task, network, cities)
    card = make_card(task.model, task.candidate, network, task.config, stated, scores.calibration, measured, command)
    path = task.config.out / f"{task.model}.safetensors"
    draw_training(path.with_suffix(".png"), read_log(task.folder), scores.pooled, card.threshold)
    save_model(path, network, card)
    report(f"{path}: {task.candidate}, cross-validated F1 {figures[task.candidate]['pooled']['f1']:.3f}")
    return path


def _measured(task: Task, network: ChangeNetwork, cities: Mapping[str, TrainingScene]) -> dict[str, Any]:
    """Return what is measured of a task's network for its card; once for a checkpoint, as it takes minutes."""
    path, trained = task.folder / "measured.json", file_digest(task.folder / CHECKPOINT)
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get("checkpoint") != trained:
        plan, kinds = task.config.models[task.model], Kinds.of(task.config.data)
        arguments = built_with(task.config.candidates[task.candidate], plan.bands, kinds)
        example = _example(max(cities.values(), key=lambda scene: math.prod(scene.shape)))
        measured = measure(network, arguments, example, task.config.augment.crop_px)
        known = {"checkpoint": trained, "measured": measured}
        _write_json(path, known)
    return dict(known["measured"])


def _scenes(config: TrainConfig, bands: tuple[str, ...]) -> dict[str, TrainingScene]:
    """Return all cities with the bands that a model needs."""
    every = _all_bands(config)
    channels = [every.index(band) for band in bands]
    return {scene.name: scene.select(channels) for scene in _load(config.data, every, config.scene_memory)}


@lru_cache(maxsize=1)
def _load(data: DatasetConfig, bands: tuple[str, ...], max_bytes: int) -> list[TrainingScene]:
    """Return all cities with every band that any model needs, read or opened once a process."""
    return training_scenes(open_dataset(data), bands, max_bytes=max_bytes)


def _example(scene: TrainingScene) -> LabelledScene:
    """Return a scene in memory to measure a network on, the first corner of one that is too large for that."""
    height, width = (min(side, _LARGEST_EXAMPLE_PX) for side in scene.shape)
    return LabelledScene(scene.name, *scene.read(Window(0, 0, height, width)))


def _all_bands(config: TrainConfig) -> tuple[str, ...]:
    return tuple(sorted({band for plan in config.models.values() for band in plan.bands}))


def _check_folds(config: TrainConfig) -> None:
    places = {source.name: source.place() for source in open_dataset(config.data).scenes}
    scenes, folded = sorted(places), sorted(name for fold in config.folds for name in fold)
    if scenes != folded:
        raise ConfigError(f"folds of {', '.join(folded)}", expected=f"each scene once: {', '.join(scenes)}")
    strange = sorted(set(config.early_stop.scenes) - set(scenes)) if config.early_stop else []
    if strange:
        raise ConfigError(f"early_stop.scenes names {strange[0]}", expected=f"some of {', '.join(scenes)}")
    for fold in config.folds:
        learned = [place for name, place in places.items() if name not in fold]
        refuse_overlap(learned, [places[name] for name in fold])


def _progress_to(folder: Path) -> Callable[[int, float], None]:
    """Return a callback that keeps the last step in a small file, for whoever wants to look."""

    def write(step: int, loss: float) -> None:
        if parallel.rank() == 0:
            (folder / "progress.txt").write_text(f"step {step + 1}, loss {loss:.4f}\n")

    return write


def _write_json(path: Path, content: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content))
    os.replace(partial, path)
