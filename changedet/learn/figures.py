"""An evaluation as files: JSON, tables in Markdown, and curves in a PNG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from changedet.learn.draw import draw_scores
from changedet.learn.evaluate import RATIOS, Evaluation
from changedet.learn.objects import IOUS, SIZES_M2

EVALUATION_FILES = ("evaluation.json", "evaluation.md", "evaluation.png")


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write the files of `EVALUATION_FILES` into a folder that exists."""
    table, text, curves = (folder / name for name in EVALUATION_FILES)
    table.write_text(json.dumps(evaluation.as_json(), indent=1), encoding="utf-8")
    text.write_text(markdown(evaluation), encoding="utf-8")
    draw_scores(curves, [(model.card.name, model.pixels, model.threshold) for model in evaluation.models])


def markdown(evaluation: Evaluation) -> str:
    """Return the tables of an evaluation in Markdown: models, scenes, objects, classes of change."""
    content = evaluation.as_json()
    parts = [
        f"# {_cell(content['dataset'])}",
        f"Protocol: {content['protocol']}.",
        *(f"Note: {_cell(warning)}." for warning in content["warnings"]),
        _models_table(content),
        *(_scenes_table(model) for model in content["models"]),
        *(_objects_table(model) for model in content["models"]),
        *(_classes_table(model) for model in content["models"] if model["classes"]),
    ]
    return "\n\n".join(parts) + "\n"


def _models_table(content: dict[str, Any]) -> str:
    header = ["model", "threshold", *RATIOS, "average precision", "calibration error"]
    rows = [
        [
            model["model"],
            model["threshold"],
            *(model["pooled"][name] for name in RATIOS),
            model["average_precision"],
            model["expected_calibration_error"],
        ]
        for model in content["models"]
    ]
    low_high = content["interval_95_over_scenes"]
    rows.append(["95 % interval over scenes", "", *(_range(low_high[name]) for name in RATIOS), "", ""])
    if len(content["models"]) > 1:
        over = content["over_models"]
        rows.append(
            ["mean ± sd over models", "", *(f"{_said(x['mean'])} ± {_said(x['sd'])}" for x in over.values()), "", ""]
        )
    return _table(header, rows)


def _scenes_table(model: dict[str, Any]) -> str:
    rows = [[name, *(scene[ratio] for ratio in RATIOS)] for name, scene in model["scenes"].items()]
    return f"## {_cell(model['model'])} by scene\n\n" + _table(["scene", *RATIOS], rows)


def _objects_table(model: dict[str, Any]) -> str:
    keys = [(f"iou_{iou}", what) for iou in IOUS for what in ("precision", "recall")]
    header = ["objects", "true", "called", *(f"{what} at IoU {key.removeprefix('iou_')}" for key, what in keys)]
    rows = [
        [name, part["true"], part["called"], *(part[key][what] for key, what in keys)]
        for name, part in model["objects"].items()
    ]
    bounds = ", ".join(f"{name} from {low:,.0f} m²" for name, low in SIZES_M2.items())
    return f"## {_cell(model['model'])} by object\n\nSizes: {bounds}.\n\n" + _table(header, rows)


def _classes_table(model: dict[str, Any]) -> str:
    classes = model["classes"]
    rows = [[name, *(figures[ratio] for ratio in RATIOS)] for name, figures in classes["classes"].items()]
    told = f"Mean F1 {_said(classes['mean_f1'])}, kappa over all classes {_said(classes['kappa'])}."
    return f"## {_cell(model['model'])} by class of change\n\n{told}\n\n" + _table(["class", *RATIOS], rows)


def _table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] * len(header), *([_said(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _said(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else _cell(str(value))


def _range(pair: list[float | None]) -> str:
    return f"{_said(pair[0])} to {_said(pair[1])}"


def _cell(text: str) -> str:
    """Return text that stays inside a cell, whatever a model's or a file's name holds."""
    kept = "".join(f"\\{c}" if c in "\\|`*_[]<>#" else c for c in text)
    return " ".join(kept.split())
