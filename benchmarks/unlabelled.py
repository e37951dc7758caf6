"""Networks that learned without a label, cross-validated on OSCD's 14 training cities: JSON and tables.

python -m benchmarks.unlabelled                                       everything
python -m benchmarks.unlabelled --models s2-urban-rgbn-free --sources all --folds 0     a part of it
python -m benchmarks.unlabelled --tables                              write the tables again from the JSON
python -m benchmarks.unlabelled --stamp FILE…                         write the figures onto cards of model files

For each fold of pipelines/02_train_oscd.yaml a network learns from the imagery of the other cities by the recipe
pipelines/05_pretrain.yaml, without opening a label, and is scored on the fold's. Labels are used for scoring only: the
threshold is the one at which the joined answer marks as many pixels of the cities learned from as `urban` does. A
training that is done is not repeated, and one that was interrupted goes on. `--sources` leaves sources of targets out.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import logit

from benchmarks.no_labels import RESULT as CLASSICAL
from benchmarks.no_labels import average_precision, counts_of
from changedet.config import PretrainConfig, load_pipeline
from changedet.grid import Window
from changedet.learn.counts import ChangeCounts
from changedet.learn.datasets import TrainingScene
from changedet.learn.predict import predict
from changedet.learn.pretrain import learn, learned_from, terms_of
from changedet.learn.rate import threshold_of_rate
from changedet.learn.scene_term import fit_scene_term
from changedet.learn.task import scenes_of
from changedet.network.base import ChangeNetwork
from changedet.network.card import Card
from changedet.network.features import feature_difference
from changedet.network.normalise import LogReflectance
from changedet.network.package import load_model, save_model
from changedet.network.siamese import SiameseSMP
from changedet.stats.urban import BORDER

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "pipelines" / "05_pretrain.yaml"
FOLDS = ROOT / "pipelines" / "02_train_oscd.yaml"
RESULT = ROOT / "benchmarks" / "results" / "unlabelled.json"
DOCUMENT = ROOT / "docs" / "no-labels.md"
PICTURE = ROOT / "docs" / "images" / "no-labels-network.png"
# What the picture is of.
DRAWN: Final = "s2-urban-rgbn-free"
CITY: Final = "beirut"
# What is left out of the recipe.
SOURCES: Final[dict[str, tuple[str, ...]]] = {
    "all": (),
    "made and pseudo": ("places",),
    "made": ("pseudo", "places"),
    "pseudo": ("made", "places"),
    "places": ("made", "pseudo"),
}
WEIGHTS: Final = (0.0, 1.0, 2.0, 4.0, 6.0, 9.0)
_PROTOCOL = (
    "cross-validated over folds of scenes without labels for learning or threshold, all valid pixels of those held"
    " out, counts pooled, change class"
)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Pixels:
    """Valid pixels of the cities that a network did not learn from, (N,) each."""

    answer: Floats
    statistic: Floats
    truth: NDArray[np.bool_]

    def joined(self, weight: float) -> Floats:
        """Return the logits as `run` joins them."""
        joined: Floats = self.answer + np.float32(weight) * (self.statistic - np.float32(BORDER))
        return joined


def measure(model: str, sources: str, fold: int, config: PretrainConfig, cities: tuple[str, ...]) -> dict[str, Any]:
    """Learn without the cities of a fold, and score on them."""
    bands = config.models[model].bands
    scenes = learned_from(config, bands)
    network = learn(model, config, scenes)
    labelled = scenes_of(config, bands)
    mapped = bool(config.made or config.pseudo)
    pixels = {city: _pixels(network, labelled[city], bands, mapped=mapped) for city in cities}
    np.savez_compressed(
        _kept(config),
        **{f"{city}.{name}": getattr(part, name) for city, part in pixels.items() for name in Pixels.__annotations__},
    )
    threshold = threshold_of_rate(network, terms_of(scenes, bands, config.urban_weight))[0] if mapped else None
    return {"model": model, "sources": sources, "fold": fold, "steps": config.steps, "threshold": threshold}


def _pixels(network: ChangeNetwork, scene: TrainingScene, bands: tuple[str, ...], *, mapped: bool) -> Pixels:
    term = fit_scene_term(scene, bands, 1.0)
    parts: list[tuple[Any, ...]] = []
    height, width = scene.shape
    answers = predict(network, scene) if mapped else [(Window(0, 0, height, width), _distance(network, scene))]
    for window, answer in answers:
        statistic, valid = term.values(window)
        truth = scene.read(window)[2] > 0
        parts.append((answer[0].numpy()[valid], statistic[valid], truth[valid]))
    return Pixels(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _distance(network: ChangeNetwork, scene: TrainingScene) -> torch.Tensor:
    """Return how far apart the dates are in the network's features, (1, H, W): what `--detector deep` measures."""
    assert isinstance(network, SiameseSMP)  # noqa: S101 - the recipe's network is one
    before, after, _, _ = scene.read(Window(0, 0, *scene.shape))
    dates = (LogReflectance()(torch.from_numpy(date.astype(np.float32))[None]) for date in (before, after))
    return feature_difference(network, *dates)


