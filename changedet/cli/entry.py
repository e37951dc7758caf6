"""The command `changedet`, also registered as `rio changedet`, and its entry point."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from io import TextIOWrapper

import click
from click import Context

from changedet.cli.batch import batch
from changedet.cli.calibrate import calibrate
from changedet.cli.clouds import clouds
from changedet.cli.evaluate import evaluate
from changedet.cli.finetune import finetune
from changedet.cli.group import Group
from changedet.cli.inspect import inspect
from changedet.cli.models import models
from changedet.cli.pipeline import pipeline
from changedet.cli.pretrain import pretrain
from changedet.cli.report import report
from changedet.cli.run import run
from changedet.cli.train import train
from changedet.cli.vectorize import vectorize


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="changedet")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
@click.pass_context
def cli(ctx: Context, debug: bool, verbose: bool, quiet: bool) -> None:
    """Find what changed between two satellite scenes.

    \b
    changedet run before.tif after.tif -o out        the main job
    changedet inspect before.tif after.tif           what it would do, without doing it
    changedet models                                 the shipped models
    """
    del debug  # read by `Group` from the context
    ctx.obj = {"quiet": quiet}
    for stream in (sys.stdout, sys.stderr):
        # Where a console or a pipe is not of Unicode, km² and … are no reason to fail, least of all after a run.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Whether a raster without georeference matters is our decision. What keeps rasterio from warning is of all threads
    # at once, and one of them may end it for another.
    warnings.filterwarnings("ignore", "Dataset has no geotransform|The given matrix is equal to Affine.identity")
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    handler = logging.StreamHandler()
    handler.setFormatter(_Redacting("%(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


class _Redacting(logging.Formatter):
    """Hides credentials: GDAL's messages hold URLs as they were given."""

    def format(self, record: logging.LogRecord) -> str:
        from changedet.write.provenance import redact

        return redact(super().format(record))


_learning = (train, pretrain, finetune, evaluate, calibrate)
for _verb in (run, batch, inspect, vectorize, report, clouds, models, pipeline, *_learning):
    cli.add_command(_verb)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the command `changedet`."""
    # A batch system's kill is an interrupt to us: the work folder is removed on the way out.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        cli()
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error. Python would complain at exit otherwise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
