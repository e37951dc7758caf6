"""`changedet run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click import Context
from rich.markup import escape
from rich.table import Table

from changedet.cli.console import ERR, OUT, ProgressBars, shown, shown_area
from changedet.cli.group import command
from changedet.cli.options import (
    computing_options,
    given,
    method_options,
    pairs,
    polygon_options,
    reading_options,
    vector_option,
)


@command()
@click.argument("scenes", nargs=-1, required=True, metavar="BEFORE AFTER [LATER]...")
@click.option("-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@method_options
@polygon_options
@computing_options
@click.option("--overwrite", is_flag=True, help="Replace the results in the output folder.")
@click.option("--stac", is_flag=True, help="Write stac.json too: the run as an item for a catalogue.")
@click.option("--report/--no-report", default=None, help="Write report.html too, or not. Default: yes.")
@click.option("--reuse", is_flag=True, help="Take probabilities over from the run in the output folder, if they agree.")
@click.option("--reuse-from", metavar="FOLDER", help="Likewise, from the run in another folder.")
@click.option("--co", multiple=True, callback=pairs, metavar="NAME=VALUE", help="Creation option of the COGs.")
@vector_option
@click.option("--append", is_flag=True, help="Add to what is at the paths and URLs of --vector.")
@reading_options
@click.pass_context
def run(ctx: Context, /, scenes: tuple[str, ...], out: Path, **options: Any) -> None:
    """Map what changed between BEFORE and AFTER, or between every two of more dates.

    Writes probability.tif, mask.tif, changes.gpkg, report.html and run.json into the output folder; with --detector
    also statistic.tif, with --tta or several models uncertainty.tif. A scene is a raster file or a folder of
    single-band files such as a Sentinel-2 download, a .SAFE or Landsat folder, a URL, or stac:ITEM. Of more than two
    dates there is a folder for each interval, and first_change.tif.

    \b
    changedet run before.tif after.tif -o out
    changedet run imgs_1 imgs_2 -o out --coregister --min-area 500
    changedet run a.tif b.tif -o out --bands red=3,green=2,blue=1,nir=4 --threshold 0.4
    changedet run a.tif b.tif -o out --detector irmad
    changedet run 2018.tif 2020.tif 2022.tif -o out
    """
    run_scenes(ctx, scenes, out, options)


def run_scenes(ctx: Context, scenes: tuple[str, ...], out: Path, options: dict[str, Any]) -> None:
    """Run a pair or a series of scenes, and print what was found."""
    if len(scenes) > 2:
        _run_series(ctx, scenes, out, options)
        return
    if len(scenes) < 2:
        raise click.UsageError("Missing argument 'AFTER'.")
    from changedet.detect.run import run as run_job

    with ProgressBars(quiet=ctx.obj["quiet"]) as progress:
        result = run_job(scenes[0], scenes[1], out, progress=progress, **given(options))
    if not ctx.obj["quiet"]:
        _print_result(result)


def _run_series(ctx: Context, scenes: tuple[str, ...], out: Path, options: dict[str, Any]) -> None:
    from changedet.detect.series import run_series

    with ProgressBars(quiet=ctx.obj["quiet"]) as progress:
        result = run_series(scenes, out, progress=progress, **given(options))
    if ctx.obj["quiet"]:
        return
    for warning in result.record["warnings"]:
        ERR.print(f"[yellow]warning:[/yellow] {shown(warning)}")
    for interval in result.record["intervals"]:
        dates, areas = interval["dates"], interval["areas"]
        told = f"{dates['before'] or 'unknown'} to {dates['after'] or 'unknown'}"
        found = f"{areas['polygons']} changes, {shown_area(areas['changed_m2'])}"
        OUT.print(f"{interval['folder']}: {escape(told)}: {found}")
    OUT.print(f"written to {escape(str(result.out))}: first_change.tif, run.json and the folders of the intervals")


def _print_result(result: Any) -> None:
    record = result.record
    areas, model = record["areas"], record["model"]
    for warning in record["warnings"]:
        ERR.print(f"[yellow]warning:[/yellow] {shown(warning)}")
    if not model["commercial_use"]:
        ERR.print(f"note: model {escape(model['name'])} is under {model['licence']}: not for commercial use")
    share = areas["changed_m2"] / areas["comparable_m2"] if areas["comparable_m2"] else 0.0
    changed, compared, unknown = (shown_area(areas[f"{kind}_m2"]) for kind in ("changed", "comparable", "unknown"))
    OUT.print(
        f"{areas['polygons']} changes, {changed} of {compared} compared ({share:.2%}); {unknown} could not be compared"
    )
    if record["largest"]:
        OUT.print(_largest_table(record["largest"]))
    OUT.print(f"written to {escape(str(result.out))}: {', '.join(result.results)}")


def _largest_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="largest changes", title_justify="left", box=None)
    for name in ("area", "probability", "longitude", "latitude"):
        table.add_column(name, justify="right")
    for row in rows:
        probability = row["probability_mean"]
        shown = "" if probability is None else f"{probability:.2f}"
        table.add_row(shown_area(row["area_m2"]), shown, f"{row['lon']:.5f}", f"{row['lat']:.5f}")
    return table
