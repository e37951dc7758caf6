"""The command line: one command a verb, each parses, calls and prints. Also registered as `rio changedet`."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from click import Context, Parameter
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from changedet.errors import ChangeDetError, ConfigError, exit_code

_OUT = Console(highlight=False, soft_wrap=True)
_ERR = Console(stderr=True, highlight=False, soft_wrap=True)
_INTERRUPTED = 130


def _be_verbose(ctx: Context, param: Parameter, value: bool) -> None:
    del ctx, param
    if value:
        logging.getLogger().setLevel(logging.INFO)


def _be_quiet(ctx: Context, param: Parameter, value: bool) -> None:
    del param
    if value:
        ctx.ensure_object(dict)["quiet"] = True
        logging.getLogger().setLevel(logging.ERROR)


class _Command(click.Command):
    """A command that takes -v and -q too: people write them last as often as first."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        flag: dict[str, Any] = {"is_flag": True, "expose_value": False}
        self.params += [
            click.Option(["-v", "--verbose"], callback=_be_verbose, help="Say more.", **flag),
            click.Option(["-q", "--quiet"], callback=_be_quiet, help="Say nothing but warnings and errors.", **flag),
        ]


class _Group(click.Group):
    """Turns errors into one message and the exit code of their class."""

    command_class = _Command

    def invoke(self, ctx: Context) -> Any:
        try:
            return super().invoke(ctx)
        except ChangeDetError as error:
            if ctx.params.get("debug"):
                raise
            _ERR.print(f"[red]error:[/red] {escape(_redacted(str(error)))}")
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            _ERR.print("interrupted: nothing was left behind")
            ctx.exit(_INTERRUPTED)


def _redacted(text: str) -> str:
    from changedet.write.provenance import redact

    return redact(text)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
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
    del debug  # read by `_Group` from the context
    ctx.obj = {"quiet": quiet}
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s")


def _dates(ctx: Context, param: Parameter, value: str | None) -> tuple[str, ...] | None:
    del ctx, param
    return tuple(value.split(",")) if value else None


def _pairs(ctx: Context, param: Parameter, value: tuple[str, ...]) -> dict[str, str]:
    del ctx, param
    if any("=" not in item for item in value):
        raise click.BadParameter("expected NAME=VALUE")
    return dict(item.split("=", 1) for item in value)


def _polygon_options(command: Any) -> Any:
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


def _reading_options(command: Any) -> Any:
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
            click.option("--nodata", type=float, help="Value of invalid pixels, instead of what the files declare."),
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
                "--normalize",
                type=click.Choice(["none", "histogram", "irmad"]),
                help="Bring the after date's values to the before date's. Default: none.",
            ),
            click.option("--dates", callback=_dates, metavar="BEFORE,AFTER", help="ISO dates of the scenes."),
        )
    ):
        command = option(command)
    return command


