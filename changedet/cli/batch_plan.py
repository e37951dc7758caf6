"""`changedet batch plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click import Context
from rich.markup import escape

from changedet.cli.console import ERR, OUT, ProgressBars, shown
from changedet.cli.group import command
from changedet.cli.options import computing_options, given, method_options, reading_options

# More than these would only scroll away; all are in the file beside the manifest.
_SHOWN = 5


def _tiling_options(command: Any) -> Any:
    """Add the options that say what pairs are made of, and how they are cut into tiles."""
    for option in reversed(
        (
            click.option(
                "--match",
                multiple=True,
                metavar="PATTERN",
                help="What scenes are called in the two folders, or items in the two collections: {} is the part that"
                " is the same at both dates, * and ? match anything, {date} is the scene's date. Once for both dates,"
                " or once a date. Default: equal names.",
            ),
            click.option("--tile-size", metavar="PX|M", help="Side of a tile: 4096 (the default), 5000m or 5km."),
            click.option("--xyz", type=int, metavar="ZOOM", help="Tiles of a web map instead."),
            click.option("--tms", metavar="NAME", help="Tile matrix set of --xyz. Default: WebMercatorQuad."),
            click.option("--mgrs", is_flag=True, help="The 100 km squares of MGRS instead."),
            click.option("--tiles", metavar="FILE", help="The polygons of this vector file instead."),
            click.option("--tile-id", metavar="COLUMN", help="Their names. Default: id or name, else their number."),
            click.option(
                "--other-grids",
                type=click.Choice(["warp", "refuse"]),
                help="Scenes in another CRS or on another grid than most: resample them (the default), or leave them"
                " out.",
            ),
            click.option("--apart", is_flag=True, help="Take each pair by itself, even where it touches others."),
        )
    ):
        command = option(command)
    return command


@command()
@click.argument("before")
@click.argument("after")
@click.option(
    "-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="Manifest, .parquet or .csv."
)
@_tiling_options
@method_options
@computing_options
@click.option("--overwrite", is_flag=True, help="Replace the manifest.")
@reading_options
@click.pass_context
def plan(ctx: Context, /, before: str, after: str, out: Path, **options: Any) -> None:
    """Cut BEFORE and AFTER into tiles, and say what they will cost; nothing is mapped yet.

    They are two mosaics (files, VRTs, GTI indexes, URLs), two folders of scenes, or two STAC item collections. Scenes
    that touch and agree in dates and bands become one mosaic, whose tiles share all that is learned of it.

    The options that `batch run` takes too should be the same there: with its model, halo and memory tiles end where
    chips do, so that nothing is computed twice, and the estimate is of its work.

    \b
    changedet batch plan 2018.vrt 2020.vrt -o tiles.parquet
    changedet batch plan 2018/ 2020/ -o tiles.parquet --match '{}_2018.tif' --match '{}_2020.tif'
    changedet batch plan before.json after.json -o tiles.parquet --mgrs
    changedet batch plan 2018.vrt 2020.vrt -o tiles.csv --tiles districts.gpkg --tile-id code
    """
    plan_scenes(ctx, before, after, out, options)
    if not ctx.obj["quiet"]:
        OUT.print(f"next: changedet batch run {escape(str(out))} -o OUT")


def plan_scenes(ctx: Context, before: str, after: str, out: Path, options: dict[str, Any]) -> None:
    """Write the manifest of a batch, and print what it says."""
    from changedet.batch.plan import plan_batch

    with ProgressBars(quiet=ctx.obj["quiet"]) as progress:
        planned = plan_batch(before, after, out, progress=progress, **given(options))
    if not ctx.obj["quiet"]:
        _print_plan(planned)


def _print_plan(planned: Any) -> None:
    for note in planned.notes:
        ERR.print(f"[yellow]warning:[/yellow] {shown(note)}")
    _print_unmatched(planned)
    rows = _rows(planned)
    width = max(len(name) for name, _ in rows)
    for name, told in rows:
        OUT.print(f"{name:<{width}}  {escape(told)}")
    OUT.print(f"written to {escape(str(planned.path))}")


def _rows(planned: Any) -> list[tuple[str, str]]:
    manifest, estimate, probed = planned.manifest, planned.estimate, planned.probed
    height, width = manifest.geobox.shape
    skipped = ", ".join(f"{count:,} {why}" for why, count in estimate.skipped.items())
    lattice = probed.lattice
    rows = [
        ("pairs", f"{planned.pairs:,} in {_counted(len(manifest.mosaics), 'mosaic')}"),
        ("grid", f"{height:,} x {width:,} px, {_shown_crs(manifest)}"),
        ("resampled to it", f"{_counted(len(planned.warped), 'mosaic')}" if planned.warped else ""),
        ("tiles", f"{estimate.tiles:,} to compute, {estimate.pixels / 1e6:,.1f} Mpx"),
        ("skipped", skipped),
        (
            "chips",
            f"{estimate.chips:,} of at most {lattice.chip} px, {lattice.halo} px of them halo; {_repeated(estimate)}",
        ),
        (
            "time",
            f"{_shown_time(estimate.seconds)} on this machine, by a chip timed now",
        ),
        ("space", f"{_shown_bytes(estimate.bytes)} at most"),
        ("detector", probed.name),
    ]
    return [row for row in rows if row[1]]


def _repeated(estimate: Any) -> str:
    return "each computed once" if estimate.times == 1 else f"{estimate.times:.2f} times what one run computes"


def _print_unmatched(planned: Any) -> None:
    for entry in planned.unmatched[:_SHOWN]:
        ERR.print(f"[yellow]left out:[/yellow] {shown(entry.source)}: {shown(entry.why)}")
    if len(planned.unmatched) > _SHOWN:
        ERR.print(f"… and {len(planned.unmatched) - _SHOWN:,} more")
    if planned.unmatched:
        ERR.print(f"all of them: {escape(str(planned.unmatched_path))}")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _shown_crs(manifest: Any) -> str:
    return str(manifest.crs_text if len(manifest.crs_text) < 20 else manifest.crs.name)


def _shown_time(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _shown_bytes(count: int) -> str:
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
