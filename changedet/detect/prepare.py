"""What must be known of the whole pair before the first chip, computed once and frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from changedet.errors import PairError
from changedet.grid.window import blocks
from changedet.read.pair import RasterPair
from changedet.read.report import PairReport, report_pair

_BLOCK_PX = 1024


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was learned of the whole pair.

    Attributes:
        report: the pair report.
        shift: (row, col) of the after date that is removed while it is read, px.
    """

    report: PairReport
    shift: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data, without the report, which has a place of its own in run.json."""
        return {"shift_removed_px": {"row": self.shift[0], "col": self.shift[1]}}


def prepare(pair: RasterPair, *, coregister: bool) -> Preparation:
    """Look at a bounded sample of the pair, and estimate the shift to remove.

    Raises:
        PairError: no pixel is valid at both dates.
    """
    report = report_pair(pair)
    if report.valid_share == 0 and not _any_valid(pair):
        raise PairError(
            f"no pixel is valid at both dates (before: {pair.nodata[0].why}; after: {pair.nodata[1].why})",
            expected="some pixels that are valid at both dates",
            remedy="changedet inspect shows the share; --nodata sets what marks invalid pixels",
        )
    remove = coregister and report.shift.reliable
    return Preparation(report, (report.shift.row, report.shift.col) if remove else (0.0, 0.0))


def _any_valid(pair: RasterPair) -> bool:
    """Return whether any pixel is valid, looking at all of them, as the sample may have missed a small part."""
    height, width = pair.geobox.shape
    return any(pair.read(window).valid.any() for window in blocks(height, width, _BLOCK_PX))
