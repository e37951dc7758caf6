"""What fine-tuning gains on cities that a model has not seen: for each of OSCD's the network of its fold, and a JSON.

changedet train pipelines/02_train_oscd.yaml --jobs 2
python -m benchmarks.finetuning --runs runs/oscd --data ../shared/data/oscd

A city's labels, traced as polygons, play the user's; a quarter of them, in blocks apart, is held out, and on these the
average precision before and after is taken. `--set learning_rate=0.0002` tries something else, and `--result` writes
it elsewhere.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import rasterio.features
import shapely.geometry
import torch
import yaml
from safetensors.torch import load_file

from changedet.config import FinetuneConfig, RunConfig, TrainConfig, load_pipeline
from changedet.grid import Window
from changedet.learn.datasets import SceneSource, open_dataset
from changedet.learn.finetune import finetune
from changedet.learn.task import Task
from changedet.network.package import load_model, save_model

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "pipelines" / "02_train_oscd.yaml"
RESULT = ROOT / "benchmarks" / "results" / "finetuning.json"
MODEL = "s2-urban-rgbn"
# The settings were chosen on these, so the others say more.
CHOSEN_ON = ("bordeaux", "cupertino", "mumbai", "nantes", "pisa", "rennes")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fine-tune on each city and split, and write the figures; what the JSON holds already is not done again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "oscd")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "oscd", help="`out` of the recipe's training")
    parser.add_argument("--cities", nargs="+", help="some of them; default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the split, and of what is drawn")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    recipe = load_pipeline(RECIPE, (f"train.data={options.data}", f"train.out={options.runs}")).train
    assert recipe is not None  # noqa: S101 - the recipe is the project's own
    changed = {name: yaml.safe_load(value) for name, value in (change.split("=", 1) for change in options.changes)}
    settings = FinetuneConfig.model_validate(changed)
    torch.set_num_threads(1)
    rows = json.loads(options.result.read_text())["cities"] if options.result.exists() else []
    done = {(row["city"], row["seed"]) for row in rows}
    for seed in options.seeds:
        for source in open_dataset(recipe.data).scenes:
            if (source.name, seed) in done or source.name not in (options.cities or [source.name]):
                continue
            rows.append(measure(source, recipe, settings.model_copy(update={"seed": seed})))
            row = rows[-1]
            print(
                f"{row['city']}, seed {seed}: {row['before']:.3f} to {row['after']:.3f}, {row['seconds']} s", flush=True
            )
            options.result.write_text(
                json.dumps({**summary(rows), **_stated(settings), "cities": rows}, indent=1) + "\n"
            )


def measure(source: SceneSource, recipe: TrainConfig, config: FinetuneConfig) -> dict[str, Any]:
    """Fine-tune the network of the fold that leaves a city out on that city's labels."""
    fold = next(index for index, cities in enumerate(recipe.folds) if source.name in cities)
    with tempfile.TemporaryDirectory() as folder:
        model, labels = Path(folder) / "fold.safetensors", Path(folder) / "labels.gpkg"
        _write_model(model, recipe, fold)
        _write_polygons(labels, source)
        begin = time.perf_counter()
        tuned = finetune(str(model), source.scenes(), labels, RunConfig(coregister="shift"), config, lambda _: None)
    figures: Any = tuned.model.card.figures
    return {
        "city": source.name,
        "seed": config.seed,
        "fold": fold,
        "polygons": figures["polygons"],
        "held_out": figures["polygons_held_out"],
        "before": figures["held_out_before"]["average_precision"],
        "after": figures["held_out_after"]["average_precision"],
        "f1_before": figures["held_out_before"]["f1"],
        "f1_after": figures["held_out_after"]["f1"],
        "steps": tuned.steps,
        "seconds": round(time.perf_counter() - begin),
    }


def _write_model(path: Path, recipe: TrainConfig, fold: int) -> None:
    """Write the network of a fold as a model, with the card of the shipped one of the same recipe."""
    (candidate,) = recipe.candidates_of(MODEL)
    weights = load_file(Task(MODEL, candidate, fold, recipe).folder / "checkpoint.safetensors")
    prefix = "average.module."
    base = load_model(MODEL)
    base.network.load_state_dict({n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)})
    places = tuple(place for place in base.card.places if place.name not in recipe.folds[fold])
    save_model(path, base.network, base.card.model_copy(update={"name": f"fold{fold}", "places": places}))


def _write_polygons(path: Path, source: SceneSource) -> None:
    with source.open(("B04",)) as opened:
        geobox = opened.pair.geobox
        height, width = geobox.shape
        truth, _ = opened.labels.read(Window(0, 0, height, width))
    traced = rasterio.features.shapes(truth, truth > 0, 8, geobox.affine)
    gpd.GeoDataFrame(geometry=[shapely.geometry.shape(shape) for shape, _ in traced], crs=str(geobox.crs)).to_file(path)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean average precision before and after, over all cities and over those that nothing was chosen on."""
    apart = [row for row in rows if row["city"] not in CHOSEN_ON]
    return {"all": _means(rows), "not_chosen_on": _means(apart)}


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {"measured": 0}
    names = ("before", "after", "f1_before", "f1_after")
    means = {name: round(statistics.fmean(row[name] for row in rows), 4) for name in names}
    return {"measured": len(rows), "gained": sum(row["after"] > row["before"] for row in rows), **means}


def _stated(settings: FinetuneConfig) -> dict[str, Any]:
    kept = settings.model_dump(mode="json", exclude={"name", "command", "seed", "max_memory"})
    return {"model": MODEL, "settings": kept, "torch": torch.__version__}


if __name__ == "__main__":
    main()