@cli.command()
@click.argument("scenes", nargs=-1, required=True, metavar="BEFORE AFTER [LATER]...")
@click.option("-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Shipped model or model file; several give their mean. Default: the best shipped one that fits the bands.",
)
@click.option("--tta", is_flag=True, help="Average over the turned and mirrored images: eight times the work.")
@click.option(
    "--detector",
    type=click.Choice(["cva", "mad", "irmad", "pca-kmeans", "sfa", "deep"]),
    help="Use no network but a detector that needs no labels and no training.",
)
@click.option(
    "--threshold",
    metavar="NUMBER|RULE",
    help="Probability from which a pixel is changed; with --detector also otsu, mixture, chi2:0.99 or"
    " statistic:NUMBER. Default: the model card's, or mixture.",
)
@_polygon_options
@click.option("--halo", metavar="default|exact|PX", help="Pixels read around each chip's core and discarded.")
@click.option("--max-memory", metavar="SIZE", help="Memory the process may take, e.g. 2GB (the default).")
@click.option("--readers", type=int, help="Threads that read ahead of the network. Default: 1; more help behind URLs.")
@click.option("--backend", help="auto, torch or openvino. Default: OpenVINO on CPUs where it is installed.")
@click.option("--precision", help="auto, float32 or bfloat16. Default: bfloat16 where the hardware has it.")
@click.option("--device", help="auto, cpu, cuda, cuda:1 or mps. Default: auto.")
@click.option("--any-resolution", is_flag=True, help="Run even where pixels are over 3 times larger or smaller.")
@click.option("--free-only", is_flag=True, help="Refuse models that are not free for commercial use.")
@click.option("--overwrite", is_flag=True, help="Replace the results in the output folder.")
@click.option("--stac", is_flag=True, help="Write stac.json too: the run as an item for a catalogue.")
@click.option("--report/--no-report", default=None, help="Write report.html too, or not. Default: yes.")
@click.option("--reuse", is_flag=True, help="Take probabilities over from the run in the output folder, if they agree.")
@click.option("--reuse-from", metavar="FOLDER", help="Likewise, from the run in another folder.")
@click.option("--co", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="Creation option of the COGs.")
@click.option(
    "--vector",
    multiple=True,
    metavar="FORMAT|PATH|URL",
    help="Polygons there too: geoparquet, flatgeobuf, geojson, a path with their suffix, or postgresql://…",
)
@click.option("--append", is_flag=True, help="Add to what is at the paths and URLs of --vector.")
@_reading_options
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
    _run(ctx, scenes, out, options)


def _run(ctx: Context, scenes: tuple[str, ...], out: Path, options: dict[str, Any]) -> None:
    if len(scenes) > 2:
        _run_series(ctx, scenes, out, options)
        return
    if len(scenes) < 2:
        raise click.UsageError("Missing argument 'AFTER'.")
    from changedet.detect.run import run as run_job

    with _Progress(quiet=ctx.obj["quiet"]) as progress:
        result = run_job(scenes[0], scenes[1], out, progress=progress, **_given(options))
    if not ctx.obj["quiet"]:
        _print_result(result)


def _run_series(ctx: Context, scenes: tuple[str, ...], out: Path, options: dict[str, Any]) -> None:
    from changedet.detect.series import run_series

    with _Progress(quiet=ctx.obj["quiet"]) as progress:
        result = run_series(scenes, out, progress=progress, **_given(options))
    if ctx.obj["quiet"]:
        return
    for warning in result.record["warnings"]:
        _ERR.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    for interval in result.record["intervals"]:
        dates, areas = interval["dates"], interval["areas"]
        told = f"{dates['before'] or 'unknown'} to {dates['after'] or 'unknown'}"
        _OUT.print(f"{interval['folder']}: {escape(told)}: {areas['polygons']} changes, {_area(areas['changed_m2'])}")
    _OUT.print(f"written to {escape(str(result.out))}: first_change.tif, run.json and the folders of the intervals")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the user did not say: defaults live in `changedet.config`."""
    model, *ensemble = options.get("models") or (None,)  # the first of several --model, and the others
    options = {**options, "model": options.get("model") or model, "ensemble": options.get("ensemble", tuple(ensemble))}
    given = {name: value for name, value in options.items() if name != "models" and value not in (None, {}, ())}
    halo = given.get("halo")
    return {**given, "halo": int(halo)} if isinstance(halo, str) and halo.isdigit() else given


class _Progress:
    """A bar on a terminal, a plain line a stage elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._stage = ""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Bars(*columns, console=_ERR, disable=quiet or not _ERR.is_terminal, transient=True)
        self._task = self._bars.add_task("", total=None)

    def __enter__(self) -> _Progress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._bars.update(self._task, description=stage, completed=done, total=total)
        if stage != self._stage and not self._quiet and not _ERR.is_terminal:
            _ERR.print(f"{stage} …")
        self._stage = stage


