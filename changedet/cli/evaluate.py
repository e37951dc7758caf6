"""`changedet evaluate`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from click import Context

from changedet.cli.console import reporter
from changedet.cli.group import command
from changedet.cli.options import given


@command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL…")
@click.argument("dataset")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Only this split. Default: all there is.")
@click.option("--threshold", type=float, help="Probability from which a pixel is changed. Default: each model card's.")
@click.option(
    "--protocol", type=click.Choice(["valid", "oscd"]), help="oscd: all pixels of full scenes, threshold 0.5."
)
@click.option("--ensemble", is_flag=True, help="The models are one: the mean of their probabilities.")
@click.option("--tta", is_flag=True, help="Average over the eight turned and mirrored images.")
@click.option("--allow-overlap", is_flag=True, help="Even on scenes that a model learned from.")
@click.option("--bootstrap", type=int, metavar="N", help="Draws of scenes for the interval. Default: 1000.")
@click.option("--seed", type=int, help="Of these draws. Default: 0.")
@click.option("--device", help="auto, cpu, cuda, cuda:1 or mps. Default: auto.")
@click.option("--max-memory", metavar="SIZE", help="Memory the process may take, e.g. 2GB (the default).")
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path), help="Folder for evaluation.json, .md and .png."
)
@click.option("--overwrite", is_flag=True, help="Replace the files in that folder.")
@click.pass_context
def evaluate(
    ctx: Context,
    /,
    models: tuple[str, ...],
    dataset: str,
    split: str | None,
    out: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Score one MODEL, several seeds of one, or their mean, on a DATASET whose truth is known.

    A dataset is a folder in its own download layout (OSCD, LEVIR-CD, WHU-CD, S2Looking; A, B and label; before.tif,
    after.tif and polygons), kind:folder, or a pipeline file with a block dataset.

    \b
    changedet evaluate s2-urban path/to/oscd --split test --protocol oscd
    changedet evaluate seed0.safetensors seed1.safetensors levir:path/to/levir --split test -o scores
    changedet evaluate --ensemble --tta seed0.safetensors seed1.safetensors my_labels
    """
    from changedet.config import EvaluateConfig, checked
    from changedet.learn.datasets import dataset_of, open_dataset
    from changedet.learn.evaluate import evaluate as evaluate_models
    from changedet.learn.figures import EVALUATION_FILES, markdown, write_evaluation
    from changedet.write.staging import atomic_paths

    config = checked(EvaluateConfig, given(options))
    found = open_dataset(dataset_of(dataset, split=split))
    # Before hours of scoring, not after: what is there already is refused.
    with nullcontext() if out is None else atomic_paths(out, EVALUATION_FILES, overwrite=overwrite) as folder:
        evaluation = evaluate_models(models, found, config, reporter(ctx))
        if folder is not None:
            write_evaluation(evaluation, folder)
    click.echo(markdown(evaluation), nl=False)
