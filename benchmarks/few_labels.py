"""What a start without labels is worth where labels are few: a curve over the number of labelled cities, JSON and PNG.

python -m benchmarks.unlabelled --models s2-urban-rgbn-free --sources all     the networks to start with
python -m benchmarks.few_labels                                     everything: hours
python -m benchmarks.few_labels --folds 0 --cities 1 4 --draws 1    a part of it
python -m benchmarks.few_labels --tables                            PNG and table again from the JSON

For each fold of pipelines/02_train_oscd.yaml networks are trained on the labels of some of the other cities, from
random weights and from those that learned from the others' imagery without labels, and scored on the fold. Both starts
see the same cities, chips and steps. A training that is in the JSON is not repeated; an interrupted one goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from benchmarks.unlabelled import FOLDS, ROOT
from benchmarks.unlabelled import recipe as unlabelled_recipe
from changedet.config import TrainConfig, load_pipeline
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.curves import PrecisionRecall
from changedet.learn.evaluate import evaluate_scene
from changedet.learn.scene_term import fit_scene_term
from changedet.learn.task import progress_to, scenes_of
from changedet.learn.train import train
from changedet.network.package import load_model, save_model

RESULT = ROOT / "benchmarks" / "results" / "few_labels.json"
PICTURE = ROOT / "docs" / "images" / "few-labels.png"
DOCUMENT = ROOT / "docs" / "no-labels.md"
FREE: Final = "s2-urban-rgbn-free"
LABELLED: Final = "s2-urban-rgbn"
STARTS: Final = {"random": "random weights", "free": "weights learned without labels"}
_KEY = ("fold", "cities", "draw", "start", "steps")


def measure(row: dict[str, Any], config: TrainConfig, options: argparse.Namespace) -> dict[str, Any]:
    """Train on some cities' labels and score on the fold; return the row with its figures."""
    bands = config.models[LABELLED].bands
    scenes = scenes_of(config, bands)
    held_out = config.folds[row["fold"]]
    others = sorted(name for name in scenes if name not in held_out)
    order = np.random.default_rng(row["draw"]).permutation(len(others))
    learned = [others[index] for index in order[: row["cities"]]]
    folder = options.work / "-".join(f"{name}{row[name]}" for name in _KEY)
    folder.mkdir(parents=True, exist_ok=True)
    changes: dict[str, Any] = {"steps": row["steps"], "seed": row["draw"]}
    if row["start"] == "free":
        changes["start"] = str(_start(row["fold"], options))
    recipe = config.model_copy(update=changes)
    (candidate,) = config.candidates.values()
    network = train([scenes[name] for name in learned], bands, candidate, recipe, folder, progress_to(folder))
    weights = {"alone": 0.0, "joined": config.urban_weight}
    figures: dict[str, Any] = {}
    for name, weight in weights.items():
        terms = {city: fit_scene_term(scenes[city], bands, weight) for city in held_out}
        histograms = (evaluate_scene(network, scenes[city], term=term) for city, term in terms.items())
        pooled = sum(histograms, start=ProbabilityHistogram.empty())
        figures[name] = {
            "average_precision": round(PrecisionRecall.of(pooled).average_precision, 4),
            "f1_at_best": round(pooled.counts(pooled.best_threshold()).f1, 4),
        }
    return {**row, "learned": learned, **figures}


def _start(fold: int, options: argparse.Namespace) -> Path:
    """Return a file of the network that learned from the other folds' imagery, with the card of the shipped model."""
    config, cities = unlabelled_recipe(FREE, "all", fold, argparse.Namespace(work=options.unlabelled, changes=()))
    path = options.work / f"start.fold{fold}.safetensors"
    prefix = "average.module."
    weights = load_file(config.out / FREE / "checkpoint.safetensors")
    base = load_model(FREE)
    base.network.load_state_dict({n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)})
    places = tuple(place for place in base.card.places if place.name not in cities)
    save_model(path, base.network, base.card.model_copy(update={"name": f"{FREE}-fold{fold}", "places": places}))
    return path