def _kept(config: PretrainConfig) -> Path:
    return config.out / "pixels.npz"


def load(config: PretrainConfig) -> dict[str, Pixels]:
    """Return the pixels that a measurement left, by city."""
    with np.load(_kept(config)) as file:
        cities = dict.fromkeys(name.rpartition(".")[0] for name in file.files)
        return {city: Pixels(*(file[f"{city}.{name}"] for name in Pixels.__annotations__)) for city in cities}


def figures(rows: Sequence[tuple[dict[str, Any], PretrainConfig]]) -> dict[str, Any]:
    """Return the figures of one model and choice of sources over the folds that were measured."""
    weight, steps = rows[0][1].urban_weight, rows[0][1].steps
    total, own, by_city, by_fold = ChangeCounts(), ChangeCounts(), {}, {}
    every: list[Pixels] = []
    for row, config in rows:
        cities = load(config)
        fold = Pixels(*(np.concatenate(part) for part in zip(*map(_parts, cities.values()), strict=True)))
        every.append(fold)
        by_fold[str(row["fold"])] = {"threshold": row["threshold"], **_averages(fold, weight)}
        own += counts_of(fold.statistic >= BORDER, fold.truth)
        if row["threshold"] is None:
            continue
        least = logit(row["threshold"])
        counts = {city: counts_of(each.joined(weight) >= least, each.truth) for city, each in cities.items()}
        by_city |= {city: each.figures() for city, each in counts.items()}
        fold_counts = sum(counts.values(), start=ChangeCounts())
        by_fold[str(row["fold"])]["f1"] = round(fold_counts.f1, 4)
        by_fold[str(row["fold"])]["f1_urban"] = round(counts_of(fold.statistic >= BORDER, fold.truth).f1, 4)
        total += fold_counts
    pooled = Pixels(*(np.concatenate(part) for part in zip(*map(_parts, every), strict=True)))
    mapped = rows[0][0]["threshold"] is not None
    return {
        "steps": steps,
        "urban_weight": weight,
        "folds": by_fold,
        **_averages(pooled, weight),
        "urban": own.figures(),
        **({"pooled": total.figures(), "cities": by_city, "by_weight": _by_weight(pooled)} if mapped else {}),
    }


def _parts(pixels: Pixels) -> tuple[NDArray[Any], ...]:
    return pixels.answer, pixels.statistic, pixels.truth


def _averages(pixels: Pixels, weight: float) -> dict[str, float]:
    return {
        "average_precision_alone": round(average_precision(pixels.answer, pixels.truth), 4),
        "average_precision": round(average_precision(pixels.joined(weight), pixels.truth), 4),
        "average_precision_urban": round(average_precision(pixels.statistic, pixels.truth), 4),
    }


def _by_weight(pixels: Pixels) -> dict[str, float]:
    return {f"{w:g}": round(average_precision(pixels.joined(w), pixels.truth), 4) for w in WEIGHTS}


def recipe(model: str, sources: str, fold: int, options: argparse.Namespace) -> tuple[PretrainConfig, tuple[str, ...]]:
    """Return what is to be learned, and the cities of the fold."""
    config, folds = load_pipeline(RECIPE, tuple(options.changes)).pretrain, load_pipeline(FOLDS).train
    if config is None or folds is None:
        raise SystemExit(f"{RECIPE} has no block pretrain, or {FOLDS} no block train")
    out = options.work / sources.replace(" ", "-") / f"fold{fold}" / model
    left_out = dict.fromkeys(SOURCES[sources])
    return config.model_copy(update={"out": out, "leave_out": folds.folds[fold], **left_out}), folds.folds[fold]


def carry_out(options: argparse.Namespace) -> None:
    """Measure what is asked for and not done yet; write the JSON after each."""
    for fold in options.folds:
        for sources in options.sources:
            for model in options.models:
                config, cities = recipe(model, sources, fold, options)
                if _done(config).exists():
                    continue
                config.out.mkdir(parents=True, exist_ok=True)
                torch.set_num_threads(config.threads)
                row = measure(model, sources, fold, config, cities)
                _done(config).write_text(json.dumps(row))
                print(model, sources, f"fold {fold}", flush=True)
                write_result(options)


def _done(config: PretrainConfig) -> Path:
    return config.out / "measured.json"


def write_result(options: argparse.Namespace) -> None:
    """Write the figures of all that was measured; those of more folds, measured elsewhere or earlier, stay."""
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    result: dict[str, Any] = {}
    for model in _models():
        for sources in SOURCES:
            rows = [recipe(model, sources, fold, options)[0] for fold in range(3)]
            done = [(json.loads(_done(config).read_text()), config) for config in rows if _done(config).exists()]
            earlier = known.get(model, {}).get(sources)
            if earlier and len(earlier["folds"]) > len(done):
                result.setdefault(model, {})[sources] = earlier
            elif done:
                result.setdefault(model, {})[sources] = figures(done)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _models() -> tuple[str, ...]:
    config = load_pipeline(RECIPE).pretrain
    assert config is not None  # noqa: S101 - the project's own recipe
    return tuple(config.models)


