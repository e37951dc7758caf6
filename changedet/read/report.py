"""The pair report: what two scenes are, and what a run does about each of their differences. No network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from changedet.errors import ConfigError
from changedet.grid.lattice import crs_name, pixel_offset, without_jump, wrapped
from changedet.read.align import ground_resolution, to_lonlat
from changedet.read.bands import describe
from changedet.read.coregister import NOTICEABLE_SHIFT, ShiftEstimate
from changedet.read.field import UNASKED, Registration
from changedet.read.interpret import told
from changedet.read.pair import RasterPair
from changedet.read.radiometry import RadiometryPlan
from changedet.read.survey import Survey

# Share of valid pixels; fewer may be shadow, or water.
_NOTICEABLE_ZEROS = 0.005
# Points along each axis by which a grid is found whose corners have no place on earth.
_STEPS = 33


@dataclass(frozen=True, slots=True)
class SceneReport:
    """One date of the pair, in words and numbers that fit a table."""

    path: str
    product: str
    date: str | None
    bands: tuple[str, ...]
    size: tuple[int, int]
    crs: str
    resolution: tuple[float, float]
    resolution_m: tuple[float, float]
    dtype: str
    nodata: str
    quality: str
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
        lonlat: west, south, east, north (degrees) of the common grid's corners; west is the greater across 180°.
        resolution_m: height and width of its middle pixel on the ground.
        valid_share: share of the sampled pixels that are valid at both dates.
        sampled_px: how many pixels that was estimated from.
        shift: residual shift of the after date, before anything is removed.
        alignment: what is removed of it, and why.
        remaining: residual shift after that, None where nothing is removed.
        radiometry: how values of the two dates are made comparable.
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
    alignment: str
    remaining: ShiftEstimate | None
    radiometry: str
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain data; NaN becomes None."""
        record = asdict(self)
        for estimate in filter(None, (record["shift"], record["remaining"])):
            estimate["spread"] = None if np.isnan(estimate["spread"]) else estimate["spread"]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> PairReport:
        """Return the report that `as_json` wrote.

        Raises:
            ConfigError: another version wrote it, with other entries.
        """
        try:
            scenes = {role: SceneReport(**record[role]) for role in ("before", "after")}
            shift, remaining = _estimate(record["shift"]), record["remaining"] and _estimate(record["remaining"])
            return cls(**{**record, **scenes, "shift": shift, "remaining": remaining})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"a pair report of another version of changedet ({error})", remedy="run again") from error

    def noting(self, note: str) -> PairReport:
        """Return the report with one more note."""
        return replace(self, notes=(*self.notes, note))

    def rows(self) -> list[tuple[str, str, str]]:
        """Return the report as a table: what, before, after."""
        both = (self.before, self.after)
        return [
            _row("path", *(scene.path for scene in both)),
            _row("product", *(scene.product for scene in both)),
            _row("date", *(scene.date or "unknown" for scene in both)),
            _row("bands", *(describe_bands(scene.bands) for scene in both)),
            _row("size (rows × columns)", *(f"{scene.size[0]} × {scene.size[1]}" for scene in both)),
            _row("CRS", *(scene.crs for scene in both)),
            _row("pixel (CRS units)", *(_times(scene.resolution, ".6g") for scene in both)),
            _row("pixel (m)", *(_times(scene.resolution_m, ".2f") for scene in both)),
            _row("stored as", *(scene.dtype for scene in both)),
            _row("nodata", *(scene.nodata for scene in both)),
            _row("quality", *(scene.quality for scene in both)),
            _row("reflectance", *(scene.reflectance for scene in both)),
            _row("files read", *(scene.placing for scene in both)),
            ("compared", f"{self.size[0]} × {self.size[1]} px, {self.crs}", f"{self.valid_share:.1%} valid (sample)"),
            ("residual shift", *_told_shift(self.shift)),
            ("alignment", self.alignment, ""),
            *([("shift that remains", *_told_shift(self.remaining))] if self.remaining else []),
            ("radiometry", self.radiometry, ""),
        ]


def _estimate(record: Mapping[str, Any]) -> ShiftEstimate:
    return ShiftEstimate(**{**record, "spread": np.nan if record["spread"] is None else record["spread"]})


def _row(name: str, before: str, after: str) -> tuple[str, str, str]:
    return name, before, after


def _told_shift(shift: ShiftEstimate) -> tuple[str, str]:
    return (
        f"row {shift.row:+.2f}, column {shift.col:+.2f} px",
        f"{shift.agreeing} of {shift.windows} estimates agree",
    )


