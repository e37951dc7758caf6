"""Cross-validation over fixed folds of scenes, and the models that come of it.

For each model every candidate architecture is trained once for each fold, on the other folds, and scored on the fold
that was held out. The candidate with the highest pooled F1 is then trained on all scenes and saved with its card. Each
training is a unit of work with a result file of its own, so an interrupted command goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from changedet.config import TrainConfig
from changedet.errors import ConfigError
from changedet.learn import parallel
from changedet.learn.datasets import open_dataset, refuse_overlap
from changedet.learn.packaging import package
from changedet.learn.recipe import keep_recipe
from changedet.learn.task import Task, held_out, run_task

Report = Callable[[str], None]


def train_models(config: TrainConfig, *, jobs: int, command: str, report: Report) -> list[Path]:
    """Cross-validate, train the best on everything, and save one model file for each entry of `config.models`.

    Args:
        config: the recipe.
        jobs: trainings that run beside each other, each in a process of its own where there are several; under
            torchrun, whose processes share every training, 1.
        command: to be stated on the card.
        report: called with a line at each step of progress.

    Returns:
        The model files; none in processes of torchrun but the first.

    Raises:
        ConfigError: the folds are not a partition of the scenes, scenes of two folds share ground, several jobs
            under torchrun, or a training that was begun with another recipe.
    """
    _check_folds(config)
    with parallel.joined():
        first = parallel.rank() == 0
        finals = _train_all(config, jobs, report)
    # The others are done: packaging only loads what they trained.
    return [package(task, command, report) for task in finals] if first else []


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
    tasks = list(tasks)
    if parallel.rank() == 0:
        for task in tasks:
            bands, candidate = task.config.models[task.model].bands, task.config.candidates[task.candidate]
            keep_recipe(task.folder, task.config, candidate, bands=bands, held_out=task.held_out)
    left = [task for task in tasks if not (task.folder / "result.json").exists()]
    if parallel.size() > 1 and jobs > 1:
        raise ConfigError(f"{jobs} jobs under torchrun, whose processes share each training", expected="--jobs 1")
    if min(jobs, len(left)) <= 1:
        _carry_out_here(left, report)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for line in pool.map(run_task, left):
            report(line)


def _carry_out_here(tasks: list[Task], report: Report) -> None:
    """Run the tasks one after the other, where all is imported already; under torchrun all processes share each."""
    parallel.wait_for_all()  # until every process has seen which results there are
    for task in tasks:
        line = run_task(task)
        if parallel.rank() == 0:
            report(line)
        parallel.wait_for_all()


def best_candidate(model: str, config: TrainConfig) -> str:
    """Return the candidate of highest F1 over all held-out pixels, each at its own best threshold."""

    def score(candidate: str) -> float:
        pooled = held_out(model, candidate, config).pooled
        return pooled.counts(pooled.best_threshold()).f1

    return max(config.candidates_of(model), key=score)


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
