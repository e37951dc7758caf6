"""Every architecture, loss and way of mining, cross-validated on the same data: a JSON a training, and the tables.

python -m benchmarks.learning --list
python -m benchmarks.learning --jobs 2                                     both tables, one seed
python -m benchmarks.learning --only resnet18 --seeds 0 1 2 --full         the best, as long as the shipped models
python -m benchmarks.learning --tables                                     write the tables again, train nothing
python -m benchmarks.learning --speed                                      measure the networks again, and the tables

A training that has its JSON in benchmarks/results/learning is not repeated, and one that was interrupted goes on from
its checkpoint. The recipe and the folds are those of pipelines/02_train_oscd.yaml, shortened but with --full; a row
changes one thing of it.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from changedet.config import Candidate, LossConfig, ModelPlan, TrainConfig, load_pipeline
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.task import Task, run_task
from changedet.network.base import lay_out
from changedet.network.package import build_network
from changedet.network.work import count_multiply_adds

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "pipelines" / "02_train_oscd.yaml"
RESULTS = ROOT / "benchmarks" / "results" / "learning"
DOCUMENT = ROOT / "docs" / "models.md"
# Side (px) of the pair that speed and multiply-adds are stated for.
SIDE = 256
# Times that `--speed` goes through all networks; the quickest pass counts.
_ROUNDS = 6
_MODEL = "s2-urban"
# A few minutes a fold: fewer steps of fewer and smaller chips, and an average that forgets the first of them in time.
_SHORT: dict[str, Any] = {"steps": 250, "batch": 8, "ema": 0.98, "chip_px": 96}
_SHORT_CROP = 64


@dataclass(frozen=True)
class Row:
    """A row of a table: a network, and what the recipe changes for it.

    Attributes:
        table: which.
        name: in that table; part of a file name.
        candidate: architecture and loss.
        changes: fields of `TrainConfig`.
    """

    table: str
    name: str
    candidate: Candidate
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """One row on one fold with one seed."""

    row: Row
    fold: int
    seed: int
    config: TrainConfig
    results: Path

    @property
    def result(self) -> Path:
        """The JSON that says it is done."""
        name = f"{self.row.table}.{self.row.name}.fold{self.fold}.seed{self.seed}.steps{self.config.steps}.json"
        return self.results / name


_RESNET: dict[str, Any] = {"encoder_name": "resnet18", "encoder_depth": 4, "decoder_channels": [96, 64, 32, 16]}
_VGG: dict[str, Any] = {"encoder_name": "vgg11_bn", "encoder_depth": 4, "decoder_channels": [96, 64, 32, 16]}


def rows() -> list[Row]:
    """Return all rows of both tables."""
    return [*_architectures(), *_losses()]


def _architectures() -> Iterator[Row]:
    for name in ("fc_ef", "fc_siam_conc", "fc_siam_diff", "stanet", "bit", "tinycd"):
        yield Row("architectures", name, Candidate(architecture=name))
    # The paper's decoder takes eight times the time of all the rest.
    narrow = Candidate(architecture="changeformer", arguments={"decoder_width": 64})
    yield Row("architectures", "changeformer-narrow", narrow)
    fusions = [("resnet18", fusion, _RESNET) for fusion in ("absdiff", "diff", "concat", "learned")]
    for encoder, fusion, arguments in (*fusions, ("vgg11_bn", "absdiff", _VGG)):
        candidate = Candidate(architecture="siamese_smp", arguments={**arguments, "fusion": fusion})
        yield Row("architectures", f"siamese_smp-{encoder}-{fusion}", candidate)
    yield Row("architectures", "siamese_metric-resnet18-euclidean", _metric(LossConfig(contrastive=1)))


def _losses() -> Iterator[Row]:
    sums: dict[str, dict[str, Any]] = {
        "bce": {"bce": 1},
        "bce-weight2": {"bce": 1, "positive_weight": 2},
        "bce-weight5": {"bce": 1, "positive_weight": 5},
        "dice": {"dice": 1},
        "focal": {"focal": 1, "focal_alpha": 0.75},
        "lovasz": {"lovasz": 1},
        "tversky": {"tversky": 1},
        "bce-dice": {"bce": 1, "dice": 1, "positive_weight": 2},
        "bce-lovasz": {"bce": 1, "lovasz": 1, "positive_weight": 2},
        "focal-tversky": {"focal": 1, "tversky": 1, "focal_alpha": 0.75},
        "bce-dice-border-ignore": {"bce": 1, "dice": 1, "positive_weight": 2, "border": "ignore"},
        "bce-dice-border-soft": {"bce": 1, "dice": 1, "positive_weight": 2, "border": "soft"},
        "bce-dice-hard-negatives-25": {"bce": 1, "dice": 1, "positive_weight": 2, "hard_negatives": 0.25},
        "bce-dice-hard-negatives-5": {"bce": 1, "dice": 1, "positive_weight": 2, "hard_negatives": 0.05},
    }
    for name, settings in sums.items():
        yield Row("losses", name, _segmenting(LossConfig(**settings)))
    usual = _segmenting(LossConfig(**sums["bce-dice"]))
    for share in (0.0, 0.25, 0.75, 1.0):
        yield Row("losses", f"bce-dice-changed-share-{share:g}", usual, {"changed_share": share})
    yield Row("losses", "bce-dice-hard-chips-25", usual, {"hard_share": 0.25})
    for distance in ("euclidean", "manhattan", "cosine", "learned"):
        yield Row("losses", f"contrastive-{distance}", _metric(LossConfig(contrastive=1), distance))
    for mining in ("hard", "semi_hard", "batch_hard"):
        yield Row("losses", f"triplet-{mining}", _metric(LossConfig(triplet=1, mining=mining)))
    yield Row("losses", "contrastive-bce-dice", _metric(LossConfig(contrastive=1, bce=1, dice=1, positive_weight=2)))


def _segmenting(loss: LossConfig) -> Candidate:
    return Candidate(architecture="siamese_smp", arguments=_RESNET, loss=loss)


def _metric(loss: LossConfig, distance: str = "euclidean") -> Candidate:
    return Candidate(architecture="siamese_metric", arguments={**_RESNET, "distance": distance}, loss=loss)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is asked for and not done yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose table.name matches")
    parser.add_argument("--full", action="store_true", help="the recipe's own length, batch and average")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folds", type=int, nargs="+", help="some of them, for a quick look; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="trainings beside each other")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="pipeline file with data, folds and recipe")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="change it")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "learning", help="for checkpoints")
    parser.add_argument("--results", type=Path, default=RESULTS, help="for the JSON files")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="where the tables are written")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--speed", action="store_true", help="only measure the networks of the JSON files again")
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    options = parser.parse_args(arguments)
    chosen = [row for row in rows() if re.search(options.only, f"{row.table}.{row.name}")]
    if options.list:
        print("\n".join(f"{row.table}.{row.name}" for row in chosen))
        return
    if options.speed:
        measure_again(options)
    elif not options.tables:
        carry_out(list(plan(chosen, options)), options.jobs)
    write_tables(options.document, options.results)


def plan(chosen: Iterable[Row], options: argparse.Namespace) -> Iterator[Training]:
    """Yield the trainings, all rows of the first seed and fold first, so that an early look compares like with like."""
    recipe = load_pipeline(options.recipe, tuple(options.changes)).train
    if recipe is None:
        raise SystemExit(f"{options.recipe} has no block train")
    chosen = list(chosen)
    for seed in options.seeds:
        for fold in options.folds or range(len(recipe.folds)):
            for row in chosen:
                config = _config(recipe if options.full else _shortened(recipe), row, seed, options.work)
                yield Training(row, fold, seed, config, options.results)


def _shortened(recipe: TrainConfig) -> TrainConfig:
    augment = recipe.augment.model_copy(update={"crop_px": _SHORT_CROP})
    return recipe.model_copy(update={**_SHORT, "augment": augment})


def _config(recipe: TrainConfig, row: Row, seed: int, work: Path) -> TrainConfig:
    fields = recipe.model_dump()
    changes: dict[str, Any] = {
        "models": {_MODEL: ModelPlan(summary="", bands=recipe.models[_MODEL].bands)},
        "candidates": {row.name: row.candidate},
        "out": work / row.table / f"seed{seed}-steps{fields['steps']}",
        "seed": seed,
        # The networks alone are compared: the statistic beside them would hide how they differ.
        "urban_weight": 0.0,
    }
    return TrainConfig.model_validate({**fields, **changes, **row.changes})


def carry_out(trainings: Sequence[Training], jobs: int) -> None:
    """Do the trainings that have no result, `jobs` at a time; one that fails is reported, and the others go on."""
    left = [training for training in trainings if not training.result.exists()]
    print(f"{len(trainings) - len(left)} of {len(trainings)} trainings have their result")
    # Spawned, not forked: torch's threads do not survive a fork. A process reads the data once for all its trainings.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [(training, pool.submit(measure, training)) for training in left]
        failed = [training for training, future in futures if not _reported(training, future)]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(left)} trainings failed; the same command tries them again")


def _reported(training: Training, future: Any) -> bool:
    try:
        print(future.result(), flush=True)
    except Exception as error:
        print(f"FAILED {training.result.stem}: {type(error).__name__}: {error}", flush=True)
        return False
    return True


def measure(training: Training) -> str:
    """Train, score on the held-out fold, measure the network, and write the JSON; return a line for people."""
    row, config = training.row, training.config
    torch.set_num_threads(config.threads)
    task = Task(_MODEL, row.name, training.fold, config)
    begin = time.perf_counter()
    run_task(task)
    seconds = time.perf_counter() - begin
    cities = json.loads((task.folder / "result.json").read_text())["cities"]
    pooled = sum(map(ProbabilityHistogram.from_json, cities.values()), start=ProbabilityHistogram.empty())
    content = {
        "table": row.table,
        "row": row.name,
        "fold": training.fold,
        "seed": training.seed,
        "steps": config.steps,
        "batch": config.batch,
        "ema": config.ema,
        "crop_px": config.augment.crop_px,
        "candidate": row.candidate.model_dump(exclude_unset=True),
        "changes": row.changes,
        "seconds": round(seconds, 1),
        **size_and_speed(row.candidate, len(config.models[_MODEL].bands)),
        "torch": torch.__version__,
        "precision": config.precision,
        "histogram": pooled.as_json(),
    }
    training.results.mkdir(parents=True, exist_ok=True)
    partial = training.result.with_suffix(".partial")
    partial.write_text(json.dumps(content) + "\n")
    partial.replace(training.result)
    f1 = pooled.counts(pooled.best_threshold()).f1
    return f"{training.result.stem}: F1 {f1:.3f}, {seconds:.0f} s"


def size_and_speed(candidate: Candidate, channels: int) -> dict[str, Any]:
    """Return parameters, multiply-adds of a pair of SIDE x SIDE px, and pixels a second of one core here, float32."""
    network = build_network(candidate.architecture, {"in_channels": channels, **candidate.arguments}).eval()
    layout = lay_out(network, half=False)
    before, after = (torch.rand(1, channels, SIDE, SIDE).contiguous(memory_format=layout) for _ in range(2))
    times = []
    with torch.inference_mode():
        for _ in range(4):  # the first is slower
            begin = time.process_time()  # the trainings beside this one have the other cores
            network(before, after)
            times.append(time.process_time() - begin)
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds": count_multiply_adds(network, channels, SIDE),
        "pixels_per_second": round(SIDE**2 / min(times)),
        "threads": torch.get_num_threads(),
    }


def measure_again(options: argparse.Namespace) -> None:
    """Put size and speed of the networks, as they are on this machine now, into all JSON files.

    One network after the other, several times, as a shared host is slower in some minutes than in others.
    """
    torch.set_num_threads(1)
    recipe = load_pipeline(options.recipe, tuple(options.changes)).train
    assert recipe is not None  # noqa: S101 - the recipe is the project's own
    results = {path: json.loads(path.read_text()) for path in sorted(options.results.glob("*.json"))}
    candidates = {path: Candidate.model_validate(result["candidate"]) for path, result in results.items()}
    networks = {path: candidate.model_dump_json(exclude={"loss"}) for path, candidate in candidates.items()}
    distinct = {name: candidates[path] for path, name in networks.items()}
    known: dict[str, dict[str, Any]] = {}
    for _ in range(_ROUNDS):
        for name, candidate in distinct.items():
            measured = size_and_speed(candidate, len(recipe.models[_MODEL].bands))
            known[name] = max(known.get(name, measured), measured, key=lambda each: each["pixels_per_second"])
    for path, result in results.items():
        path.write_text(json.dumps({**result, **known[networks[path]]}) + "\n")


def write_tables(document: Path, folder: Path) -> None:
    """Write each table between its markers in a Markdown document, from the JSON files in `folder`.

    Raises:
        SystemExit: the document has no such markers.
    """
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    text = document.read_text(encoding="utf-8")
    for table in ("architectures", "losses"):
        begin, end = f"<!-- table: {table} -->", f"<!-- end of table: {table} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SystemExit(f"{document} has not one line {begin} and one line {end}")
        head, rest = text.split(begin)
        lines = table_lines([result for result in results if result["table"] == table])
        text = head + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end)[1]
    document.write_text(text, encoding="utf-8")


_HEAD = (
    "| row | parameters | multiply-adds | px/s | steps | seeds | F1 | precision | recall | F1 at 0.5 | F1 by fold |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


def table_lines(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return a table: a line for each row and number of steps, the best first.

    Figures are pooled over the folds that every row has, so that rows compare; others are shown by fold alone.
    """
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["row"], result["steps"]), []).append(result)
    folds = sorted({result["fold"] for result in results})
    common = [fold for fold in folds if all(fold in {r["fold"] for r in group} for group in groups.values())] or folds
    scored = [_line(name, steps, group, folds, common) for (name, steps), group in groups.items()]
    measured = f"Pooled over the folds that every row has: {', '.join(map(str, common)) or 'none yet'}."
    return ["", measured, "", *_HEAD, *(line for _, line in sorted(scored, reverse=True)), ""]