def _times(size: tuple[float, float], form: str) -> str:
    return f"{size[0]:{form}} × {size[1]:{form}}"


def report_pair(
    pair: RasterPair,
    seen: Survey,
    *,
    found: Registration = UNASKED,
    remaining: ShiftEstimate | None = None,
    radiometry: RadiometryPlan | None = None,
) -> PairReport:
    """Tell what a survey saw of a pair, and what is done about it."""
    height, width = pair.geobox.shape
    lon, lat = _extremes(pair.geobox)
    return PairReport(
        before=_report_scene(pair, 0),
        after=_report_scene(pair, 1),
        size=(height, width),
        crs=crs_name(pair.geobox.crs),
        lonlat=(wrapped(float(lon.min())), float(lat.min()), wrapped(float(lon.max())), float(lat.max())),
        resolution_m=ground_resolution(pair.geobox),
        valid_share=seen.valid_share,
        sampled_px=seen.sampled_px,
        shift=seen.shift,
        alignment=found.why,
        remaining=remaining,
        radiometry=radiometry.why if radiometry else "reflectance as it is",
        notes=(
            *_notes(pair, seen, found),
            *([f"WARNING: {radiometry.warning}"] if radiometry and radiometry.warning else []),
        ),
    )


def _extremes(geobox: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitudes, without a jump, and latitudes of a grid's corners; if those are in space, of points inside."""
    for steps in (2, _STEPS):
        rows, cols = np.meshgrid(*(np.linspace(0, side, steps) for side in geobox.shape), indexing="ij")
        lon, lat = to_lonlat(geobox, rows.ravel(), cols.ravel())
        known = np.isfinite(lon) & np.isfinite(lat)
        if known.all():
            break
    return without_jump(lon[known]), lat[known]


def _report_scene(pair: RasterPair, which: int) -> SceneReport:
    scene, reader = (pair.before, pair.after)[which], pair.readers[which]
    geobox = scene.geobox
    ways = [placement.how for placement in reader.placements.values()]
    return SceneReport(
        path=scene.path,
        product=scene.product,
        date=scene.date,
        bands=scene.names,
        size=(geobox.shape[0], geobox.shape[1]),
        crs=crs_name(geobox.crs),
        resolution=(abs(geobox.resolution.y), abs(geobox.resolution.x)),
        resolution_m=ground_resolution(geobox),
        dtype=", ".join(sorted({band.dtype for band in scene.bands})),
        nodata=told(pair.nodata[which]),
        quality=reader.quality.why if reader.quality else "none beside nodata",
        reflectance="; ".join(sorted({f"stored × {s.scale:g} + {s.offset:g} ({s.why})" for s in pair.scaling[which]})),
        placing=", ".join(f"{ways.count(way)} {way}" for way in ("direct", "warped", "displaced") if way in ways),
    )


def _notes(pair: RasterPair, seen: Survey, found: Registration) -> list[str]:
    """Return what a run does about each difference."""
    before, after, valid = pair.before, pair.after, seen.valid_share
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
    notes += _zero_notes(seen)
    if found is UNASKED:
        notes.append(_shift_note(seen.shift))
    elif found.failed:
        notes.append(f"WARNING: --coregister: {found.why}")
    if before.date is None or after.date is None:
        notes.append("dates are not known from the files: --dates BEFORE,AFTER records them")
    elif before.date > after.date:
        notes.append(f"WARNING: the before scene is of {before.date}, later than the after scene of {after.date}")
    return notes


def _grid_note(pair: RasterPair) -> str:
    before, after = pair.before.geobox, pair.after.geobox
    if pixel_offset(before, pair.geobox) is None:
        return "both dates are resampled to the grid that was asked for"
    if before == after:
        return "both dates lie on one grid: used as it is"
    if before.crs != after.crs:
        return f"the after date is warped from {crs_name(after.crs)} to {crs_name(before.crs)}, the before grid"
    finest = [band for band in pair.after.bands if band.geobox == after]
    if all(pair.readers[1].placements[band.path].how == "direct" for band in finest):
        return "the grids differ by whole pixels: cut to the overlap, not resampled"
    return "the grids differ in resolution or by part of a pixel: the after date is resampled to the before grid"


def _zero_notes(seen: Survey) -> Iterator[str]:
    for date, share in zip(("before", "after"), seen.zero_share, strict=True):
        if share >= _NOTICEABLE_ZEROS:
            yield (
                f"WARNING: {share:.1%} of the sampled pixels of the {date} scene are 0 in all bands and count as data:"
                " --nodata 0 if they are none"
            )


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
