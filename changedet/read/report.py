"""The pair report: what two scenes are, and what a run does about each of their differences. No network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from changedet.read.align import ground_resolution, to_lonlat
from changedet.read.bands import describe
from changedet.read.coregister import NOTICEABLE_SHIFT, ShiftEstimate, estimate_shift, sample_windows
from changedet.read.pair import RasterPair
from changedet.read.reader import Scaling, SceneReader
from changedet.read.scene import Scene

_SAMPLE_PX = 256
_SAMPLES_PER_AXIS = 6


@dataclass(frozen=True, slots=True)
class SceneReport:
    """One date of the pair, in words and numbers that fit a table."""

    path: str
    date: str | None
    bands: tuple[str, ...]
    size: tuple[int, int]
    crs: str
    resolution: tuple[float, float]
    resolution_m: tuple[float, float]
    dtype: str
    nodata: str
    reflectance: str
    placing: str


@dataclass(frozen=True, slots=True)
class PairReport:
    """Both dates and what they have in common.

    Attributes:
        before: the earlier date.
        after: the later date.
        size: rows and columns of the common grid.
        crs: of the common grid.
        lonlat: west, south, east, north (degrees) of the common grid's corners.
        resolution_m: height and width of its middle pixel on the ground.
        valid_share: share of the sampled pixels that are valid at both dates.
        sampled_px: how many pixels that was estimated from.
        shift: residual shift of the after date.
        notes: what a run does about each difference, a sentence each.
    """

    before: SceneReport
    after: SceneReport
    size: tuple[int, int]
    crs: str
    lonlat: tuple[float, float, float, float]
    resolution_m: tuple[float, float]
    valid_share: float
    sampled_px: int
    shift: ShiftEstimate
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain data; NaN becomes None."""
        record = asdict(self)
        if np.isnan(self.shift.spread):
            record["shift"]["spread"] = None
        return record

    def noting(self, note: str) -> PairReport:
        """Return the report with one more note."""
        return replace(self, notes=(*self.notes, note))

    def rows(self) -> list[tuple[str, str, str]]:
        """Return the report as a table: what, before, after."""
        both = (self.before, self.after)
        return [
            _row("path", *(scene.path for scene in both)),
            _row("date", *(scene.date or "unknown" for scene in both)),
            _row("bands", *(describe_bands(scene.bands) for scene in both)),
            _row("size (rows × columns)", *(f"{scene.size[0]} × {scene.size[1]}" for scene in both)),
            _row("CRS", *(scene.crs for scene in both)),
            _row("pixel (CRS units)", *(_times(scene.resolution, ".6g") for scene in both)),
            _row("pixel (m)", *(_times(scene.resolution_m, ".2f") for scene in both)),
            _row("stored as", *(scene.dtype for scene in both)),
            _row("nodata", *(scene.nodata for scene in both)),
            _row("reflectance", *(scene.reflectance for scene in both)),
            _row("files read", *(scene.placing for scene in both)),
            ("compared", f"{self.size[0]} × {self.size[1]} px, {self.crs}", f"{self.valid_share:.1%} valid (sample)"),
            (
                "residual shift",
                f"row {self.shift.row:+.2f}, column {self.shift.col:+.2f} px",
                f"{self.shift.agreeing} of {self.shift.windows} estimates agree",
            ),
        ]


def _row(name: str, before: str, after: str) -> tuple[str, str, str]:
    return name, before, after


def _times(size: tuple[float, float], form: str) -> str:
    return f"{size[0]:{form}} × {size[1]:{form}}"


def report_pair(pair: RasterPair) -> PairReport:
    """Look at a pair without running a network; pixels are read from at most 36 windows.

    Raises:
        SceneError: a file is damaged or truncated in one of the windows.
    """
    height, width = pair.geobox.shape
    lon, lat = to_lonlat(pair.geobox, np.array([0, 0, height, height]), np.array([0, width, 0, width]))
    valid, sampled = _valid_share(pair)
    shift = estimate_shift(pair)
    return PairReport(
        before=_report_scene(pair.before, pair.scaling[0], pair.nodata[0].why, pair.readers[0]),
        after=_report_scene(pair.after, pair.scaling[1], pair.nodata[1].why, pair.readers[1]),
        size=(height, width),
        crs=_name(pair.geobox.crs),
        lonlat=(float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())),
        resolution_m=ground_resolution(pair.geobox),
        valid_share=valid,
        sampled_px=sampled,
        shift=shift,
        notes=tuple(_notes(pair, valid, shift)),
    )


