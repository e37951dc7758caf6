"""`changedet finetune`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
from click import Context
from rich.markup import escape
from rich.table import Table

from changedet.cli.console import ERR, OUT, reporter
from changedet.cli.group import command
from changedet.cli.options import given, reading_options


@command()
@click.argument("model")
@click.argument("before")
@click.argument("after")
@click.option("--labels", required=True, type=click.Path(path_type=Path), help="Polygons of change, any vector file.")
@click.option("--steps", type=int, help="Steps of learning, if time allows. Default: 150.")
@click.option("--minutes", type=float, help="Stop learning after so long. Default: 4.")
@click.option("--held-out", "held_out_share", type=float, help="Share of polygons to measure on. Default: 0.25.")
@click.option("--learning-rate", type=float, help="Default: 0.001.")
@click.option("--seed", type=int, help="Default: 0.")
@click.option("-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="Model file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@reading_options
@click.pass_context
def finetune(
    ctx: Context,
    /,
    model: str,
    before: str,
    after: str,
    labels: Path,
    out: Path,
    overwrite: bool,
    steps: int | None,
    minutes: float | None,
    held_out_share: float | None,
    learning_rate: float | None,
    seed: int | None,
    **reading: Any,
) -> None:
    r"""Fine-tune MODEL on polygons of what changed between BEFORE and AFTER, in a few minutes on a CPU.

    All within the reviewed area that is no polygon is unchanged. That area is the layer `area` of the file, if it has
    one, else the polygons' bounding box and 48 pixels around it. A column `changed` or `label` of 0 marks reviewed
    false alarms. A quarter of the polygons, in blocks of their own, is not learned from: it tells the gain.

    \b
    changedet finetune s2-urban before.tif after.tif --labels reviewed.gpkg -o mine.safetensors
    changedet run before.tif after.tif --model mine.safetensors -o out
    """
    from changedet.config import FinetuneConfig, RunConfig, check_options, checked
    from changedet.detect.scenes import open_scenes
    from changedet.learn.finetune import finetune as finetune_model
    from changedet.network.package import save_model
    from changedet.report.command import typed
    from changedet.write.provenance import redact
    from changedet.write.staging import atomic_path

    read = check_options(given(reading))
    options = {
        "steps": steps,
        "minutes": minutes,
        "held_out_share": held_out_share,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    # A share or a seed of 0 was said, unlike a flag that is not set.
    said = {name: value for name, value in options.items() if value is not None}
    own = {"held_out" if name == "held_out_share" else name: value for name, value in said.items()}
    parts = [model, before, after, "--labels", str(labels), *typed(own, {})]
    parts += typed(read.model_dump(mode="json"), RunConfig().model_dump(mode="json"))
    line = shlex.join(["changedet", "finetune", *map(redact, parts)])
    config = checked(FinetuneConfig, {**said, "name": out.stem, "command": line})
    with atomic_path(out, overwrite=overwrite) as path:
        result = finetune_model(model, open_scenes(before, after, read), labels, read, config, reporter(ctx))
        save_model(path, result.model.network, result.model.card)
    _print_finetuned(result)
    OUT.print(f"written to {escape(str(out))}")


def _print_finetuned(result: Any) -> None:
    total, held = result.polygons
    figures = result.model.card.figures
    OUT.print(f"{result.steps} steps on {total - held} of {total} polygons of change")
    if not held:
        OUT.print("no polygon could be held out, so the gain is not known: four or more, some way apart, are needed")
        return
    if not figures["held_out_before"]["tp"] + figures["held_out_before"]["fn"]:
        OUT.print(f"the {held} polygons held out lie on no valid pixel, so the gain is not known")
        return
    table = Table(title=f"on the {held} polygons held out and the ground around them", title_justify="left", box=None)
    for name in ("", "precision", "recall", "F1", "average precision"):
        table.add_column(name, justify="right")
    for name in ("before", "after"):
        row = figures[f"held_out_{name}"]
        cells = (row[key] for key in ("precision", "recall", "f1", "average_precision"))
        table.add_row(name, *("" if cell is None else f"{cell:.3f}" for cell in cells))
    OUT.print(table)
    before, after = (figures[f"held_out_{name}"]["average_precision"] or 0.0 for name in ("before", "after"))
    if after <= before:
        ERR.print("[yellow]warning:[/yellow] it did not gain on what was held out: the model it came from is as good")
