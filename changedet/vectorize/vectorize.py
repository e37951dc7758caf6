"""From a change mask to layers of polygons: what changed, what was comparable, what is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from changedet.config import PolygonConfig
from changedet.vectorize.direction import directions
from changedet.vectorize.images import Imagery, Images
from changedet.vectorize.islands import Island
from changedet.vectorize.measure import compactness, first_pixels, geodesic_measures, polygon_ids
from changedet.vectorize.polygons import Geometries, as_multipolygons, to_crs
from changedet.vectorize.regions import Regions, connected_regions
from changedet.vectorize.shape import shaped
from changedet.vectorize.source import PathLike, check_probability, mask_grid, nodata_value, opened, values_in

# Polygons that have attributes, and are written, together: some 40 MB.
_BATCH = 20_000
_LARGEST = 10


class LayerSink(Protocol):
    """Takes the rows of layers as they are made. All tables of one layer have the same columns; the first is empty."""

    def write(self, layer: str, table: gpd.GeoDataFrame) -> None:
        """Take some rows of a layer: MultiPolygons with attributes, in the CRS of the mask's grid."""
        ...


@dataclass(frozen=True)
class Labels:
    """What every polygon says of the run that found it; null where None.

    Attributes:
        date_before: date of the first scene, ISO 8601.
        date_after: date of the second scene, ISO 8601.
        model: name of the model.
        threshold: threshold of the mask, 0..1.
    """

    date_before: str | None = None
    date_after: str | None = None
    model: str | None = None
    threshold: float | None = None

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> Labels:
        """Return what a mask of ours says of itself."""
        threshold = tags.get("THRESHOLD")
        try:
            number = None if threshold is None else float(threshold)
        except ValueError:
            number = None  # somebody else's tag
        return cls(tags.get("DATE_BEFORE"), tags.get("DATE_AFTER"), tags.get("MODEL"), number)


@dataclass
class Findings:
    """What the polygons of a mask come to.

    Attributes:
        polygons: rows of the layer `changes`.
        changed_m2: their area.
        comparable_m2: area of the layer `footprint`.
        unknown_m2: area of the layer `unknown`.
        largest: the ten rows of `changes` of the largest areas.
        steps: `gained_m2` and `lost_m2` by each step that gave the polygons another shape.
    """

    largest: gpd.GeoDataFrame
    polygons: int = 0
    changed_m2: float = 0.0
    comparable_m2: float = 0.0
    unknown_m2: float = 0.0
    steps: dict[str, dict[str, float]] = field(default_factory=dict)

    def count_step(self, step: str, difference: NDArray[np.float64]) -> None:
        """Count what a step made of some areas (m²)."""
        sums = self.steps.setdefault(step, {"gained_m2": 0.0, "lost_m2": 0.0})
        sums["gained_m2"] += float(difference[difference > 0].sum())
        sums["lost_m2"] -= float(difference[difference < 0].sum())

    def add(self, changes: gpd.GeoDataFrame) -> None:
        """Count some more rows of `changes`."""
        self.polygons += len(changes)
        self.changed_m2 += float(changes["area_m2"].sum())
        self._keep_largest(changes)

    def add_mask(self, other: Findings) -> None:
        """Count what the polygons of another mask come to."""
        self.polygons += other.polygons
        self.changed_m2 += other.changed_m2
        self.comparable_m2 += other.comparable_m2
        self.unknown_m2 += other.unknown_m2
        self._keep_largest(other.largest)
        for step, sums in other.steps.items():
            own = self.steps.setdefault(step, dict.fromkeys(sums, 0.0))
            self.steps[step] = {name: own[name] + area for name, area in sums.items()}

    def _keep_largest(self, changes: gpd.GeoDataFrame) -> None:
        top = changes.nlargest(_LARGEST, "area_m2")
        self.largest = pd.concat([self.largest, top]).nlargest(_LARGEST, "area_m2") if len(self.largest) else top