def stamp(files: Sequence[Path]) -> None:
    """Write the cross-validated figures onto the cards of model files, which they do not change otherwise."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    for path in files:
        model = load_model(path)
        measured = result[model.card.name]["all"]
        added = {"pooled": measured["pooled"], "average_precision": measured["average_precision"]}
        stated = {**model.card.figures, **added, "folds": len(measured["folds"]), "scored": _PROTOCOL}
        save_model(path, model.network, Card.model_validate({**model.card.model_dump(), "figures": stated}))
        print(path, measured["pooled"]["f1"])


def draw(options: argparse.Namespace) -> None:
    """Draw one city of the first fold by `urban` and by the network that did not learn from it, if there is one."""
    config, _ = recipe(DRAWN, "all", 0, options)
    if not _done(config).exists():
        return
    threshold = json.loads(_done(config).read_text())["threshold"]
    pixels, scene = load(config)[CITY], scenes_of(config, config.models[DRAWN].bands)[CITY]
    before, after, _, valid = scene.read(Window(0, 0, *scene.shape))
    masks = {
        "urban": pixels.statistic >= BORDER,
        "network without labels": pixels.joined(config.urban_weight) >= logit(threshold),
    }
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    axes = figure.subplots(1, 4)
    for axis, image, title in zip(axes, (before, after), ("before", "after"), strict=False):
        axis.imshow(np.clip(np.moveaxis(image[:3].astype(np.float32), 0, -1) / 0.3, 0, 1))
        axis.set_title(title)
    for axis, (name, mask) in zip(axes[2:], masks.items(), strict=True):
        axis.imshow(compared(mask, pixels.truth, valid))
        axis.set_title(f"{name}: F1 {counts_of(mask, pixels.truth).f1:.2f}")
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(PICTURE, dpi=80)


def compared(mask: NDArray[np.bool_], truth: NDArray[np.bool_], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return a picture (H, W, 3) of valid pixels (N,): found is white, missed blue, wrongly marked red."""
    found = np.zeros((len(mask), 3))
    found[mask & truth], found[mask & ~truth], found[~mask & truth] = 1.0, (0.85, 0.15, 0.1), (0.2, 0.4, 1.0)
    picture = np.zeros((*valid.shape, 3))
    picture[valid] = found
    return picture


def write_tables() -> None:
    """Write both tables into the document, from the JSON files."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, lines in (("unlabelled", side_by_side(result)), ("sources", by_sources(result))):
        marks = rf"(<!-- table: {name} -->\n)(.*?)(<!-- end -->)"
        joined = "\n".join([*lines, ""])
        text = re.sub(marks, lambda found, joined=joined: found[1] + joined + found[3], text, flags=re.DOTALL)
    DOCUMENT.write_text(text, encoding="utf-8")


def side_by_side(result: dict[str, Any]) -> list[str]:
    """Return the networks beside the classical detectors, at the threshold that each chose itself."""
    lines = ["| what | PR area, pooled | F1 | precision | recall |", "|---|---|---|---|---|"]
    for model, rows in result.items():
        if len(rows.get("all", {}).get("folds", {})) == 3:
            lines.append(_line(f"`--model {model}`", rows["all"]["average_precision"], rows["all"]["pooled"]))
    classical = json.loads(CLASSICAL.read_text(encoding="utf-8"))["detectors"]
    for name, row in classical.items():
        lines.append(_line(f"`--detector {name}`", row["average_precision_pooled"], row["pooled"]["default"]))
    return lines


def _line(name: str, area: float, row: dict[str, Any]) -> str:
    return f"| {name} | {area:.3f} | **{row['f1']:.3f}** | {row['precision']:.3f} | {row['recall']:.3f} |"


def by_sources(result: dict[str, Any]) -> list[str]:
    """Return each choice of sources on the folds that were measured."""
    heads = ("model", "learned from", "folds", "steps", "PR area alone", "joined", "`urban`", "F1 joined", "`urban`")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for model, rows in result.items():
        for sources, row in rows.items():
            mapped = "pooled" in row
            cells = [
                f"`{model}`",
                sources,
                ", ".join(row["folds"]),
                str(row["steps"]),
                f"{row['average_precision_alone']:.3f}",
                f"{row['average_precision']:.3f}" if mapped else "–",
                f"{row['average_precision_urban']:.3f}",
                f"{row['pooled']['f1']:.3f}" if mapped else "–",
                f"{row['urban']['f1']:.3f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write JSON and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=_models(), choices=_models())
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2], choices=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "unlabelled", help="for checkpoints and pixels")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="change it")
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    parser.add_argument("--stamp", type=Path, nargs="+", default=[], metavar="FILE", help="only write onto cards")
    options = parser.parse_args(arguments)
    if options.stamp:
        stamp(options.stamp)
        return
    if not options.tables:
        carry_out(options)
        draw(options)
    write_tables()


if __name__ == "__main__":
    main()
