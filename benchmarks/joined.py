"""How much what a network is joined with should count beside its logit: cross-validated F1, JSON and table.

changedet train pipelines/02_train_oscd.yaml --jobs 2
python -m benchmarks.joined                           the pair's own statistic
python -m benchmarks.joined neighbours                what seems to change around a pixel, beside the recipe's statistic

Takes the networks of the folds that the command above left. A city is scored by the network that did not learn from
it, at the threshold of highest F1 on the cities of the two other folds, so that it has no part in that either.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from changedet.config import TrainConfig, load_pipeline
from changedet.learn.counts import ChangeCounts, ProbabilityHistogram
from changedet.learn.crossvalidate import best_candidate
from changedet.learn.evaluate import evaluate_scene
from changedet.learn.scene_term import fit_scene_term
from changedet.learn.task import Task, scenes_of, train_task

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "pipelines" / "02_train_oscd.yaml"
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "experiments.md"
WEIGHTS: Final = {"statistic": (0.0, 1.0, 2.0, 4.0, 6.0, 9.0), "neighbours": (0.0, 1.0, 2.0)}


class Joined(NamedTuple):
    """Weights of what is joined, see `SceneTerm`."""

    statistic: float
    neighbours: float = 0.0


def settings(what: str, config: TrainConfig) -> dict[str, Joined]:
    """Return what is compared, by the weight that varies."""
    if what == "statistic":
        return {f"{weight:g}": Joined(weight) for weight in WEIGHTS[what]}
    return {f"{weight:g}": Joined(config.urban_weight, weight) for weight in WEIGHTS[what]}


def measure(model: str, config: TrainConfig, compared: dict[str, Joined]) -> dict[str, Any]:
    """Return the figures of one model by what it is joined with."""
    bands = config.models[model].bands
    scenes, candidate = scenes_of(config, bands), best_candidate(model, config)
    folds: dict[str, list[ProbabilityHistogram]] = {name: [] for name in compared}
    for fold in range(len(config.folds)):
        task = Task(model, candidate, fold, config)
        network = train_task(task, scenes)
        for name, weights in compared.items():
            terms = {city: fit_scene_term(scenes[city], bands, *weights) for city in task.held_out}
            histograms = (evaluate_scene(network, scenes[city], term=term) for city, term in terms.items())
            folds[name].append(sum(histograms, start=ProbabilityHistogram.empty()))
        print(model, fold, flush=True)
    return {name: figures(each) for name, each in folds.items()}


def figures(folds: Sequence[ProbabilityHistogram]) -> dict[str, Any]:
    """Return F1 at the best threshold of all, and at those of the other folds: pooled, and by fold."""
    pooled, counts = sum(folds, start=ProbabilityHistogram.empty()), []
    for at, fold in enumerate(folds):
        others = sum((*folds[:at], *folds[at + 1 :]), start=ProbabilityHistogram.empty())
        counts.append(fold.counts(others.best_threshold()))
    return {
        "f1_at_best": round(pooled.counts(pooled.best_threshold()).f1, 4),
        "f1_at_others": round(sum(counts, start=ChangeCounts()).f1, 4),
        "f1_at_others_by_fold": [round(each.f1, 4) for each in counts],
    }


def table(result: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    names = list(next(iter(result.values())))
    lines = [f"| model | {' | '.join(f'weight {name}' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for model, rows in result.items():
        cells = [f"{row['f1_at_others']:.3f} ({row['f1_at_best']:.3f})" for row in rows.values()]
        lines.append(f"| `{model}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all models of the recipe, and write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=tuple(WEIGHTS), default="statistic")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="change it")
    parser.add_argument("--tables", action="store_true", help="only write the table again")
    options = parser.parse_args()
    path = RESULTS / ("joined.json" if options.what == "statistic" else "joined_neighbours.json")
    if not options.tables:
        config = load_pipeline(RECIPE, tuple(options.changes)).train
        if config is None:
            raise SystemExit(f"{RECIPE} has no block train")
        torch.set_num_threads(config.threads)
        result = {model: measure(model, config, settings(options.what, config)) for model in config.models}
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    marks = rf"(<!-- table: benchmarks/joined.py {options.what} -->\n)(.*?)(\n<!-- end -->)"
    lines, text = table(json.loads(path.read_text(encoding="utf-8"))), DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(
        re.sub(marks, lambda found: found[1] + lines + found[3], text, flags=re.DOTALL), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
