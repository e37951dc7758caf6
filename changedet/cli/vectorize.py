"""`changedet vectorize`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.markup import escape

from changedet.cli.console import OUT
from changedet.cli.group import command
from changedet.cli.options import given, polygon_options


@command()
@click.argument("mask")
@click.option("--probability", help="probability.tif of the same run, for the columns of probability.")
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    metavar="PATH|URL",
    help="File to write, *.gpkg, *.parquet, *.fgb or *.geojson, or postgresql://…",
)
@polygon_options
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--append", is_flag=True, help="Add to what is there, but no polygon twice.")
def vectorize(mask: str, probability: str | None, out: str, overwrite: bool, append: bool, **options: Any) -> None:
    """Turn MASK.tif into polygons.

    \b
    changedet vectorize out/mask.tif --probability out/probability.tif -o changes.gpkg --min-area 1000
    """
    from changedet.config import PolygonConfig, checked
    from changedet.vectorize import vectorize as vectorize_mask
    from changedet.write.layers import Spool
    from changedet.write.targets import check_target, target_of, write_target

    config, target = checked(PolygonConfig, given(options)), target_of(out)
    check_target(target, append=append, overwrite=overwrite)
    with TemporaryDirectory(prefix="changedet-") as folder:
        with Spool(Path(folder)) as spool:
            vectorize_mask(mask, probability, sink=spool, config=config)
        written = write_target(target, spool.layers(), append=append, overwrite=overwrite)
    OUT.print(f"{written} changes written to {escape(str(target))}")