def _report_scene(scene: Scene, scaling: tuple[Scaling, ...], nodata: str, reader: SceneReader) -> SceneReport:
    geobox = scene.geobox
    ways = [placement.how for placement in reader.placements.values()]
    return SceneReport(
        path=scene.path,
        date=scene.date,
        bands=scene.names,
        size=(geobox.shape[0], geobox.shape[1]),
        crs=_name(geobox.crs),
        resolution=(abs(geobox.resolution.y), abs(geobox.resolution.x)),
        resolution_m=ground_resolution(geobox),
        dtype=", ".join(sorted({band.dtype for band in scene.bands})),
        nodata=nodata,
        reflectance="; ".join(sorted({f"stored × {s.scale:g} + {s.offset:g} ({s.why})" for s in scaling})),
        placing=", ".join(f"{ways.count(way)} {way}" for way in ("direct", "warped") if way in ways),
    )


def _name(crs: Any) -> str:
    return f"EPSG:{crs.epsg}" if crs.epsg else str(crs.proj.name)


def _valid_share(pair: RasterPair) -> tuple[float, int]:
    height, width = pair.geobox.shape
    windows = sample_windows(height, width, size=_SAMPLE_PX, per_axis=_SAMPLES_PER_AXIS)
    masks = [pair.read(window).valid for window in windows]
    sampled = sum(mask.size for mask in masks)
    return sum(int(mask.sum()) for mask in masks) / sampled, sampled


def _notes(pair: RasterPair, valid: float, shift: ShiftEstimate) -> list[str]:
    """Return what a run does about each difference."""
    before, after = pair.before, pair.after
    notes = [_grid_note(pair)]
    sizes = {band.pixel_area for band in before.bands}
    if len(sizes) > 1:
        notes.append(f"bands come in {len(sizes)} resolutions: the coarser are interpolated to the finest")
    if tuple(pair.geobox.shape) != tuple(before.geobox.shape):
        notes.append("compared over the overlap only; the rest of the before scene is left out")
    if valid < 1:
        notes.append(
            f"{1 - valid:.1%} of the sampled pixels are invalid at one date: they become 255, never 'unchanged'"
        )
    notes.append(_shift_note(shift))
    if before.date is None or after.date is None:
        notes.append("dates are not known from the files: --dates BEFORE,AFTER records them")
    elif before.date > after.date:
        notes.append(f"WARNING: the before scene is of {before.date}, later than the after scene of {after.date}")
    return notes


def _grid_note(pair: RasterPair) -> str:
    before, after = pair.before.geobox, pair.after.geobox
    if before == after:
        return "both dates lie on one grid: used as it is"
    if before.crs != after.crs:
        return f"the after date is warped from {_name(after.crs)} to {_name(before.crs)}, the before grid"
    finest = [band for band in pair.after.bands if band.geobox == after]
    if all(pair.readers[1].placements[band.path].how == "direct" for band in finest):
        return "the grids differ by whole pixels: cut to the overlap, not resampled"
    return "the grids differ in resolution or by part of a pixel: the after date is resampled to the before grid"


def _shift_note(shift: ShiftEstimate) -> str:
    if not shift.reliable:
        return "the residual shift could not be estimated: too few windows agree"
    told = f"residual shift of {shift.size:.2f} px (row {shift.row:+.2f}, column {shift.col:+.2f})"
    if shift.size > NOTICEABLE_SHIFT:
        return f"WARNING: {told}: --coregister removes it"
    return f"{told}: small enough to leave"


def describe_bands(names: tuple[str, ...]) -> str:
    """Return band names for people, separated by commas."""
    return ", ".join(map(describe, names))
