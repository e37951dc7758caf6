"""`changedet pipeline`."""

from __future__ import annotations

import click
from click import Context

from changedet.cli.batch import batch_step
from changedet.cli.group import command
from changedet.cli.options import set_option
from changedet.cli.pretrain import pretrain_file
from changedet.cli.run import run_scenes
from changedet.cli.train import train_file
from changedet.errors import ConfigError


@command()
@click.argument("file")
@set_option
@click.pass_context
def pipeline(ctx: Context, file: str, changes: tuple[str, ...]) -> None:
    """Carry out a pipeline FILE.

    \b
    changedet pipeline pipelines/01_two_geotiffs.yaml
    changedet pipeline pipelines/01_two_geotiffs.yaml --set run.out=elsewhere --set run.threshold=0.4
    """
    from changedet.config import load_pipeline

    steps = load_pipeline(file, changes)
    if steps.run is not None:
        options = steps.run.model_dump(exclude={"before", "after", "out"}, exclude_unset=True)
        run_scenes(ctx, (steps.run.before, steps.run.after), steps.run.out, options)
    elif steps.batch is not None:
        batch_step(ctx, steps.batch)
    elif steps.train is not None:
        train_file(ctx, file, changes, jobs=1)
    elif steps.pretrain is not None:
        pretrain_file(ctx, file, changes)
    else:
        raise ConfigError(f"{file} names a dataset and nothing to do", remedy="changedet evaluate MODEL " + file)