def vectorize(
    mask_path: PathLike,
    probability_path: PathLike | None = None,
    *,
    sink: LayerSink,
    config: PolygonConfig | None = None,
    labels: Labels | None = None,
    imagery: Imagery | None = None,
    islands: Sequence[Island] | None = None,
) -> Findings:
    """Turn a change mask into polygons with their attributes, from the files to a sink in bounded memory.

    The layers are `changes`, one row a connected region of one class; `unknown`, one row a connected region of nodata;
    and `footprint`, one row, everything that was comparable, or none where nothing was. Rows come in the order in which
    strips of the mask leave their regions behind, and in scan order of the first pixels within a strip.

    Args:
        mask_path: one uint8 band: 0 unchanged, 1..K the class of change, the nodata value unknown.
        probability_path: probabilities on the mask's grid, scaled to 0..1 by the band's own scale; one band, or one
            a class. Without it the columns of probability are null.
        sink: where the rows go.
        config: which polygons, and their shape.
        labels: what every row says of the run; None takes the tags of the mask.
        imagery: the scenes; without them the columns of directions are null.
        islands: where to look, as `islands_of` has them; None is everywhere. What lies elsewhere is in no layer, and
            what reaches there has `touches_edge`.

    Raises:
        NotFoundError: a file does not exist.
        SceneError: a file is not a raster, is damaged, has no CRS, or holds no mask or probability.
        PairError: mask and probability are not on one grid.
    """
    with ExitStack() as stack:
        mask, again = (stack.enter_context(opened(mask_path)) for _ in range(2))
        probability = None if probability_path is None else stack.enter_context(opened(probability_path))
        where = [Island.whole(*mask.shape)] if islands is None else islands
        told, images = labels or Labels.of_tags(mask.tags()), Images(imagery, mask_grid(mask), stack)
        return _streamed(_Job.checked(mask, again, probability, where, config or PolygonConfig(), told, images), sink)


@dataclass(frozen=True)
class _Job:
    """Open datasets on one grid, and what is asked of them.

    The mask twice, as one of them is read by another thread.
    """

    mask: Any
    mask_again: Any
    probability: Any | None
    islands: Sequence[Island]
    grid: GeoBox
    classes: frozenset[int]
    nodata: int | None
    config: PolygonConfig
    labels: Labels
    images: Images

    @classmethod
    def checked(
        cls,
        mask: Any,
        mask_again: Any,
        probability: Any | None,
        islands: Sequence[Island],
        config: PolygonConfig,
        labels: Labels,
        images: Images,
    ) -> _Job:
        grid, nodata = mask_grid(mask), nodata_value(mask)
        # A column depends on them, so they must be known before the first row.
        values = {value for island in islands for value in values_in(mask, island.bounds)}
        classes = values - {0, nodata}
        if probability is not None:
            check_probability(probability, grid, classes=max(classes, default=1))
        return cls(mask, mask_again, probability, islands, grid, frozenset(classes), nodata, config, labels, images)

    @property
    def with_class(self) -> bool:
        """Whether there are classes of change: by the mask, or by the bands, where not all of them were found."""
        return len(self.classes) > 1 or (self.probability is not None and self.probability.count > 1)


@dataclass(frozen=True)
class _Measured:
    """Regions with outlines (N,) in pixel coordinates, the pixels' or others, areas (N,) m² and perimeters (N,) m."""

    regions: Regions
    outlines: Geometries
    area: NDArray[np.float64]
    perimeter: NDArray[np.float64]

    def where(self, keep: NDArray[np.bool_]) -> _Measured:
        return _Measured(self.regions.where(keep), self.outlines[keep], self.area[keep], self.perimeter[keep])


def _streamed(job: _Job, sink: LayerSink) -> Findings:
    empty = _changes(_measured(Regions.none(job.images.count), job.grid), job)
    findings, unknown = Findings(empty), [np.empty(0, object)]
    sink.write("changes", empty)
    for name in ("unknown", "footprint"):
        sink.write(name, _areas(np.empty(0, object), job))
    for batch in _batches(job):
        is_unknown = batch.values == (-1 if job.nodata is None else job.nodata)
        found = _measured(batch.where(~is_unknown), job.grid)
        changes = _changes(_shaped(found.where(found.area >= job.config.min_area), job, findings), job)
        findings.add(changes)
        sink.write("changes", changes)
        unknown.append(batch.pixels[is_unknown])
    findings.unknown_m2, findings.comparable_m2 = _rest(np.concatenate(unknown), job, sink)
    return findings


def _batches(job: _Job) -> Iterator[Regions]:
    """Yield the regions of a mask, some at a time, in scan order of their first pixels as far as a strip goes."""
    for island in job.islands:
        for regions in connected_regions(
            job.mask,
            job.probability,
            job.images,
            island=island,
            connectivity=job.config.connectivity,
            nodata=job.nodata,
        ):
            row, col = first_pixels(regions.pixels).T
            order = np.lexsort((col, row))
            for start in range(0, len(order), _BATCH):
                yield regions.where(order[start : start + _BATCH])


