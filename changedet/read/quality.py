"""Validity that comes in a raster of its own: a mask file, or a product's quality band by its classes or bits.

- `scl`: Sentinel-2 scene classification (Sentinel-2 Level 2A Algorithm Theoretical Basis Document, table of classes).
- `qa_pixel`: Landsat Collection 2 quality bits (LSDS-1619, section on QA_PIXEL).
- `cfmask`: classes of the earlier Landsat products.
- `omnicloudmask`: classes that OmniCloudMask writes.

Snow and water stay valid: they are what the ground looks like, and a change to them is a change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from changedet.errors import ConfigError
from changedet.read.header import read_header
from changedet.read.scene import Band, Scene

Bools = NDArray[np.bool_]

AUTO, NOTHING = "auto", "none"
_MASK = "mask"
_INVALID_CLASSES = {
    "scl": (0, 1, 3, 8, 9, 10),  # no data, defective, cloud shadow, cloud of medium and high probability, cirrus
    "cfmask": (2, 4, 255),  # cloud shadow, cloud, fill
    "omnicloudmask": (1, 2, 3),  # thick cloud, thin cloud, cloud shadow
}
_QA_PIXEL_BITS = 0b11111  # fill, dilated cloud, cirrus, cloud, cloud shadow
KINDS = (_MASK, *_INVALID_CLASSES, "qa_pixel")


@dataclass(frozen=True, slots=True)
class Quality:
    """A raster that says which pixels of a scene are valid.

    Attributes:
        kind: one of `KINDS`: how its values are read.
        band: where it lies.
        why: what `changedet inspect` says of it.
    """

    kind: str
    band: Band
    why: str

    def valid(self, values: NDArray[np.float32]) -> Bools:
        """Return valid (height, width), True = valid, for values as stored; NaN, outside the raster, is invalid."""
        known = np.isfinite(values)
        whole = np.where(known, values, 0).astype(np.int64)
        if self.kind == _MASK:
            good = whole != 0
        elif self.kind == "qa_pixel":
            good = (whole & _QA_PIXEL_BITS) == 0
        else:
            good = ~np.isin(whole, _INVALID_CLASSES[self.kind])
        valid: Bools = known & good
        return valid


def quality_of(scene: Scene, asked: str = AUTO) -> Quality | None:
    """Return what says which pixels of a scene are valid, beside its own nodata; None for nothing.

    Args:
        scene: whose pixels.
        asked: `auto` for what came with the product, `none`, or `[KIND:]FILE[#BAND]`, where KIND is one of `KINDS`,
            by default a mask whose values other than 0 are valid; without FILE a band of the scene's own file.

    Raises:
        ConfigError: not of that form, or the file has no such band.
        NotFoundError, SceneError: the file is missing or cannot be read.
    """
    if asked == NOTHING or (asked == AUTO and scene.quality is None):
        return None
    told = scene.quality if asked == AUTO and scene.quality else asked
    kind, path, number = _parts(told)
    bands = {band.index: band for band in read_header(path or scene.bands[0].path)[0]}
    if int(number) not in bands:
        raise ConfigError(f"validity {told!r}: the file has no band {number}", expected=f"1 to {max(bands)}")
    source = "of the product" if asked == AUTO else "as asked"
    return Quality(kind, bands[int(number)], f"{kind} {source}")


def file_of(asked: str | None) -> str | None:
    """Return the file that a text as `quality_of` takes it names; None where it names none."""
    return None if asked in (None, AUTO, NOTHING) else _parts(asked)[1] or None


def _parts(told: str) -> tuple[str, str, str]:
    """Return kind, file, empty for the scene's own, and number of the band of `[KIND:]FILE[#BAND]`."""
    kind, separator, rest = told.partition(":")
    if not separator or kind not in KINDS:
        kind, rest = _MASK, told
    path, mark, number = rest.rpartition("#")
    if not mark or not number.isdigit():
        path, mark, number = rest, "", "1"
    if not path and not mark:
        raise ConfigError(
            f"validity {told!r}", expected=f"{AUTO}, {NOTHING} or [KIND:]FILE[#BAND], KIND one of {KINDS}"
        )
    return kind, path, number


def quality_for_date(asked: tuple[str, ...], which: int, count: int) -> str:
    """Return what was asked for one date of `count`: one word serves all, else there is one a date.

    Raises:
        ConfigError: neither one nor `count`.
    """
    if len(asked) not in (1, count):
        raise ConfigError(f"{len(asked)} validity masks for {count} dates", expected=f"one for all, or {count}")
    return asked[0] if len(asked) == 1 else asked[which]