def _print_result(result: Any) -> None:
    record = result.record
    areas, model = record["areas"], record["model"]
    for warning in record["warnings"]:
        _ERR.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    if not model["commercial_use"]:
        _ERR.print(f"note: model {escape(model['name'])} is under {model['licence']}: not for commercial use")
    share = areas["changed_m2"] / areas["comparable_m2"] if areas["comparable_m2"] else 0.0
    _OUT.print(
        f"{areas['polygons']} changes, {_area(areas['changed_m2'])} of {_area(areas['comparable_m2'])} compared"
        f" ({share:.2%}); {_area(areas['unknown_m2'])} could not be compared"
    )
    if record["largest"]:
        _OUT.print(_largest_table(record["largest"]))
    _OUT.print(f"written to {escape(str(result.out))}: {', '.join(result.results)}")


def _largest_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="largest changes", title_justify="left", box=None)
    for name in ("area", "probability", "longitude", "latitude"):
        table.add_column(name, justify="right")
    for row in rows:
        probability = row["probability_mean"]
        shown = "" if probability is None else f"{probability:.2f}"
        table.add_row(_area(row["area_m2"]), shown, f"{row['lon']:.5f}", f"{row['lat']:.5f}")
    return table


def _area(square_metres: float) -> str:
    return f"{square_metres / 1e6:,.2f} km²" if square_metres >= 1e6 else f"{square_metres:,.0f} m²"


@cli.command()
@click.argument("before")
@click.argument("after")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@_reading_options
def inspect(before: str, after: str, as_json: bool, **options: Any) -> None:
    """Report on a pair, and on what `run` would do about it, without running a network.

    \b
    changedet inspect before.tif after.tif
    """
    from changedet.detect.inspect import inspect as inspect_pair

    report = inspect_pair(before, after, **_given(options))
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        _print_report(report)


def _print_report(report: Any) -> None:
    table = Table(box=None, header_style="bold")
    for name in ("", "before", "after"):
        table.add_column(name, overflow="fold")
    for row in report.rows():
        table.add_row(*map(escape, row))
    _OUT.print(table)
    for note in report.notes:
        _OUT.print(f"• {escape(note)}")


@cli.command()
@click.argument("out", type=click.Path(path_type=Path))
def report(out: Path) -> None:
    """Make report.html in the output folder OUT of a run again, from its files and its inputs.

    Where the inputs are gone, the report shows the probability instead of the two dates, and says so.

    \b
    changedet report out
    """
    from changedet.detect.remake import remake_report

    for note in remake_report(out):
        _ERR.print(f"[yellow]note:[/yellow] {escape(note)}")
    _OUT.print(f"written to {escape(str(out / 'report.html'))}")


@cli.command()
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
    _OUT.print(f"{share:.1%} clear, written to {escape(str(out))}")


@cli.command()
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
@_polygon_options
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

    config, target = checked(PolygonConfig, _given(options)), target_of(out)
    check_target(target, append=append, overwrite=overwrite)
    with TemporaryDirectory(prefix="changedet-") as folder:
        with Spool(Path(folder)) as spool:
            vectorize_mask(mask, probability, sink=spool, config=config)
        written = write_target(target, spool.layers(), append=append, overwrite=overwrite)
    _OUT.print(f"{written} changes written to {escape(str(target))}")


@cli.group(invoke_without_command=True)
@click.pass_context
def models(ctx: Context) -> None:
    """List the shipped models.

    \b
    changedet models
    changedet models show s2-urban
    """
    if ctx.invoked_subcommand is None:
        _list_models()


@models.command("list")
def list_models() -> None:
    """List the shipped models with what they need and how good they are."""
    _list_models()


def _list_models() -> None:
    from changedet.network.shipped import read_card, shipped_models

    table = Table(box=None, header_style="bold")
    for name in ("model", "bands", "resolution", "F1", "parameters", "licence"):
        table.add_column(name, overflow="fold")
    for name, path in shipped_models().items():
        card = read_card(path)
        pooled: Any = card.figures.get("pooled", {})
        table.add_row(
            name,
            " ".join(card.bands),
            f"{card.resolution_m:g} m",
            f"{pooled.get('f1', float('nan')):.3f}",
            f"{card.parameters / 1e6:.2f} M",
            card.licence,
        )
    _OUT.print(table)
    _OUT.print("F1: change class, cross-validated, pooled over held-out cities. More: changedet models show NAME")


