"""`changedet batch`: many tiles, one result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click import Context
from rich.markup import escape
from rich.table import Table

from changedet.cli.batch_plan import plan, plan_scenes
from changedet.cli.console import ERR, OUT, ProgressBars, shown, shown_area
from changedet.cli.group import INTERRUPTED, Subgroup
from changedet.cli.options import (
    computing_options,
    given,
    method_options,
    pairs,
    pixel_options,
    polygon_options,
    vector_option,
)
from changedet.errors import TILES_FAILED

if TYPE_CHECKING:
    from changedet.config import BatchStep

# More than these would only scroll away; all are in the ledger and in failures.csv.
_FAILURES_SHOWN = 5
# Each mosaic may have its own; run.json has all.
_WARNINGS_SHOWN = 10


@click.group(cls=Subgroup)
def batch() -> None:
    """Map many tiles on one machine or many, resumable, as one result.

    \b
    changedet batch plan before.vrt after.vrt -o manifest.parquet
    changedet batch run manifest.parquet -o out
    changedet batch status out
    changedet batch retry out
    """


batch.add_command(plan)


def _sharing_options(command: Any) -> Any:
    """Add the options that say who does the work."""
    for option in reversed(
        (
            click.option("--workers", type=int, help="Processes here. Default: as cores and memory allow."),
            click.option(
                "--scheduler",
                metavar="tcp://HOST:PORT",
                help="A running Dask scheduler, to whose workers the tiles go instead.",
            ),
            click.option(
                "--retries", type=int, help="How often a tile is tried again after what may pass. Default: 2."
            ),
        )
    ):
        command = option(command)
    return command


@batch.command()
@click.argument("manifest")
@click.option("-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@_sharing_options
@method_options
@polygon_options
@vector_option
@computing_options
@pixel_options
@click.option("--co", multiple=True, callback=pairs, metavar="NAME=VALUE", help="Creation option of the COGs.")
@click.option("--overwrite", is_flag=True, help="Begin anew where another batch, or this one, was begun.")
@click.pass_context
def run(ctx: Context, /, manifest: str, out: Path, **options: Any) -> None:
    """Map the tiles of MANIFEST that are not done yet.

    It may be stopped in any way; the same command then goes on where it stopped. A tile is done again when its inputs,
    an option or the model changed. A tile that fails does not stop the others: the exit code is then 10, and `batch
    retry` does it again.

    Writes into the output folder: mask.vrt and probability.vrt over the tiles' COGs in tiles/, changes.gpkg,
    failures.csv, run.json, overview.html, and collection.json with an item a tile where the dates are known.

    \b
    changedet batch run manifest.parquet -o out
    changedet batch run manifest.parquet -o out --workers 8 --threads 2
    changedet batch run manifest.parquet -o out --scheduler tcp://10.0.0.5:8786
    """
    _run(ctx, manifest, out, options)


def batch_step(ctx: Context, step: BatchStep) -> None:
    """Carry out the block `batch` of a pipeline file: plan, where it says of what, and run."""
    if step.before is not None and step.after is not None:
        # Planned anew each time, as the scenes may be others by now: the batch in `out` goes on if it is the same.
        overwrite = step.overwrite or _is_manifest(step.manifest)
        plan_scenes(ctx, step.before, step.after, step.manifest, {**step.plan_options(), "overwrite": overwrite})
    _run(ctx, str(step.manifest), step.out, step.run_options())


def _is_manifest(path: Path) -> bool:
    """Return whether there is a manifest, which another may replace.

    Raises:
        ConfigError: there is something else.
    """
    from changedet.batch.manifest_file import read_manifest

    return path.exists() and len(read_manifest(path)) > 0


def _run(ctx: Context, manifest: str, out: Path, options: dict[str, Any]) -> None:
    from changedet.batch.run import run_batch

    with _resumable(ctx), ProgressBars(quiet=ctx.obj["quiet"]) as progress:
        result = run_batch(manifest, out, progress=progress, **given(options))
    _print_result(ctx, result)


@batch.command()
@click.argument("out", type=click.Path(path_type=Path))
@_sharing_options
@click.option("--threads", type=int, help="Threads that compute in each worker. Default: its share of the cores.")
@click.pass_context
def retry(ctx: Context, /, out: Path, **options: Any) -> None:
    """Map the tiles again that failed, and those that are left, of the batch in the folder OUT.

    \b
    changedet batch retry out
    """
    from changedet.batch.run import retry_batch

    with _resumable(ctx), ProgressBars(quiet=ctx.obj["quiet"]) as progress:
        result = retry_batch(out, progress=progress, **given(options))
    _print_result(ctx, result)


@batch.command()
@click.argument("out", type=click.Path(path_type=Path))
def status(out: Path) -> None:
    """Tell how the batch in the folder OUT is coming on: tiles done, failed and left, rate and expected end.

    \b
    changedet batch status out
    """
    from changedet.batch.status import status_of

    found = status_of(out)
    table = Table(box=None, show_header=False)
    for name, count in found.counts.items():
        table.add_row(name, f"{count:,}")
    table.add_row("all", f"{found.total:,}")
    if found.tiles_per_second:
        table.add_row("tiles a minute", f"{60 * found.tiles_per_second:.1f}")
    table.add_row("running", escape(f"on {found.host}" if found.running else "no"))
    if found.updated:
        table.add_row("as of", found.updated)
    if found.expected_end:
        table.add_row("expected end", found.expected_end)
    OUT.print(table)


@contextmanager
def _resumable(ctx: Context) -> Iterator[None]:
    """Say of an interruption that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        ERR.print("interrupted: the same command goes on where it stopped")
        ctx.exit(INTERRUPTED)


def _print_result(ctx: Context, result: Any) -> None:
    counts = result.outcomes.counts
    if not ctx.obj["quiet"]:
        for why, count in result.redone.items():
            if count:
                OUT.print(f"{count} tiles were done again for a change of {why}")
        OUT.print(", ".join(f"{count} {state}" for state, count in counts.items()))
        areas = result.record["areas"]
        changed, compared, unknown = (shown_area(areas[f"{kind}_m2"]) for kind in ("changed", "comparable", "unknown"))
        OUT.print(f"{areas['polygons']} changes, {changed} of {compared} compared; {unknown} could not be compared")
        names = [name for name in result.results if "/" not in name]
        OUT.print(f"written to {escape(str(result.out))}: tiles/, {', '.join(names)}")
    warnings = result.record["warnings"]
    for warning in warnings[:_WARNINGS_SHOWN]:
        ERR.print(f"[yellow]warning:[/yellow] {shown(warning)}")
    if len(warnings) > _WARNINGS_SHOWN:
        ERR.print(f"… and {len(warnings) - _WARNINGS_SHOWN} more warnings: run.json")
    if result.failed:
        _print_failures(result)
        ctx.exit(TILES_FAILED)


def _print_failures(result: Any) -> None:
    rows = list(result.failures(_FAILURES_SHOWN))
    for row in rows:
        ERR.print(f"[red]failed:[/red] {escape(row['id'])}: {escape(row['error'])}: {shown(row['message'])}")
    if result.failed > len(rows):
        ERR.print(f"… and {result.failed - len(rows)} more")
    ERR.print(f"changedet batch retry {escape(str(result.out))} does them again")
