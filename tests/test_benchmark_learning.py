import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.learning import RECIPE, plan, rows, table_lines, write_tables
from changedet.errors import ModelError
from changedet.network.package import build_network


def _result(row: str, fold: int, seed: int, right: int) -> dict[str, Any]:
    """100 changed pixels of 1000, of which `right` are found at 0.8, beside as many false alarms at 0.6."""
    changed, unchanged = [0] * 255, [0] * 255
    changed[204], changed[10] = right, 100 - right
    unchanged[153], unchanged[5] = right, 900 - right
    return {
        "table": "losses",
        "row": row,
        "fold": fold,
        "seed": seed,
        "steps": 400,
        "parameters": 1_350_000,
        "multiply_adds": 4_720_000_000,
        "pixels_per_second": 1_234_567,
        "histogram": {"changed": changed, "unchanged": unchanged},
    }


def test_counts_are_pooled_over_folds_and_ratios_averaged_over_seeds() -> None:
    results = [
        _result("dice", fold, seed, right) for fold, seed, right in ((0, 0, 80), (1, 0, 60), (0, 1, 90), (1, 1, 90))
    ]
    *_, first, _ = table_lines(results)
    # At 0.8: recall 140 / 200 and 180 / 200, precision 1. At 0.5: as many false alarms.
    f1 = [2 * 0.7 / 1.7, 2 * 0.9 / 1.9]
    assert f"| {sum(f1) / 2:.3f} ± {(f1[1] - f1[0]) / 2**0.5:.3f} | 1.000 | 0.800 |" in first
    assert "| `dice` | 1.35 M | 4.72 G | 1,234,567 | 400 | 2 |" in first
    # With a row that has not been measured on all folds, the others are compared on those that it has.
    *_, first, second, _ = table_lines([*results, _result("bce", 0, 0, 99)])
    assert first.startswith("| `bce` |")
    assert first.endswith(" | 0.995 · – |")
    assert f"| {(2 * 0.8 / 1.8 + 2 * 0.9 / 1.9) / 2:.3f} ± " in second


def test_tables_are_written_between_their_markers_and_only_there(tmp_path: Path) -> None:
    text = "A\n<!-- table: {0} -->\nstale row\n<!-- end of table: {0} -->\nB\n"
    document = tmp_path / "models.md"
    document.write_text(text.format("architectures") + text.format("losses"))
    (tmp_path / "one.json").write_text(json.dumps(_result("dice", 0, 0, 80)))
    write_tables(document, tmp_path)
    written = document.read_text()
    assert written.count("`dice`") == 1
    assert "stale row" not in written
    assert written.count("A\n<!--") == written.count("-->\nB\n") == 2
    write_tables(document, tmp_path)
    assert document.read_text() == written
    document.write_text("no markers")
    with pytest.raises(SystemExit, match="has not one line"):
        write_tables(document, tmp_path)


def test_every_row_makes_a_recipe_and_a_name_of_its_own() -> None:
    options = argparse.Namespace(
        recipe=RECIPE, changes=[], seeds=[0], folds=[0], full=False, work=Path(), results=Path()
    )
    trainings = list(plan(rows(), options))
    assert len({training.result for training in trainings}) == len(trainings) == len(rows())


@pytest.mark.parametrize("row", [row for row in rows() if row.table == "losses"][-9::4], ids=lambda row: row.name)
def test_networks_of_rows_can_be_built(row: Any) -> None:
    try:
        network = build_network(row.candidate.architecture, {"in_channels": 2, **row.candidate.arguments})
    except ModelError as error:
        pytest.fail(str(error))
    assert sum(parameter.numel() for parameter in network.parameters()) > 0
