"""How much the pair's own statistic should count beside a network's logit: cross-validated F1, JSON and table.

changedet train pipelines/02_train_oscd.yaml --jobs 2
python -m benchmarks.joined

Takes the networks of the folds that the command above left. A city is scored by the network that did not learn from
it, at the threshold of highest F1 on the cities of the two other folds, so that it has no part in that either.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from changedet.config import TrainConfig, load_pipeline
from changedet.learn.counts import ChangeCounts, ProbabilityHistogram
from changedet.learn.crossvalidate import best_candidate
from changedet.learn.evaluate import evaluate_scene
from changedet.learn.scene_term import fit_scene_term
from changedet.learn.task import Task, scenes_of, train_task

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "pipelines" / "02_train_oscd.yaml"
RESULT = ROOT / "benchmarks" / "results" / "joined.json"
DOCUMENT = ROOT / "docs" / "experiments.md"
WEIGHTS: Final = (0.0, 1.0, 2.0, 4.0, 6.0, 9.0)


def measure(model: str, config: TrainConfig) -> dict[str, Any]:
    """Return the figures of one model by weight."""
    bands = config.models[model].bands
    scenes, candidate = scenes_of(config, bands), best_candidate(model, config)
    folds: dict[float, list[ProbabilityHistogram]] = {weight: [] for weight in WEIGHTS}
    for fold in range(len(config.folds)):
        task = Task(model, candidate, fold, config)
        network = train_task(task, scenes)
        for weight in WEIGHTS:
            terms = {name: fit_scene_term(scenes[name], bands, weight) for name in task.held_out}
            histograms = (evaluate_scene(network, scenes[name], term=term) for name, term in terms.items())
            folds[weight].append(sum(histograms, start=ProbabilityHistogram.empty()))
        print(model, fold, flush=True)
    return {f"{weight:g}": figures(each) for weight, each in folds.items()}


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
    lines = [f"| model | {' | '.join(f'weight {weight:g}' for weight in WEIGHTS)} |", "|---" * (len(WEIGHTS) + 1) + "|"]
    for model, rows in result.items():
        cells = [f"{row['f1_at_others']:.3f} ({row['f1_at_best']:.3f})" for row in rows.values()]
        lines.append(f"| `{model}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all models of the recipe, and write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="change it")
    parser.add_argument("--tables", action="store_true", help="only write the table again")
    options = parser.parse_args()
    if not options.tables:
        config = load_pipeline(RECIPE, tuple(options.changes)).train
        if config is None:
            raise SystemExit(f"{RECIPE} has no block train")
        torch.set_num_threads(config.threads)
        result = {model: measure(model, config) for model in config.models}
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    marks = r"(<!-- table: benchmarks/joined.py -->\n)(.*?)(\n<!-- end -->)"
    lines, text = table(json.loads(RESULT.read_text(encoding="utf-8"))), DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(
        re.sub(marks, lambda found: found[1] + lines + found[3], text, flags=re.DOTALL), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
