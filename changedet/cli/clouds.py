"""`changedet clouds`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from changedet.cli.console import OUT
from changedet.cli.group import command


@command()
@click.argument("scene")
@click.option("-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="GeoTIFF to write.")
@click.option("--bands", metavar="NAME=N,…|SENSOR", help="Which band is which, as for `run`.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
def clouds(scene: str, out: Path, **options: Any) -> None:
    """Mask the clouds and shadows of SCENE by OmniCloudMask, an optional extra, for `run --valid-mask`.

    \b
    changedet clouds after.tif -o clear.tif
    changedet run before.tif after.tif -o out --valid-mask none --valid-mask clear.tif
    """
    from changedet.detect.clouds import mask_clouds

    share = mask_clouds(scene, out, **options)
    OUT.print(f"{share:.1%} clear, written to {escape(str(out))}")