def _line(
    name: str, steps: int, group: list[dict[str, Any]], folds: Sequence[int], common: Sequence[int]
) -> tuple[float, str]:
    """Return the F1 to sort by, and the line of one row: figures of each seed, pooled over its folds, then averaged."""
    counted = [r for r in group if r["fold"] in common]
    seeds = {seed: [r for r in counted if r["seed"] == seed] for seed in sorted({r["seed"] for r in counted})}
    whole = {seed: of_seed for seed, of_seed in seeds.items() if len(of_seed) == len(common)}
    pooled = [sum(map(_histogram, of_seed), start=ProbabilityHistogram.empty()) for of_seed in whole.values()]
    best = [histogram.counts(histogram.best_threshold()) for histogram in pooled]
    by_fold = [_mean([_best_f1(_histogram(r)) for r in group if r["fold"] == fold]) for fold in folds]
    one = group[0]
    cells = [
        f"`{name}`",
        f"{one['parameters'] / 1e6:.2f} M",
        f"{one['multiply_adds'] / 1e9:.2f} G",
        f"{max(r['pixels_per_second'] for r in group):,}",
        str(steps),
        str(len(whole)),
        _mean_and_deviation([counts.f1 for counts in best]),
        _shown(_mean([counts.precision for counts in best])),
        _shown(_mean([counts.recall for counts in best])),
        _mean_and_deviation([histogram.counts(0.5).f1 for histogram in pooled]),
        " · ".join(map(_shown, by_fold)),
    ]
    return _mean([counts.f1 for counts in best]) if best else -1.0, f"| {' | '.join(cells)} |"


def _histogram(result: dict[str, Any]) -> ProbabilityHistogram:
    return ProbabilityHistogram.from_json(result["histogram"])


def _best_f1(histogram: ProbabilityHistogram) -> float:
    return histogram.counts(histogram.best_threshold()).f1


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("nan")


def _shown(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _mean_and_deviation(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return _shown(_mean(values)) + spread


if __name__ == "__main__":
    main()
