"""`changedet models`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click import Context
from rich.markup import escape
from rich.table import Table

from changedet.cli.console import OUT
from changedet.cli.group import Subgroup


@click.group(cls=Subgroup, invoke_without_command=True)
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
        # Bands are many and may take several lines; a name or a licence in two halves cannot be read or copied.
        table.add_column(name, overflow="fold", no_wrap=name != "bands")
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
    OUT.print(table)
    OUT.print("F1: change class, cross-validated, pooled over held-out cities. More: changedet models show NAME")


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
@click.option("--stac", is_flag=True, help="Write the model as a STAC item (MLM extension) too, for a catalogue.")
@click.option("--overwrite", is_flag=True, help="Replace the files.")
def export(model: str, form: Any, out: Path, stac: bool, overwrite: bool) -> None:
    r"""Write MODEL for other programs, from reflectance to probability, with its card inside.

    \b
    changedet models export s2-urban-rgbn --format openvino -o exported
    """
    from changedet.network.export import export_model, export_names
    from changedet.network.shipped import read_card
    from changedet.write.staging import atomic_paths

    files = export_names(model, form)
    names = (*files, f"{read_card(model).name}.json") if stac else files
    with atomic_paths(out, names, overwrite=overwrite) as folder:
        export_model(model, form, folder)
        if stac:
            # Imported here, as pystac takes its time.
            from changedet.network.stac import write_model_item

            write_model_item(folder / names[-1], read_card(model), files)
    OUT.print(f"written to {escape(str(out))}: {', '.join(names)}")
