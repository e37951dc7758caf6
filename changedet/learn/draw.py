"""Curves as PNG: of a training over its steps, precision against recall, and reliability."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.curves import PrecisionRecall, Reliability

_NOT_DRAWN = ("step", "learning_rate", "gradient_norm", "hard_negative_from")
_SHARES = ("mined_share", "places_visited", "validation_f1")


def draw_training(path: Path, rows: list[dict[str, str]], histogram: ProbabilityHistogram, threshold: float) -> None:
    """Draw the figures of a training over its steps, and precision against recall.

    Args:
        path: of the PNG.
        rows: of log.csv.
        histogram: of the held-out scenes; an empty one leaves the right half out.
        threshold: to be marked.
    """
    scored = bool(histogram.changed.sum())
    figure, axes = _figure(2 if scored else 1, size=(11 if scored else 6, 4))
    _draw_steps(axes[0], rows)
    if scored:
        label = f"threshold {threshold:.2f}: F1 {histogram.counts(threshold).f1:.3f}"
        _draw_precision_recall(axes[1], histogram, threshold, label)
        axes[1].set(title="held-out scenes")
    figure.savefig(path, dpi=100, format="png")


def draw_scores(path: Path, models: Sequence[tuple[str, ProbabilityHistogram, float]]) -> None:
    """Draw precision against recall, and observed against stated probability, one line a model.

    Args:
        path: of the PNG.
        models: name, pixels and threshold of each.
    """
    figure, (curve_axes, reliability_axes) = _figure(2, size=(10, 4.6))
    for name, histogram, threshold in models:
        average = PrecisionRecall.of(histogram).average_precision
        # A dollar sign would start a formula.
        colour = _draw_precision_recall(
            curve_axes, histogram, threshold, f"{name.replace('$', '')}, average precision {average:.3f}"
        )
        reliability = Reliability.of(histogram)
        error = f"error {reliability.expected_error:.3f}"
        reliability_axes.plot(reliability.stated, reliability.observed, "o-", label=error, color=colour)
    curve_axes.set(title="Change class, all scenes pooled")
    reliability_axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
    titles = {"xlabel": "stated probability", "ylabel": "share that is changed", "title": "Reliability"}
    reliability_axes.set(xlim=(0, 1), ylim=(0, 1), **titles)
    reliability_axes.grid(color="0.9")
    reliability_axes.legend(loc="best", frameon=False)
    figure.savefig(path, dpi=120, format="png")


def _figure(columns: int, *, size: tuple[float, float]) -> tuple[Any, Any]:
    # The figure's own canvas draws without a display; pyplot would look for one, and keep the figure.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _draw_precision_recall(axes: Any, histogram: ProbabilityHistogram, threshold: float, label: str) -> str:
    """Draw the curve with its threshold marked; return its colour."""
    curve, chosen = PrecisionRecall.of(histogram), histogram.counts(threshold)
    (line,) = axes.plot(curve.recall, curve.precision, label=label)
    colour: str = line.get_color()
    axes.plot([chosen.recall], [chosen.precision], "o", color=colour)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    axes.grid(color="0.9")
    axes.legend(loc="best", frameon=False)
    return colour


def _draw_steps(axes: Any, rows: list[dict[str, str]]) -> None:
    """Draw losses against the left axis, and shares and F1, which lie in 0..1, against the right one."""
    names = [name for name in (rows[0] if rows else {}) if name not in _NOT_DRAWN]
    shares = axes.twinx() if any(name in _SHARES for name in names) else axes
    for index, name in enumerate(names):
        steps, values = _smoothed([(int(row["step"]), float(row[name])) for row in rows if row[name]])
        style = {"linestyle": "--"} if name in _SHARES else {"linewidth": 2 if name == "loss" else 1}
        on = shares if name in _SHARES else axes
        on.plot(steps, values, label=name.replace("_", " "), color=f"C{index}", **style)
    axes.set(xlabel="step", ylabel="loss", title="training")
    if shares is not axes:
        shares.set(ylabel="share, F1 (dashed)", ylim=(0, 1))
    axes.grid(color="0.9")
    axes.figure.legend(loc="outside lower left", ncols=5)


def _smoothed(points: list[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Return means of as many points as make about 50: the losses of single batches hide what they do."""
    width = max(1, len(points) // 50)
    parts = [points[at : at + width] for at in range(0, len(points), width)]
    steps = [sum(step for step, _ in part) / len(part) for part in parts]
    return steps, [sum(value for _, value in part) / len(part) for part in parts]