@models.command()
@click.argument("model")
def show(model: str) -> None:
    """Print the whole card of a shipped model or a model file."""
    from changedet.network.shipped import read_card

    click.echo(read_card(model).model_dump_json(indent=2))


@models.command()
@click.argument("model")
@click.option("--format", "form", type=click.Choice(["onnx", "openvino"]), required=True)
@click.option("-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="Folder for the files.")
@click.option("--overwrite", is_flag=True, help="Replace the files.")
def export(model: str, form: Any, out: Path, overwrite: bool) -> None:
    r"""Write MODEL for other programs, from reflectance to probability, with its card inside.

    \b
    changedet models export s2-urban-rgbn --format openvino -o exported
    """
    from changedet.network.export import export_model, export_names
    from changedet.write.staging import atomic_paths

    names = export_names(model, form)
    with atomic_paths(out, names, overwrite=overwrite) as folder:
        export_model(model, form, folder)
    _OUT.print(f"written to {escape(str(out))}: {', '.join(names)}")


_SET = click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one entry of the file.")


@cli.command()
@click.argument("file")
@_SET
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
        _run(ctx, (steps.run.before, steps.run.after), steps.run.out, options)
    elif steps.train is not None:
        _train(ctx, file, changes, jobs=1)
    else:
        raise ConfigError(f"{file} names a dataset and nothing to do", remedy="changedet evaluate MODEL " + file)


@cli.command()
@click.argument("file")
@_SET
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Trainings beside each other.")
@click.pass_context
def train(ctx: Context, file: str, changes: tuple[str, ...], jobs: int) -> None:
    """Cross-validate, train and package the models of a pipeline FILE. Goes on where it was interrupted.

    \b
    changedet train pipelines/02_train_oscd.yaml --jobs 2
    """
    _train(ctx, file, changes, jobs=jobs)


def _train(ctx: Context, file: str, changes: tuple[str, ...], *, jobs: int) -> None:
    from changedet.config import load_pipeline
    from changedet.learn.crossvalidate import train_models

    config = load_pipeline(file, changes).train
    if config is None:
        raise ConfigError(f"{file} has no block train", remedy="changedet pipeline runs any file")
    command = shlex.join(["changedet", "train", file, *(part for c in changes for part in ("--set", c))])
    quiet = ctx.obj["quiet"]
    train_models(config, jobs=jobs, command=command, report=lambda line: None if quiet else _OUT.print(escape(line)))


@cli.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL…")
@click.argument("dataset")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Only this split. Default: all there is.")
@click.option("--threshold", type=float, help="Probability from which a pixel is changed. Default: each model card's.")
@click.option(
    "--protocol", type=click.Choice(["valid", "oscd"]), help="oscd: all pixels of full scenes, threshold 0.5."
)
@click.option("--allow-overlap", is_flag=True, help="Even on scenes that a model learned from.")
@click.option("--bootstrap", type=int, metavar="N", help="Draws of scenes for the interval. Default: 1000.")
@click.option("--seed", type=int, help="Of these draws. Default: 0.")
@click.option("--device", help="auto, cpu, cuda, cuda:1 or mps. Default: auto.")
@click.option("--max-memory", metavar="SIZE", help="Memory the process may take, e.g. 2GB (the default).")
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path), help="Folder for evaluation.json, .md and .png."
)
@click.option("--overwrite", is_flag=True, help="Replace the files in that folder.")
@click.pass_context
def evaluate(
    ctx: Context,
    /,
    models: tuple[str, ...],
    dataset: str,
    split: str | None,
    out: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Score one MODEL, or several seeds of one, on a DATASET whose truth is known.

    A dataset is a folder in its own download layout (OSCD, LEVIR-CD, WHU-CD, S2Looking; A, B and label; before.tif,
    after.tif and polygons), kind:folder, or a pipeline file with a block dataset.

    \b
    changedet evaluate s2-urban path/to/oscd --split test --protocol oscd
    changedet evaluate seed0.safetensors seed1.safetensors levir:path/to/levir --split test -o scores
    """
    from changedet.config import EvaluateConfig, checked
    from changedet.learn.datasets import dataset_of, open_dataset
    from changedet.learn.evaluate import evaluate as evaluate_models
    from changedet.learn.figures import markdown, write_evaluation

    config = checked(EvaluateConfig, _given(options))
    found = open_dataset(dataset_of(dataset, split=split))
    evaluation = evaluate_models(models, found, config, _reporter(ctx))
    if out is not None:
        write_evaluation(evaluation, out, overwrite=overwrite)
    click.echo(markdown(evaluation), nl=False)


@cli.command()
@click.argument("model")
@click.argument("dataset")
@click.option("--precision", type=click.FloatRange(0, 1, min_open=True), help="Threshold of at least this precision.")
@click.option("--recall", type=click.FloatRange(0, 1, min_open=True), help="Threshold of at least this recall.")
@click.option("--f1", is_flag=True, help="Threshold of the best F1.")
@click.option(
    "--method",
    type=click.Choice(["temperature", "platt", "isotonic"]),
    default="temperature",
    show_default=True,
    help="temperature: one number; platt: two, also against too much change everywhere; isotonic: a table.",
)
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Only this split. Default: all there is.")
@click.option("--allow-overlap", is_flag=True, help="Even on scenes that the model learned from.")
@click.option("--device", help="auto, cpu, cuda, cuda:1 or mps. Default: auto.")
@click.option("--max-memory", metavar="SIZE", help="Memory the process may take, e.g. 2GB (the default).")
@click.option("-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="Model file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@click.pass_context
def calibrate(
    ctx: Context,
    /,
    model: str,
    dataset: str,
    precision: float | None,
    recall: float | None,
    f1: bool,
    method: Any,
    split: str | None,
    out: Path,
    overwrite: bool,
    **options: Any,
) -> None:
    """Make the probabilities of MODEL agree with the truth of DATASET, and choose its threshold.

    Take scenes that the model did not learn from. The new model file is used as any other.

    \b
    changedet calibrate s2-urban my_labels --precision 0.8 -o precise.safetensors
    changedet calibrate s2-urban my_labels --f1 --method isotonic -o best.safetensors
    """
    from changedet.config import EvaluateConfig, checked
    from changedet.learn.calibrate import Wish
    from changedet.learn.calibrate import calibrate as calibrate_model
    from changedet.learn.datasets import dataset_of, open_dataset
    from changedet.network.package import save_model
    from changedet.write.staging import atomic_path

    wishes = [Wish("f1")] if f1 else []
    wishes += [Wish("precision", precision)] if precision is not None else []
    wishes += [Wish("recall", recall)] if recall is not None else []
    if len(wishes) != 1:
        raise ConfigError(f"{len(wishes)} wishes for the threshold", expected="one of --precision, --recall and --f1")
    config = checked(EvaluateConfig, _given(options))
    found = open_dataset(dataset_of(dataset, split=split))
    with atomic_path(out, overwrite=overwrite) as path:
        result = calibrate_model(model, found, wishes[0], method, config, _reporter(ctx))
        save_model(path, result.model.network, result.model.card)
    _print_calibration(result)
    _OUT.print(f"written to {escape(str(out))}")


def _print_calibration(result: Any) -> None:
    from changedet.learn.curves import Reliability

    before, after = Reliability.of(result.before), Reliability.of(result.after)
    table = Table(title="of the pixels of a probability, so many are changed", title_justify="left", box=None)
    for name in ("stated", "before", "pixels", "after", "pixels"):
        table.add_column(name, justify="right")
    bins = len(before.pixels)
    for index in range(bins):
        cells = [(f"{r.observed[index]:.3f}" if r.pixels[index] else "", str(r.pixels[index])) for r in (before, after)]
        table.add_row(f"{index / bins:.2f} to {(index + 1) / bins:.2f}", *cells[0], *cells[1])
    _OUT.print(table)
    _OUT.print(f"expected calibration error {before.expected_error:.4f} before, {after.expected_error:.4f} after")
    counts = result.counts
    _OUT.print(
        f"threshold {result.model.card.threshold:.3f}: precision {counts.precision:.3f}, recall {counts.recall:.3f},"
        f" F1 {counts.f1:.3f}"
    )


@cli.command()
@click.argument("model")
@click.argument("before")
@click.argument("after")
@click.option("--labels", required=True, type=click.Path(path_type=Path), help="Polygons of change, any vector file.")
@click.option("--steps", type=int, help="Steps of learning, if time allows. Default: 200.")
@click.option("--minutes", type=float, help="Stop learning after so long. Default: 4.")
@click.option("--held-out", "held_out_share", type=float, help="Share of polygons to measure on. Default: 0.25.")
@click.option("--learning-rate", type=float, help="Default: 0.0002.")
@click.option("--seed", type=int, help="Default: 0.")
@click.option("-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="Model file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@_reading_options
@click.pass_context
def finetune(
    ctx: Context,
    /,
    model: str,
    before: str,
    after: str,
    labels: Path,
    out: Path,
    overwrite: bool,
    steps: int | None,
    minutes: float | None,
    held_out_share: float | None,
    learning_rate: float | None,
    seed: int | None,
    **reading: Any,
) -> None:
    r"""Fine-tune MODEL on polygons of what changed between BEFORE and AFTER, in a few minutes on a CPU.

    All within the reviewed area that is no polygon is unchanged. That area is the layer `area` of the file, if it has
    one, else the polygons' bounding box and 48 pixels around it. A column `changed` or `label` of 0 marks reviewed
    false alarms. A quarter of the polygons, in blocks of their own, is not learned from: it tells the gain.

    \b
    changedet finetune s2-urban before.tif after.tif --labels reviewed.gpkg -o mine.safetensors
    changedet run before.tif after.tif --model mine.safetensors -o out
    """
    from changedet.config import FinetuneConfig, check_options, checked
    from changedet.detect.scenes import open_scenes
    from changedet.learn.finetune import finetune as finetune_model
    from changedet.network.package import save_model
    from changedet.write.staging import atomic_path

    options = {
        "name": out.stem,
        "command": shlex.join(["changedet", "finetune", model, before, after, "--labels", str(labels)]),
        "steps": steps,
        "minutes": minutes,
        "held_out_share": held_out_share,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    # A share or a seed of 0 was said, unlike a flag that is not set.
    config = checked(FinetuneConfig, {name: value for name, value in options.items() if value is not None})
    read = check_options(_given(reading))
    with atomic_path(out, overwrite=overwrite) as path:
        result = finetune_model(model, open_scenes(before, after, read), labels, read, config, _reporter(ctx))
        save_model(path, result.model.network, result.model.card)
    _print_finetuned(result)
    _OUT.print(f"written to {escape(str(out))}")


def _print_finetuned(result: Any) -> None:
    total, held = result.polygons
    figures = result.model.card.figures
    _OUT.print(f"{result.steps} steps on {total - held} of {total} polygons of change")
    if not held:
        _OUT.print("no polygon could be held out, so the gain is not known: four or more, some way apart, are needed")
        return
    table = Table(title=f"on the {held} polygons held out and the ground around them", title_justify="left", box=None)
    for name in ("", "precision", "recall", "F1", "average precision"):
        table.add_column(name, justify="right")
    for name in ("before", "after"):
        row = figures[f"held_out_{name}"]
        cells = (row[key] for key in ("precision", "recall", "f1", "average_precision"))
        table.add_row(name, *("" if cell is None else f"{cell:.3f}" for cell in cells))
    _OUT.print(table)
    before, after = (figures[f"held_out_{name}"]["average_precision"] or 0.0 for name in ("before", "after"))
    if after <= before:
        _ERR.print("[yellow]warning:[/yellow] it did not gain on what was held out: the model it came from is as good")


def _reporter(ctx: Context) -> Any:
    """Return what takes lines of progress: on the error stream, so that a table can be piped; nothing when quiet."""
    return lambda line: None if ctx.obj["quiet"] else _ERR.print(escape(line))


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
