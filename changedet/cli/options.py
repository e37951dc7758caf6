"""Options that several commands share."""

from __future__ import annotations

from typing import Any

import click
from click import Context, Parameter


def _dates(ctx: Context, param: Parameter, value: str | None) -> tuple[str, ...] | None:
    del ctx, param
    return tuple(value.split(",")) if value else None


def pairs(ctx: Context, param: Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Read options NAME=VALUE into a mapping."""
    del ctx, param
    if any("=" not in item for item in value):
        raise click.BadParameter("expected NAME=VALUE")
    return dict(item.split("=", 1) for item in value)


def polygon_options(command: Any) -> Any:
    """Add the options that say what polygons are like; `run` and `vectorize` share them."""
    for option in reversed(
        (
            click.option("--min-area", type=float, help="Leave out polygons below this many m²."),
            click.option("--min-hole", type=float, help="Fill empty holes below this many m²."),
            click.option(
                "--connectivity", type=click.Choice([4, 8]), help="8 joins pixels that touch at a corner. Default: 8."
            ),
            click.option("--simplify", type=float, metavar="M", help="Drop corners within this many metres."),
            click.option("--smooth", is_flag=True, help="Turn stair-steps into slopes."),
            click.option("--regularize", is_flag=True, help="Turn outlines into right angles, for buildings."),
        )
    ):
        command = option(command)
    return command


def method_options(command: Any) -> Any:
    """Add the options that say what finds change; `run` and `batch` share them."""
    for option in reversed(
        (
            click.option(
                "--model",
                "models",
                multiple=True,
                help="Shipped model or model file; several give their mean. Default: the best shipped one that fits the"
                " bands.",
            ),
            click.option(
                "--tta", is_flag=True, help="Average over the turned and mirrored images: eight times the work."
            ),
            click.option(
                "--detector",
                type=click.Choice(["urban", "cva", "mad", "irmad", "pca-kmeans", "sfa", "deep"]),
                help="Use no network but a detector that needs no labels and no training.",
            ),
            click.option(
                "--threshold",
                metavar="NUMBER|RULE",
                help="Probability from which a pixel is changed; with --detector also otsu, mixture, chi2:0.99 or"
                " statistic:NUMBER. Default: the model card's, or mixture.",
            ),
        )
    ):
        command = option(command)
    return command


def computing_options(command: Any) -> Any:
    """Add the options that say how and where the network is computed; `run` and `batch` share them."""
    for option in reversed(
        (
            click.option("--halo", metavar="default|exact|PX", help="Pixels read around each chip's core, discarded."),
            click.option("--max-memory", metavar="SIZE", help="Memory a process may take, e.g. 2GB (the default)."),
            click.option(
                "--readers",
                type=int,
                help="Threads that read ahead of the network. Default: 1; more help behind URLs.",
            ),
            click.option(
                "--threads", type=int, help="Threads that compute. Default: all cores, of a worker its share."
            ),
            click.option("--backend", help="auto, torch or openvino. Default: OpenVINO on CPUs where it is installed."),
            click.option("--precision", help="auto, float32 or bfloat16. Default: bfloat16 where the hardware has it."),
            click.option(
                "--probability-dtype",
                type=click.Choice(["uint8", "float32"]),
                help="How probability.tif is stored. Default: uint8, in steps of 1/254.",
            ),
            click.option("--device", help="auto, cpu, cuda, cuda:1 or mps. Default: auto."),
            click.option(
                "--any-resolution", is_flag=True, help="Run even where pixels are over 3 times larger or smaller."
            ),
            click.option("--free-only", is_flag=True, help="Refuse models that are not free for commercial use."),
        )
    ):
        command = option(command)
    return command


def pixel_options(command: Any) -> Any:
    """Add the options that say what stored values mean and how dates are made comparable; every pair has them."""
    for option in reversed(
        (
            click.option(
                "--nodata",
                type=float,
                multiple=True,
                help="Value of invalid pixels, instead of what the files declare. Once for all dates, or once a date.",
            ),
            click.option(
                "--valid-mask",
                multiple=True,
                metavar="[KIND:]FILE[#BAND]",
                help="Which pixels are valid: a mask, or scl:, qa_pixel:, cfmask:, omnicloudmask: and a quality band;"
                " none ignores the product's own. Once for all dates, or once a date.",
            ),
            click.option(
                "--scale",
                type=float,
                multiple=True,
                help="Stored value times this is reflectance, e.g. 0.0001. Once for all dates, or once a date.",
            ),
            click.option("--offset", type=float, multiple=True, help="Added after the scale, e.g. -0.1; likewise."),
            click.option(
                "--resampling",
                type=click.Choice(["nearest", "bilinear", "cubic"]),
                help="Kernel where a scene is warped.",
            ),
            click.option("--coregister", is_flag=True, help="Remove the displacement between the dates."),
            click.option(
                "--coregister-by",
                type=click.Choice(["field", "shift"]),
                help="The same, and how: shift is one for the whole pair; field, the usual, bends where that pays.",
            ),
            click.option(
                "--normalize",
                type=click.Choice(["none", "histogram", "irmad"]),
                help="Bring the after date's values to the before date's. Default: none.",
            ),
        )
    ):
        command = option(command)
    return command


def reading_options(command: Any) -> Any:
    """Add the options that say how a pair is read; `run` and `inspect` share them."""
    for option in reversed(
        (
            click.option(
                "--bands",
                metavar="NAME=N,…|SENSOR",
                help="Which band is which, e.g. red=3,green=2,blue=1,nir=4, or a sensor's usual stack: sentinel-2,"
                " landsat-8, landsat-7, naip, rgb. One a date with / between.",
            ),
            click.option("--bounds", nargs=4, type=float, help="Left bottom right top in the CRS of the grid."),
            click.option("--like", metavar="FILE", help="Compare on the whole grid of this raster."),
            click.option("--res", type=float, multiple=True, help="Pixel size, in the before CRS; twice for y and x."),
            click.option("--aoi", metavar="FILE", help="Compare only inside the polygons of this file."),
            pixel_options,
            click.option("--dates", callback=_dates, metavar="BEFORE,AFTER", help="ISO dates of the scenes."),
        )
    ):
        command = option(command)
    return command


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the user did not say: defaults live in `changedet.config`."""
    model, *ensemble = options.get("models") or (None,)  # the first of several --model, and the others
    options = {**options, "model": options.get("model") or model, "ensemble": options.get("ensemble", tuple(ensemble))}
    if by := options.pop("coregister_by", None):
        options["coregister"] = by
    given = {name: value for name, value in options.items() if name != "models" and value not in (None, {}, ())}
    halo = given.get("halo")
    return {**given, "halo": int(halo)} if isinstance(halo, str) and halo.isdigit() else given


vector_option = click.option(
    "--vector",
    multiple=True,
    metavar="FORMAT|PATH|URL",
    help="Polygons there too: geoparquet, flatgeobuf, geojson, a path with their suffix, or postgresql://…",
)

set_option = click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one entry of the file.")
