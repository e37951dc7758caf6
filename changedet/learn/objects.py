"""Changed objects against changed objects: which are found, and which of those found are right, by their size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from changedet.read.header import quietly_without_georeference
from changedet.vectorize.regions import connected_regions

IOUS = (0.1, 0.3, 0.5)
# Lower bounds of the classes of size, m²: at 10 m below 10 px, below 100 px, and larger.
SIZES_M2 = {"small": 0.0, "medium": 1_000.0, "large": 10_000.0}

Counts: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """How many objects there are, by size, and how many of them are matched, by least IoU and size.

    Attributes:
        true: int64 (sizes,), objects of the truth.
        found: int64 (IoUs, sizes), those of them that the map has.
        called: int64 (sizes,), objects of the map.
        right: int64 (IoUs, sizes), those of them that the truth has.
    """

    true: Counts
    found: Counts
    called: Counts
    right: Counts

    @classmethod
    def empty(cls) -> ObjectCounts:
        """Return the counts of nothing."""
        one, two = np.zeros(len(SIZES_M2), np.int64), np.zeros((len(IOUS), len(SIZES_M2)), np.int64)
        return cls(one, two, one, two)

    def __add__(self, other: Self) -> ObjectCounts:
        return ObjectCounts(
            self.true + other.true, self.found + other.found, self.called + other.called, self.right + other.right
        )

    def figures(self) -> dict[str, Any]:
        """Return counts, precision and recall for JSON, for all sizes and for each; None where undefined."""
        every = {"all": slice(None)} | {name: slice(i, i + 1) for i, name in enumerate(SIZES_M2)}
        return {name: self._figures(part) for name, part in every.items()}

    def _figures(self, part: slice) -> dict[str, Any]:
        true, called = int(self.true[part].sum()), int(self.called[part].sum())
        by_iou = {
            f"iou_{iou}": {
                "precision": _share(self.right[i, part].sum(), called),
                "recall": _share(self.found[i, part].sum(), true),
            }
            for i, iou in enumerate(IOUS)
        }
        return {"true": true, "called": called, **by_iou}


def _share(part: int, whole: int) -> float | None:
    return round(int(part) / whole, 4) if whole else None


def count_objects(mask: Path, truth: Path, *, pixel_m2: float) -> ObjectCounts:
    """Match the 8-connected objects of two masks on one grid (uint8, 0 = none), streaming from the files.

    Each object is matched to at most one other, those that overlap most first, as in the evaluation of detectors
    (Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2010).
    """
    true, called = _polygons(truth), _polygons(mask)
    true_iou, called_iou = match(true, called)
    true_size, called_size = (
        np.digitize(shapely.area(p) * pixel_m2, list(SIZES_M2.values())) - 1 for p in (true, called)
    )
    sizes = len(SIZES_M2)
    return ObjectCounts(
        true=np.bincount(true_size, minlength=sizes),
        found=np.stack([np.bincount(true_size[true_iou >= iou], minlength=sizes) for iou in IOUS]),
        called=np.bincount(called_size, minlength=sizes),
        right=np.stack([np.bincount(called_size[called_iou >= iou], minlength=sizes) for iou in IOUS]),
    )


def _polygons(path: Path) -> NDArray[np.object_]:
    with quietly_without_georeference(), rasterio.open(path) as dataset:
        batches = [regions.pixels for regions in connected_regions(dataset, connectivity=8, nodata=None)]
    return np.concatenate([np.empty(0, object), *batches])


def match(true: NDArray[np.object_], called: NDArray[np.object_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for each polygon of either the intersection over union with its match, 0 where it has none."""
    true_iou, called_iou = np.zeros(len(true)), np.zeros(len(called))
    which_called, which_true = shapely.STRtree(true).query(called, predicate="intersects")
    shared = shapely.area(shapely.intersection(true[which_true], called[which_called]))
    iou = shared / (shapely.area(true)[which_true] + shapely.area(called)[which_called] - shared)
    # Polygons that only touch share no pixel.
    for pair in np.argsort(-iou, kind="stable"):
        one, other = which_true[pair], which_called[pair]
        if iou[pair] > 0 and true_iou[one] == 0 and called_iou[other] == 0:
            true_iou[one] = called_iou[other] = iou[pair]
    return true_iou, called_iou
