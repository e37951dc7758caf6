"""Cross-validation over fixed folds of cities, and the models that come of it.

For each model every candidate architecture is trained once for each fold, on the other folds, and scored on the fold
that was held out. The candidate with the highest pooled F1 is then trained on all cities and saved with its card. Each
training is a unit of work with a result file of its own, so an interrupted command goes on where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from changedet.config import DatasetConfig, TrainConfig
from changedet.errors import ConfigError
from changedet.learn.card import make_card
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.datasets import LabelledScene, load_scene, open_dataset, refuse_overlap
from changedet.learn.evaluate import evaluate_scene
from changedet.learn.train import train
from changedet.network.base import ChangeNetwork
from changedet.network.package import save_model

_PROTOCOL = "cross-validated over folds of OSCD's training cities, all valid pixels, counts pooled, change class"

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


def train_models(config: TrainConfig, *, jobs: int, command: str, report: Report) -> list[Path]:
    """Cross-validate, train the best on everything, and save one model file for each entry of `config.models`.

    Args:
        config: the recipe.
        jobs: trainings that run beside each other, each in a process of its own.
        command: to be stated on the card.
        report: called with a line at each step of progress.

    Raises:
        ConfigError: the folds are not a partition of the scenes, or scenes of two folds share ground.
    """
    _check_folds(config)
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
    return [_package(task, command, report) for task in finals]


def carry_out(tasks: Iterable[Task], jobs: int, report: Report) -> None:
    """Run the tasks that have no result yet, `jobs` at a time; the first failure is raised."""
    left = [task for task in tasks if not (task.folder / "result.json").exists()]
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for line in pool.map(run_task, left):
            report(line)


def run_task(task: Task) -> str:
    """Train and score one task, write its result.json, and return a line for people."""
    bands = task.config.models[task.model].bands
    cities = {name: _select(scene, bands, task.config) for name, scene in _load(task.config).items()}
    learn_from = [scene for name, scene in cities.items() if name not in task.held_out]
    network = train_task(task, learn_from)
    result: dict[str, Any] = {"model": task.model, "candidate": task.candidate, "fold": task.fold, "cities": {}}
    pooled = ProbabilityHistogram.empty()
    for name in task.held_out:
        histogram = evaluate_scene(network, cities[name])
        pooled = pooled + histogram
        result["cities"][name] = histogram.as_json()
    _write_json(task.folder / "result.json", result)
    scored = f": F1 {pooled.counts(0.5).f1:.3f} at threshold 0.5" if task.held_out else ""
    return f"{task.model} · {task.candidate} · {'all cities' if task.fold is None else f'fold {task.fold}'}{scored}"


def train_task(task: Task, scenes: list[LabelledScene]) -> ChangeNetwork:
    """Train (or finish, or only load) a task's network, with weights rounded to float16 as they will be shipped."""
    bands = task.config.models[task.model].bands
    candidate = task.config.candidates[task.candidate]
    network = train(scenes, bands, candidate, task.config, task.folder, _progress_to(task.folder))
    return network.half().float()


def best_candidate(model: str, config: TrainConfig) -> str:
    """Return the candidate of highest F1 over all held-out pixels, each at its own best threshold."""

    def score(candidate: str) -> float:
        pooled = pooled_histogram(model, candidate, config)
        return pooled.counts(pooled.best_threshold()).f1

    return max(config.candidates_of(model), key=score)


def fold_histograms(model: str, candidate: str, config: TrainConfig) -> list[dict[str, ProbabilityHistogram]]:
    """Return city → histogram for each fold."""
    results = []
    for fold in range(len(config.folds)):
        record = json.loads((Task(model, candidate, fold, config).folder / "result.json").read_text())
        results.append({name: ProbabilityHistogram.from_json(h) for name, h in record["cities"].items()})
    return results


def pooled_histogram(model: str, candidate: str, config: TrainConfig) -> ProbabilityHistogram:
    """Return the histogram over all held-out cities."""
    total = ProbabilityHistogram.empty()
    for fold in fold_histograms(model, candidate, config):
        total = sum(fold.values(), start=total)
    return total


def cross_validation(model: str, candidate: str, config: TrainConfig) -> dict[str, Any]:
    """Return the figures for the card: at the best threshold and at 0.5, pooled, by fold and by city."""
    folds = fold_histograms(model, candidate, config)
    pooled = pooled_histogram(model, candidate, config)
    threshold = pooled.best_threshold()
    by_fold = [sum(fold.values(), start=ProbabilityHistogram.empty()) for fold in folds]
    return {
        "protocol": _PROTOCOL,
        "threshold": round(threshold, 4),
        "pooled": pooled.counts(threshold).figures(),
        "pooled_at_0.5": pooled.counts(0.5).figures(),
        "folds": [
            {"cities": list(cities), **fold.counts(threshold).figures()}
            for cities, fold in zip(folds, by_fold, strict=True)
        ],
        "cities": {name: h.counts(threshold).figures() for fold in folds for name, h in fold.items()},
    }


def _package(task: Task, command: str, report: Report) -> Path:
    cities = list(_load(task.config).values())
    bands = task.config.models[task.model].bands
    network = train_task(task, [_select(scene, bands, task.config) for scene in cities])
    figures = {name: cross_validation(task.model, name, task.config) for name in task.config.candidates_of(task.model)}
    _write_json(task.config.out / f"{task.model}.json", figures)
    largest = max(cities, key=lambda scene: scene.changed.size)
    example = _select(largest, bands, task.config)
    card = make_card(task.model, task.candidate, network, task.config, figures[task.candidate], example, command)
    path = task.config.out / f"{task.model}.safetensors"
    save_model(path, network, card)
    report(f"{path}: {task.candidate}, cross-validated F1 {figures[task.candidate]['pooled']['f1']:.3f}")
    return path


def _load(config: TrainConfig) -> dict[str, LabelledScene]:
    """Return all cities with every band that any model needs, read once a process."""
    return _load_cities(config.data, _all_bands(config))


@lru_cache(maxsize=1)
def _load_cities(data: DatasetConfig, bands: tuple[str, ...]) -> dict[str, LabelledScene]:
    return {source.name: load_scene(source, bands) for source in open_dataset(data).scenes}


def _all_bands(config: TrainConfig) -> tuple[str, ...]:
    return tuple(sorted({band for plan in config.models.values() for band in plan.bands}))


def _select(scene: LabelledScene, bands: tuple[str, ...], config: TrainConfig) -> LabelledScene:
    channels = [_all_bands(config).index(band) for band in bands]
    return replace(scene, before=scene.before[channels], after=scene.after[channels])


def _check_folds(config: TrainConfig) -> None:
    places = {source.name: source.place() for source in open_dataset(config.data).scenes}
    scenes, folded = sorted(places), sorted(name for fold in config.folds for name in fold)
    if scenes != folded:
        raise ConfigError(f"folds of {', '.join(folded)}", expected=f"each scene once: {', '.join(scenes)}")
    for fold in config.folds:
        learned = [place for name, place in places.items() if name not in fold]
        refuse_overlap(learned, [places[name] for name in fold])


def _progress_to(folder: Path) -> Callable[[int, float], None]:
    """Return a callback that keeps the last step in a small file, for whoever wants to look."""

    def write(step: int, loss: float) -> None:
        (folder / "progress.txt").write_text(f"step {step + 1}, loss {loss:.4f}\n")

    return write


def _write_json(path: Path, content: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content))
    os.replace(partial, path)