def _measured(regions: Regions, grid: GeoBox) -> _Measured:
    return _Measured(regions, regions.pixels, *geodesic_measures(to_crs(regions.pixels, grid.affine), _proj(grid)))


def _shaped(found: _Measured, job: _Job, findings: Findings) -> _Measured:
    """Return the regions with the outlines that the options ask for, counting what each step does to their areas."""
    for step, outlines in shaped(found.outlines, job.grid, _proj(job.grid), job.config, job.mask_again):
        area, perimeter = geodesic_measures(to_crs(outlines, job.grid.affine), _proj(job.grid))
        findings.count_step(step, area - found.area)
        found = _Measured(found.regions, outlines, area, perimeter)
    return found


def _changes(found: _Measured, job: _Job) -> gpd.GeoDataFrame:
    regions, grid, labels, count = found.regions, job.grid, job.labels, len(found.regions)
    mean, largest = _probabilities(regions, job.probability)
    way = directions(*job.images.reflectance(regions, _proj(grid)), count)
    columns = {
        "id": _ids(regions.pixels, job),
        "area_m2": found.area,
        "perimeter_m": found.perimeter,
        "probability_mean": mean,
        "probability_max": largest,
        **({"class": regions.values.astype(np.int32)} if job.with_class else {}),
        "direction": pd.array(way.names, dtype="string"),
        "brightness_change": way.brightness,
        "ndvi_change": way.ndvi,
        "compactness": compactness(found.area, found.perimeter),
        "touches_edge": regions.at_edge,
        "date_before": _text(labels.date_before, count),
        "date_after": _text(labels.date_after, count),
        "model": _text(labels.model, count),
        "threshold": np.full(count, np.nan if labels.threshold is None else labels.threshold),
    }
    return gpd.GeoDataFrame(columns, geometry=to_crs(found.outlines, grid.affine), crs=_proj(grid))


def _probabilities(regions: Regions, probability: Any | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and maximum, (N,) each, by the band's own scale; null where no pixel has a probability."""
    scale, offset = (1.0, 0.0) if probability is None else (probability.scales[0], probability.offsets[0])
    known = regions.count > 0
    mean = np.where(known, regions.total / np.maximum(regions.count, 1) * scale + offset, np.nan)
    return mean, np.where(known, regions.largest * scale + offset, np.nan)


def _text(value: str | None, count: int) -> Any:
    """Return a column of one text, typed as text even where every row is null or there is none."""
    return pd.array([value] * count, dtype="string")


def _rest(unknown: Geometries, job: _Job, sink: LayerSink) -> tuple[float, float]:
    """Write the layers of what was not and what was comparable, and return their areas (m²)."""
    # Regions of one value share corners at most, so their parts side by side are a valid MultiPolygon already.
    nodata = shapely.multipolygons(shapely.get_parts(unknown))
    asked = shapely.multipolygons(shapely.get_parts([island.outline() for island in job.islands]))
    footprint = shapely.difference(np.array([asked]), nodata)
    layers = {"unknown": unknown, "footprint": as_multipolygons(footprint[~shapely.is_empty(footprint)])}
    tables = {name: _areas(pixels, job) for name, pixels in layers.items()}
    for name, table in tables.items():
        sink.write(name, table)
    return float(tables["unknown"]["area_m2"].sum()), float(tables["footprint"]["area_m2"].sum())


def _areas(pixels: Geometries, job: _Job) -> gpd.GeoDataFrame:
    geometry = to_crs(pixels, job.grid.affine)
    area, _ = geodesic_measures(geometry, _proj(job.grid))
    return gpd.GeoDataFrame({"id": _ids(pixels, job), "area_m2": area}, geometry=geometry, crs=_proj(job.grid))


def _ids(pixels: Geometries, job: _Job) -> Any:
    grid, dates = job.grid, (job.labels.date_before, job.labels.date_after)
    ids = polygon_ids(first_pixels(pixels), crs_name=str(grid.crs), transform=grid.affine, dates=dates)
    return pd.array(ids, dtype="string")


def _proj(grid: GeoBox) -> pyproj.CRS:
    # source.mask_grid has refused a mask without a CRS.
    return cast("CRS", grid.crs).proj