def carry_out(options: argparse.Namespace) -> None:
    """Train what is asked for and not done yet; write the JSON after each."""
    config = load_pipeline(FOLDS, (f"train.data={options.data}",)).train
    assert config is not None  # noqa: S101 - the project's own recipe
    augment = config.augment.model_copy(update={"crop_px": options.crop})
    smaller = {"batch": options.batch, "ema": options.ema, "augment": augment, "chip_px": options.crop * 3 // 2}
    config = config.model_copy(update=smaller)
    torch.set_num_threads(config.threads)
    rows = _known()
    done = {tuple(row[name] for name in _KEY) for row in rows}
    for draw in range(options.draws):
        for fold in options.folds:
            for cities in options.cities:
                for start in STARTS:
                    row = {"fold": fold, "cities": cities, "draw": draw, "start": start, "steps": options.steps}
                    if tuple(row.values()) in done:
                        continue
                    rows.append(measure(row, config, options))
                    print(rows[-1], flush=True)
                    _write(rows, options)


def _known() -> list[dict[str, Any]]:
    return json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.exists() else []


def _write(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    settings = {"batch": options.batch, "ema": options.ema, "crop_px": options.crop, "torch": torch.__version__}
    RESULT.write_text(json.dumps({"settings": settings, "rows": list(rows)}, indent=1) + "\n", encoding="utf-8")


def curve(rows: Sequence[dict[str, Any]], start: str, what: str) -> list[tuple[int, float, float, int]]:
    """Return cities, mean, deviation and number of the trainings of one start; F1 at the best threshold of the fold.

    The deviation is that within folds, over draws: how much harder one fold is than another is not its matter.

    Args:
        rows: of the JSON.
        start: key of `STARTS`.
        what: `alone` or `joined`.
    """
    points = []
    for cities in sorted({row["cities"] for row in rows}):
        folds: dict[int, list[float]] = {}
        for row in rows:
            if row["cities"] == cities and row["start"] == start:
                folds.setdefault(row["fold"], []).append(row[what]["f1_at_best"])
        values = [value for of_fold in folds.values() for value in of_fold]
        if values:
            squares = sum((value - statistics.fmean(of_fold)) ** 2 for of_fold in folds.values() for value in of_fold)
            spread = math.sqrt(squares / max(1, len(values) - len(folds)))
            points.append((cities, statistics.fmean(values), spread, len(values)))
    return points


def gains(rows: Sequence[dict[str, Any]], what: str) -> dict[int, list[float]]:
    """Return by how much F1 is higher with the start than from random weights, each pair of trainings, by cities."""
    pair = ("fold", "draw", "steps", "cities")
    random = {tuple(row[name] for name in pair): row[what]["f1_at_best"] for row in rows if row["start"] == "random"}
    found: dict[int, list[float]] = {}
    for row in rows:
        key = tuple(row[name] for name in pair)
        if row["start"] == "free" and key in random:
            found.setdefault(row["cities"], []).append(row[what]["f1_at_best"] - random[key])
    return found


def draw(rows: Sequence[dict[str, Any]]) -> None:
    """Draw F1 over the number of labelled cities: a line a start, with the spread over draws, and faintly each fold."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axis, what in zip(figure.subplots(1, 2, sharey=True), ("alone", "joined"), strict=True):
        for start, label in STARTS.items():
            points = curve(rows, start, what)
            cities, means, spreads = ([point[part] for point in points] for part in range(3))
            line, *_ = axis.errorbar(cities, means, yerr=spreads, marker="o", capsize=3, label=label)
            for fold in sorted({row["fold"] for row in rows}):
                of_fold = curve([row for row in rows if row["fold"] == fold], start, what)
                axis.plot([p[0] for p in of_fold], [p[1] for p in of_fold], color=line.get_color(), alpha=0.3, lw=1)
        axis.set(title=f"network {what}", xlabel="cities with labels", xscale="log")
        ticks = sorted({row["cities"] for row in rows})
        axis.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        axis.minorticks_off()
        axis.grid(color="0.9")
    # Shared by both, so only when both are drawn.
    figure.axes[0].set(ylabel="F1, best threshold of the fold", ylim=(0, None))
    figure.axes[0].legend(frameon=False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=90)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the curve as a Markdown table."""
    lines = ["| cities | start | trainings | F1, network alone | F1, joined | gain alone | joined |", "|---" * 7 + "|"]
    for start, label in STARTS.items():
        for alone, both in zip(curve(rows, start, "alone"), curve(rows, start, "joined"), strict=True):
            cells = [f"{mean:.3f} ± {spread:.3f}" for _, mean, spread, _ in (alone, both)]
            gained = [gains(rows, what).get(alone[0], []) for what in ("alone", "joined")]
            cells += [_gain(values) if start == "free" else "" for values in gained]
            lines.append(f"| {alone[0]} | {label} | {alone[3]} | {' | '.join(cells)} |")
    return "\n".join([*lines[:2], *sorted(lines[2:], key=lambda line: int(line.split("|")[1]))])


def _gain(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):+.3f} ± {spread:.3f}" if values else "–"


def write_document(rows: Sequence[dict[str, Any]]) -> None:
    """Write the table into the document."""
    marks = r"(<!-- table: few labels -->\n)(.*?)(<!-- end -->)"
    text = DOCUMENT.read_text(encoding="utf-8")
    text = re.sub(marks, lambda found: found[1] + table(rows) + "\n" + found[3], text, flags=re.DOTALL)
    DOCUMENT.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and write JSON, PNG and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "oscd")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "few_labels", help="for checkpoints")
    parser.add_argument("--unlabelled", type=Path, default=ROOT / "runs" / "unlabelled", help="that benchmark's --work")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2], choices=[0, 1, 2])
    parser.add_argument("--cities", type=int, nargs="+", default=[1, 2, 4, 8, 10], help="with labels")
    parser.add_argument("--draws", type=int, default=3, help="of cities, weights and chips")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=64, metavar="PX")
    parser.add_argument("--ema", type=float, default=0.98)
    parser.add_argument("--tables", action="store_true", help="only write PNG and table")
    options = parser.parse_args(arguments)
    if not options.tables:
        carry_out(options)
    draw(_known())
    write_document(_known())


if __name__ == "__main__":
    main()
