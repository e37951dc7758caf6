"""A smooth field of displacements from the shifts of many windows, or one shift where they do not support a field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from changedet.read.coregister import ShiftEstimate, WindowShifts
from changedet.read.displacement import NONE, Displacement

Floats = NDArray[np.float64]

# Bands of one window further from their median than this, or windows further from the whole pair's shift than that,
# saw something else than the ground move (px).
_BANDS_AGREE_PX = 0.5
_FURTHEST_PX = 4.0
# Normalised median test: noise (px) and limit as its authors recommend.
_NOISE_PX, _LIMIT = 0.1, 2.0
_NEIGHBOURS = 8
_FEWEST_WINDOWS = 12
# A field has to predict windows it did not see this much better than one shift does, or it is noise.
_GAIN = 0.8
# What one shift leaves is then less than what windows can be measured to (px).
_WORTHWHILE_PX = 0.1
_SMOOTHINGS = (0.0, 0.1, 1.0, 10.0, 100.0)
_FOLDS = 8
_MOST_NODES = 9


@dataclass(frozen=True, slots=True)
class Registration:
    """What is removed between the dates.

    Attributes:
        displacement: of the after date.
        why: in a sentence, just that.
        failed: whether there was a shift to remove, and it stays.
    """

    displacement: Displacement
    why: str
    failed: bool = False

    @classmethod
    def failing(cls, why: str) -> Registration:
        """Return that nothing is removed, and why."""
        return cls(NONE, f"nothing removed: {why}", failed=True)


UNASKED = Registration(NONE, "nothing removed: not asked to")


def register(windows: list[WindowShifts], overall: ShiftEstimate, *, field: bool = True) -> Registration:
    """Decide on a field, one shift, or nothing.

    Args:
        windows: shifts measured all over the pair.
        overall: what they agree on.
        field: False asks for one shift only.
    """
    if not overall.reliable:
        return Registration.failing("too few windows agree on a shift")
    constant = Displacement.constant(overall.row, overall.col)
    if not field:
        return _one(constant, "one shift removed, as asked")
    points, shifts = _local(windows, overall)
    kept = _consistent(points, shifts)
    points, shifts = points[kept], shifts[kept]
    if len(points) < _FEWEST_WINDOWS:
        return _one(constant, f"one shift removed: {len(points)} windows agree, too few for a field")
    error, smoothing = _best_smoothing(points, shifts)
    plain = float(np.median(np.linalg.norm(shifts - (overall.row, overall.col), axis=1)))
    figures = f"windows left out of the fit are met to {error:.2f} px by a field and {plain:.2f} px by one shift"
    if plain < _WORTHWHILE_PX or error > _GAIN * plain:
        return _one(constant, f"one shift removed: a field would not be better ({figures})")
    return Registration(_on_nodes(points, shifts, smoothing), f"a field removed ({figures})")


def _one(shift: Displacement, why: str) -> Registration:
    return (
        Registration(NONE, "no shift to remove: the dates lie on each other")
        if shift.is_none
        else Registration(shift, why)
    )


def _local(windows: list[WindowShifts], overall: ShiftEstimate) -> tuple[Floats, Floats]:
    """Return the middles (N, 2) and the shifts (N, 2) of the windows whose bands agree."""
    points, shifts = [], []
    for window in windows:
        if len(window.estimates) == 0:
            continue
        median = np.median(window.estimates, axis=0)
        spread = np.median(np.linalg.norm(window.estimates - median, axis=1))
        if spread <= _BANDS_AGREE_PX and np.hypot(*(median - (overall.row, overall.col))) <= _FURTHEST_PX:
            points.append((window.row, window.col))
            shifts.append(median)
    return np.array(points, dtype=float).reshape(-1, 2), np.array(shifts, dtype=float).reshape(-1, 2)


def _consistent(points: Floats, shifts: Floats) -> NDArray[np.bool_]:
    """Return which windows fit their neighbours, by the normalised median test.

    Westerweel and Scarano, "Universal outlier detection for PIV data", Experiments in Fluids 39 (2005).
    """
    kept = np.ones(len(points), dtype=bool)
    if len(points) <= _NEIGHBOURS:
        return kept
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    for index, order in enumerate(np.argsort(distances, axis=1, kind="stable")):
        around = shifts[order[1 : _NEIGHBOURS + 1]]
        median = np.median(around, axis=0)
        usual = np.median(np.abs(around - median), axis=0) + _NOISE_PX
        kept[index] = np.hypot(*((shifts[index] - median) / usual)) <= _LIMIT
    return kept


def _best_smoothing(points: Floats, shifts: Floats) -> tuple[float, float]:
    """Return the smallest cross-validated error (median, px), and the smoothing that gave it."""
    fold = np.arange(len(points)) % _FOLDS
    errors = []
    for smoothing in _SMOOTHINGS:
        missed = [
            np.linalg.norm(_surface(points[fold != k], shifts[fold != k], smoothing)(points[fold == k]) - s, axis=1)
            for k in range(_FOLDS)
            if len(s := shifts[fold == k])
        ]
        errors.append(float(np.median(np.concatenate(missed))))
    return min(zip(errors, _SMOOTHINGS, strict=True))


def _surface(points: Floats, shifts: Floats, smoothing: float) -> Callable[[Floats], Floats]:
    """Fit thin plates, in units in which the pair is about one wide."""
    from scipy.interpolate import RBFInterpolator  # see `Displacement`

    scale = max(float(np.ptp(points, axis=0).max()), 1.0)
    plate = RBFInterpolator(points / scale, shifts, kernel="thin_plate_spline", smoothing=smoothing)
    return lambda where: plate(where / scale)


def _on_nodes(points: Floats, shifts: Floats, smoothing: float) -> Displacement:
    """Return the fitted field on a lattice of nodes over the windows' middles."""
    axes = []
    for axis in points.T:
        count = min(_MOST_NODES, len(np.unique(axis)))
        axes.append(np.linspace(axis.min(), axis.max(), count) if count > 1 else axis[:1])
    rows, cols = np.meshgrid(*axes, indexing="ij")
    values = _surface(points, shifts, smoothing)(np.column_stack([rows.ravel(), cols.ravel()]))
    by_row, by_col = (np.round(values[:, which], 4).reshape(rows.shape) for which in (0, 1))
    return Displacement(
        tuple(axes[0].tolist()),
        tuple(axes[1].tolist()),
        tuple(map(tuple, by_row.tolist())),
        tuple(map(tuple, by_col.tolist())),
    )
