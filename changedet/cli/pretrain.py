"""`changedet pretrain`."""

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
@click.pass_context
def pretrain(ctx: Context, file: str, changes: tuple[str, ...]) -> None:
    """Learn from pairs without labels, as a pipeline FILE says, and package the models. Goes on where interrupted.

    \b
    changedet pretrain pipelines/05_pretrain.yaml
    """
    pretrain_file(ctx, file, changes)


def pretrain_file(ctx: Context, file: str, changes: tuple[str, ...]) -> None:
    """Carry out the block `pretrain` of a pipeline file."""
    from changedet.config import load_pipeline
    from changedet.learn.pretrain import pretrain_models

    config = load_pipeline(file, changes).pretrain
    if config is None:
        raise ConfigError(f"{file} has no block pretrain", remedy="changedet pipeline runs any file")
    pretrain_models(config, command=command_line("pretrain", file, changes), report=teller(ctx))
