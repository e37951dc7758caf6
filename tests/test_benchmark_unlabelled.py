import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import few_labels
from benchmarks.few_labels import curve, draw, gains, table
from benchmarks.unlabelled import Pixels, by_sources, figures, load, recipe, side_by_side
from changedet.config import load_pipeline
from tests.pairs import ROOT


class _Config:
    """What `figures` asks of a recipe."""

    steps, urban_weight = 300, 4.0

    def __init__(self, out: Path) -> None:
        self.out = out


def _kept(folder: Path, cities: dict[str, Pixels]) -> Any:
    folder.mkdir()
    parts = {f"{city}.{name}": getattr(p, name) for city, p in cities.items() for name in Pixels.__annotations__}
    np.savez_compressed(folder / "pixels.npz", **parts)
    return _Config(folder)


def _pixels(answer: list[float], statistic: list[float], truth: list[bool]) -> Pixels:
    return Pixels(np.array(answer, np.float32), np.array(statistic, np.float32), np.array(truth))


def test_counts_of_folds_are_pooled_each_at_its_own_threshold(tmp_path: Path) -> None:
    """Alone the network is wrong, and the statistic puts it right."""
    first = _pixels([-1.0, 1.0, -3.0], [2.7, 1.2, 0.7], [True, False, False])
    second = _pixels([2.0, 0.0], [1.7, 1.7], [True, True])
    rows = [
        ({"fold": 0, "threshold": 0.5}, _kept(tmp_path / "a", {"x": first})),
        ({"fold": 1, "threshold": 0.75}, _kept(tmp_path / "b", {"y": second})),
    ]
    result = figures(rows)
    assert load(rows[0][1])["x"].joined(4.0).tolist() == pytest.approx([3.0, -1.0, -7.0], abs=1e-5)
    assert {name: result["pooled"][name] for name in ("tp", "fp", "fn", "tn")} == {"tp": 2, "fp": 0, "fn": 1, "tn": 2}
    assert result["folds"]["0"]["average_precision_alone"] == 0.5
    assert result["folds"]["0"]["average_precision"] == 1.0
    assert result["urban"]["tp"] == 3
    assert list(result["cities"]) == ["x", "y"]
    lines = by_sources({"m": {"all": result}})
    assert "| `m` | all | 0, 1 | 300 |" in lines[-1]
    # Two folds of three are no cross-validation.
    assert not any("`--model m`" in line for line in side_by_side({"m": {"all": result}}))


def test_the_cities_of_a_fold_are_left_out() -> None:
    options = argparse.Namespace(work=Path("work"), changes=())
    folds = load_pipeline(ROOT / "pipelines" / "02_train_oscd.yaml").train
    assert folds is not None
    for fold in range(3):
        config, cities = recipe("s2-urban-free", "made", fold, options)
        assert config.leave_out == cities == folds.folds[fold]
        assert (config.pseudo, config.places) == (None, None)
        assert config.made is not None


def _row(cities: int, start: str, draw_: int, f1: float, fold: int = 0) -> dict[str, Any]:
    row = {"fold": fold, "cities": cities, "draw": draw_, "start": start, "steps": 150}
    return {**row, "alone": {"f1_at_best": f1}, "joined": {"f1_at_best": 0.5}}


def test_the_curve_is_the_mean_over_trainings_with_its_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [_row(1, "random", 0, 0.2), _row(1, "random", 1, 0.4), _row(1, "free", 0, 0.4), _row(4, "free", 0, 0.45)]
    assert curve(rows, "random", "alone") == [(1, pytest.approx(0.3), pytest.approx(0.1414, abs=1e-4), 2)]
    assert [point[0] for point in curve(rows, "free", "alone")] == [1, 4]
    assert "| 1 | random weights | 2 | 0.300 ± 0.141 |" in table(rows)
    assert gains(rows, "alone") == {1: [pytest.approx(0.2)]}
    # Another fold, twice as hard: the mean falls, the spread over draws does not grow.
    rows += [_row(1, "random", 0, 0.05, fold=1), _row(1, "random", 1, 0.25, fold=1)]
    assert curve(rows, "random", "alone") == [(1, pytest.approx(0.225), pytest.approx(0.1414, abs=1e-4), 4)]
    monkeypatch.setattr(few_labels, "PICTURE", tmp_path / "curve.png")
    draw(rows)
    assert (tmp_path / "curve.png").stat().st_size > 1000
