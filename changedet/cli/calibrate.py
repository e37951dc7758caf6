"""`changedet calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click import Context
from rich.markup import escape
from rich.table import Table

from changedet.cli.console import OUT, reporter
from changedet.cli.group import command
from changedet.cli.options import given
from changedet.errors import ConfigError


@command()
@click.argument("model")
@click.argument("dataset")
@click.option("--precision", type=click.FloatRange(0, 1, min_open=True), help="Threshold of at least this precision.")
@click.option("--recall", type=click.FloatRange(0, 1, min_open=True), help="Threshold of at least this recall.")
@click.option("--f1", is_flag=True, help="Threshold of the best F1.")
@click.option(
    "--method",
    type=click.Choice(["temperature", "platt", "isotonic"]),
    default="temperature",
    show_default=True,
    help="temperature: one number; platt: two, also against too much change everywhere; isotonic: a table.",
)
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Only this split. Default: all there is.")
@click.option("--allow-overlap", is_flag=True, help="Even on scenes that the model learned from.")
@click.option("--device", help="auto, cpu, cuda, cuda:1 or mps. Default: auto.")
@click.option("--max-memory", metavar="SIZE", help="Memory the process may take, e.g. 2GB (the default).")
@click.option("-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="Model file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@click.pass_context
def calibrate(
    ctx: Context,
    /,
    model: str,
    dataset: str,
    precision: float | None,
    recall: float | None,
    f1: bool,
    method: Any,
    split: str | None,
    out: Path,
    overwrite: bool,
    **options: Any,
) -> None:
    """Make the probabilities of MODEL agree with the truth of DATASET, and choose its threshold.

    Take scenes that the model did not learn from. The new model file is used as any other.

    \b
    changedet calibrate s2-urban my_labels --precision 0.8 -o precise.safetensors
    changedet calibrate s2-urban my_labels --f1 --method isotonic -o best.safetensors
    """
    from changedet.config import EvaluateConfig, checked
    from changedet.learn.calibrate import Wish
    from changedet.learn.calibrate import calibrate as calibrate_model
    from changedet.learn.datasets import dataset_of, open_dataset
    from changedet.network.package import save_model
    from changedet.write.staging import atomic_path

    wishes = [Wish("f1")] if f1 else []
    wishes += [Wish("precision", precision)] if precision is not None else []
    wishes += [Wish("recall", recall)] if recall is not None else []
    if len(wishes) != 1:
        raise ConfigError(f"{len(wishes)} wishes for the threshold", expected="one of --precision, --recall and --f1")
    config = checked(EvaluateConfig, given(options))
    found = open_dataset(dataset_of(dataset, split=split))
    with atomic_path(out, overwrite=overwrite) as path:
        result = calibrate_model(model, found, wishes[0], method, config, reporter(ctx))
        save_model(path, result.model.network, result.model.card)
    _print_calibration(result)
    OUT.print(f"written to {escape(str(out))}")


def _print_calibration(result: Any) -> None:
    from changedet.learn.curves import Reliability

    before, after = Reliability.of(result.before), Reliability.of(result.after)
    table = Table(title="of the pixels of a probability, so many are changed", title_justify="left", box=None)
    for name in ("stated", "before", "pixels", "after", "pixels"):
        table.add_column(name, justify="right")
    bins = len(before.pixels)
    for index in range(bins):
        cells = [(f"{r.observed[index]:.3f}" if r.pixels[index] else "", str(r.pixels[index])) for r in (before, after)]
        table.add_row(f"{index / bins:.2f} to {(index + 1) / bins:.2f}", *cells[0], *cells[1])
    OUT.print(table)
    OUT.print(f"expected calibration error {before.expected_error:.4f} before, {after.expected_error:.4f} after")
    counts = result.counts
    OUT.print(
        f"threshold {result.model.card.threshold:.3f}: precision {counts.precision:.3f}, recall {counts.recall:.3f},"
        f" F1 {counts.f1:.3f}"
    )
