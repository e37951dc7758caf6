"""What must be known of the whole pair before the first chip, computed once and frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from changedet.config import Coregister, Normalize
from changedet.detect.label_free import Fitted
from changedet.errors import ConfigError, PairError
from changedet.grid.window import blocks
from changedet.read.coregister import ShiftEstimate
from changedet.read.displacement import NONE
from changedet.read.field import Registration, register
from changedet.read.interpret import told
from changedet.read.pair import Correction, RasterPair
from changedet.read.radiometry import Curves, plan_radiometry
from changedet.read.report import PairReport, report_pair
from changedet.read.survey import Survey, survey

_BLOCK_PX = 1024


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was learned of the whole pair.

    Attributes:
        report: the pair report.
        correction: what is put right while the pair is read.
        fitted: what a label-free detector learned; None for a network.
    """

    report: PairReport
    correction: Correction
    fitted: Fitted | None = None

    def known(self) -> Fitted:
        """Return what was fitted.

        Raises:
            ConfigError: nothing was.
        """
        if self.fitted is None:
            raise ConfigError("nothing was fitted to the pair", expected="a label-free detector")
        return self.fitted

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data, without the report, which has a place of its own in run.json."""
        correction = self.correction
        return {
            "displacement_removed_px": correction.displacement.as_json(),
            "curves_before": _plain(correction.before),
            "curves_after": _plain(correction.after),
            **({} if self.fitted is None else {"fitted": self.fitted.as_json()}),
        }


def _plain(curves: Curves | None) -> dict[str, Any] | None:
    return curves.as_json() if curves else None


def prepare(pair: RasterPair, *, coregister: Coregister = False, normalize: Normalize = "none") -> Preparation:
    """Look at a bounded sample of the pair, and decide what to put right while it is read.

    Args:
        pair: as it was opened, with nothing put right.
        coregister: remove the displacement of the after date: True or `field` as a field where there is one, else as
            one shift; `shift` as one shift.
        normalize: how to bring the after date's values to the before date's.

    Raises:
        PairError: no pixel is valid at both dates.
    """
    seen = survey(pair)
    if seen.valid_share == 0 and not _any_valid(pair):
        raise PairError(
            f"no pixel is valid at both dates (before: {told(pair.nodata[0])}; after: {told(pair.nodata[1])})",
            expected="some pixels that are valid at both dates",
            remedy="changedet inspect shows the share; --nodata sets what marks invalid pixels",
        )
    found, remaining, aligned = _aligned(pair, seen, _register(seen, coregister))
    plan = plan_radiometry(aligned.before, aligned.after, bands=pair.bands, physical=pair.is_physical, method=normalize)
    report = report_pair(pair, seen, alignment=found.why, remaining=remaining, radiometry=plan.why)
    return Preparation(report, Correction(found.displacement, plan.before, plan.after))


def _register(seen: Survey, coregister: Coregister) -> Registration:
    if not coregister:
        return Registration(NONE, "nothing removed: not asked to")
    return register(seen.windows, seen.shift, field=coregister != "shift")


def _aligned(pair: RasterPair, seen: Survey, found: Registration) -> tuple[Registration, ShiftEstimate | None, Survey]:
    """Return what is removed after all, the shift that remains then, and a survey of what the chips will hold."""
    if found.displacement.is_none:
        return found, None, seen
    with pair.corrected(Correction(found.displacement)) as aligned:
        again = survey(aligned)
    if found.displacement.is_constant and again.shift.size >= seen.shift.size:
        left = f"{seen.shift.size:.2f} px would leave {again.shift.size:.2f} px"
        return Registration(NONE, f"nothing removed: removing a shift of {left}"), None, seen
    return found, again.shift, again


def _any_valid(pair: RasterPair) -> bool:
    """Return whether any pixel is valid, looking at all of them, as the sample may have missed a small part."""
    height, width = pair.geobox.shape
    return any(pair.read(window).valid.any() for window in blocks(height, width, _BLOCK_PX))
