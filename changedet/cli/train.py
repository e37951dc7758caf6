"""`changedet train`."""

from __future__ import annotations

import click
from click import Context

from changedet.cli.group import command
from changedet.cli.learning import command_line, teller
from changedet.cli.options import set_option
from changedet.errors import ConfigError


@command()
@click.argument("file")
@set_option
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Trainings beside each other.")
@click.pass_context
def train(ctx: Context, file: str, changes: tuple[str, ...], jobs: int) -> None:
    """Cross-validate, train and package the models of a pipeline FILE. Goes on where it was interrupted.

    \b
    changedet train pipelines/02_train_oscd.yaml --jobs 2
    """
    train_file(ctx, file, changes, jobs=jobs)


def train_file(ctx: Context, file: str, changes: tuple[str, ...], *, jobs: int) -> None:
    """Carry out the block `train` of a pipeline file."""
    from changedet.config import load_pipeline
    from changedet.learn.crossvalidate import train_models

    config = load_pipeline(file, changes).train
    if config is None:
        raise ConfigError(f"{file} has no block train", remedy="changedet pipeline runs any file")
    train_models(config, jobs=jobs, command=command_line("train", file, changes), report=teller(ctx))
