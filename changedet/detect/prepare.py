"""What must be known of the whole pair before the first chip, computed once and frozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from changedet.config import Coregister, Normalize
from changedet.detect.fused import PairTerm
from changedet.detect.label_free import Fitted
from changedet.errors import ConfigError, PairError
from changedet.grid.window import blocks
from changedet.read.coregister import ShiftEstimate
from changedet.read.displacement import Displacement
from changedet.read.field import UNASKED, Registration, register
from changedet.read.interpret import told
from changedet.read.pair import Correction, RasterPair
from changedet.read.radiometry import Curves, RadiometryPlan, plan_radiometry, stretch
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
        term: what of the pair is joined with a network's answer; None where nothing is.
    """

    report: PairReport
    correction: Correction
    fitted: Fitted | None = None
    term: PairTerm | None = None

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
            "displacement_removed_before_px": correction.displacement_before.as_json(),
            "curves_before": _plain(correction.before),
            "curves_after": _plain(correction.after),
            **({} if self.fitted is None else {"fitted": self.fitted.as_json()}),
            **({} if self.term is None else {"joined": self.term.as_json()}),
        }


@contextmanager
def open_corrected(raw: RasterPair, preparation: Preparation, count: int) -> Iterator[list[RasterPair]]:
    """Open the pair `count` times, with what was found to be wrong put right while it is read."""
    with ExitStack() as stack:
        yield [stack.enter_context(raw.corrected(preparation.correction)) for _ in range(count)]


def correction_of(record: Mapping[str, Any]) -> Correction:
    """Return what is put right, from what `Preparation.as_json` wrote."""
    after, before = (Displacement.from_json(record[f"displacement_removed_{date}px"]) for date in ("", "before_"))
    return Correction(after, _curves(record["curves_before"]), _curves(record["curves_after"]), before)


def _curves(record: Mapping[str, Any] | None) -> Curves | None:
    return None if record is None else Curves.from_json(record)


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
    look = _look(pair, coregister)
    plan = look.radiometry(normalize)
    return Preparation(_report(look, plan), Correction(look.found.displacement, plan.before, plan.after))


@dataclass(frozen=True, slots=True)
class SeriesPreparation:
    """What was learned of a series.

    Attributes:
        corrections: of each date but the first, against the first.
        intervals: of each two dates that follow each other: the report of the pair, and the correction of its dates.
    """

    corrections: tuple[Correction, ...]
    intervals: tuple[Preparation, ...]

    def corrected(self, pairs: Sequence[RasterPair]) -> list[RasterPair]:
        """Return the pairs of the first date with each other one, corrected."""
        return [pair.corrected(correction) for pair, correction in zip(pairs, self.corrections, strict=True)]


def prepare_series(
    pairs: Sequence[RasterPair], *, coregister: Coregister = False, normalize: Normalize = "none"
) -> SeriesPreparation:
    """Prepare a series: the first date with each of the others, so that each date is corrected once and the same.

    Args:
        pairs: the first date with each of the others, on one grid.
        coregister: see `prepare`.
        normalize: see `prepare`; to the first date.

    Raises:
        PairError: no pixel is valid at the first date and another.
    """
    looks = [_look(pair, coregister) for pair in pairs]
    line = stretch([looks[0].aligned.before, *(look.aligned.after for look in looks)], pairs[0].bands)
    plans = [look.radiometry(normalize, line) for look in looks]
    corrections = [
        Correction(look.found.displacement, plan.before, plan.after) for look, plan in zip(looks, plans, strict=True)
    ]
    intervals = [Preparation(_report(looks[0], plans[0]), corrections[0])]
    for number in range(1, len(pairs)):
        with pairs[number].after_another(pairs[number - 1]) as pair:
            found = _against_first(looks[number].found)
            report = report_pair(pair, survey(pair), found=found, radiometry=plans[number])
        earlier, later = corrections[number - 1], corrections[number]
        intervals.append(
            Preparation(report, Correction(later.displacement, earlier.after, later.after, earlier.displacement))
        )
    return SeriesPreparation(tuple(corrections), tuple(intervals))


def _report(look: _Look, plan: RadiometryPlan) -> PairReport:
    return report_pair(look.pair, look.seen, found=look.found, remaining=look.remaining, radiometry=plan)


def _against_first(found: Registration) -> Registration:
    return found if found is UNASKED else replace(found, why=f"{found.why}, against the first date")


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """A look at a pair: as it is, what is removed, and how it is then."""

    pair: RasterPair
    seen: Survey
    found: Registration
    remaining: ShiftEstimate | None
    aligned: Survey

    def radiometry(self, method: str, line: tuple[float, float] | None = None) -> RadiometryPlan:
        return plan_radiometry(
            self.aligned.before,
            self.aligned.after,
            bands=self.pair.bands,
            physical=self.pair.are_physical,
            method=method,
            line=line,
        )


def _look(pair: RasterPair, coregister: Coregister) -> _Look:
    seen = survey(pair)
    if seen.valid_share == 0 and not _any_valid(pair):
        raise PairError(
            f"no pixel is valid at both dates (before: {told(pair.nodata[0])}; after: {told(pair.nodata[1])})",
            expected="some pixels that are valid at both dates",
            remedy="changedet inspect shows the share; --nodata sets what marks invalid pixels",
        )
    return _Look(pair, seen, *_aligned(pair, seen, _register(seen, coregister)))


def _register(seen: Survey, coregister: Coregister) -> Registration:
    if not coregister:
        return UNASKED
    return register(seen.windows, seen.shift, field=coregister != "shift")


def _aligned(pair: RasterPair, seen: Survey, found: Registration) -> tuple[Registration, ShiftEstimate | None, Survey]:
    """Return what is removed after all, the shift that remains then, and a survey of what the chips will hold."""
    if found.displacement.is_none:
        return found, None, seen
    with pair.corrected(Correction(found.displacement)) as aligned:
        again = survey(aligned)
    if found.displacement.is_constant and again.shift.size >= seen.shift.size:
        sizes = f"{seen.shift.size:.2f} px would leave {again.shift.size:.2f} px"
        return Registration.failing(f"removing a shift of {sizes}"), None, seen
    return found, again.shift, again


def _any_valid(pair: RasterPair) -> bool:
    """Return whether any pixel is valid, looking at all of them, as the sample may have missed a small part."""
    height, width = pair.geobox.shape
    return any(pair.read(window).valid.any() for window in blocks(height, width, _BLOCK_PX))
