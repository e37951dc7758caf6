"""What a training says of itself: one row a step in log.csv, TensorBoard events where asked for, and curves as PNG."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from changedet.errors import ConfigError
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.curves import PrecisionRecall

LOG = "log.csv"
_NOT_DRAWN = ("step", "learning_rate", "gradient_norm", "hard_negative_from")
_SHARES = ("mined_share", "places_visited", "validation_f1")


class TrainingLog:
    """Writes a row of figures for each step.

    Args:
        folder: for log.csv, and for TensorBoard's event files.
        columns: names of the figures.
        first: the step that comes next; rows from there on, of an attempt that was cut short, are dropped.
        tensorboard: write event files too.

    Raises:
        ConfigError: tensorboard is asked for and not installed.
    """

    def __init__(self, folder: Path, columns: tuple[str, ...], *, first: int, tensorboard: bool) -> None:
        self._path = folder / LOG
        self._columns = columns
        kept = [row for row in read_log(folder) if int(row["step"]) < first] if first else []
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("step", *columns), restval="")
            writer.writeheader()
            writer.writerows(kept)
        self._events = _event_writer(folder, first) if tensorboard else None

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add the row of a step; a column without a figure stays empty."""
        row = [f"{figures[name]:.6g}" if name in figures else "" for name in self._columns]
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow([step, *row])
        if self._events:
            for name, value in figures.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what TensorBoard holds back."""
        if self._events:
            self._events.close()


def read_log(folder: Path) -> list[dict[str, str]]:
    """Return the rows of log.csv; none where there is no such file."""
    path = folder / LOG
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def draw_curves(path: Path, rows: list[dict[str, str]], histogram: ProbabilityHistogram, threshold: float) -> None:
    """Draw the figures of a training over its steps, and precision against recall, into a PNG.

    Args:
        path: of the PNG.
        rows: of log.csv.
        histogram: of the held-out scenes; an empty one leaves the right half out.
        threshold: to be marked.
    """
    # The figure's own canvas draws without a display; pyplot would look for one.
    from matplotlib.figure import Figure

    scored = bool(histogram.changed.sum())
    figure = Figure(figsize=(11 if scored else 6, 4), layout="constrained")
    axes = figure.subplots(1, 2 if scored else 1, squeeze=False)[0]
    _draw_steps(axes[0], rows)
    if scored:
        _draw_precision_recall(axes[1], histogram, threshold)
    figure.savefig(path, dpi=100)


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
    axes.grid(alpha=0.3)
    axes.figure.legend(loc="outside lower left", ncols=5)


def _smoothed(points: list[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Return means of as many points as make about 50: the losses of single batches hide what they do."""
    width = max(1, len(points) // 50)
    parts = [points[at : at + width] for at in range(0, len(points), width)]
    steps = [sum(step for step, _ in part) / len(part) for part in parts]
    return steps, [sum(value for _, value in part) / len(part) for part in parts]


def _draw_precision_recall(axes: Any, histogram: ProbabilityHistogram, threshold: float) -> None:
    curve = PrecisionRecall.of(histogram)
    axes.plot(curve.recall, curve.precision)
    chosen = histogram.counts(threshold)
    label = f"threshold {threshold:.2f}: F1 {chosen.f1:.3f}"
    axes.plot([chosen.recall], [chosen.precision], "o", label=label)
    axes.set(xlabel="recall", ylabel="precision", title="held-out scenes", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()


def _event_writer(folder: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "tensorboard: true, but it is not installed", remedy="pip install 'changedet[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder / "events"), purge_step=first)
