"""Radiometric correction: curves from a scene's values to comparable ones, the same in every chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from changedet.stats.mad import fit_irmad

Pixels = NDArray[np.float32]
Samples = NDArray[np.float64]
# Gain and offset.
Line = tuple[float, float]

# Quantiles that histogram matching brings together; between them values move by straight lines.
_QUANTILES = np.concatenate([[0.001, 0.005], np.linspace(0.01, 0.99, 50), [0.995, 0.999]])

# A regression on fewer unchanged pixels would be chance.
_LEAST_PIXELS = 100

# 8-bit pictures say nothing of reflectance: a picture's own 2 % and 98 % are put where those of the red, green and blue
# of OSCD's 14 cities lie, the median over cities (2 %: 0.034 to 0.149; 98 %: 0.158 to 0.382).
DARK_REFLECTANCE, BRIGHT_REFLECTANCE = 0.06, 0.19
_STRETCH_QUANTILES = (0.02, 0.98)
_MIXED = (
    "one date is reflectance, the other has values without a scale: --normalize histogram or irmad brings them together"
)
_VISIBLE = ("B04", "B03", "B02")


@dataclass(frozen=True, slots=True)
class Curves:
    """One increasing curve a band, through knots; beyond them it goes on with the slope of its whole.

    Attributes:
        knots: values as read, increasing, (bands, K).
        values: what they become, (bands, K).
    """

    knots: tuple[tuple[float, ...], ...]
    values: tuple[tuple[float, ...], ...]

    @classmethod
    def straight(cls, gain: Samples, offset: Samples) -> Self:
        """Return `gain * value + offset`, arrays of one a band."""
        return cls(
            tuple((0.0, 1.0) for _ in gain), tuple((float(o), float(g + o)) for g, o in zip(gain, offset, strict=True))
        )

    def apply(self, image: Pixels) -> Pixels:
        """Return `image` (bands, ...), float32, corrected."""
        curves = zip(image, self.knots, self.values, strict=True)
        return np.stack([_along(band, np.array(knots), np.array(values)) for band, knots, values in curves])

    def of_channels(self, channels: list[int]) -> Self:
        """Return the curves of some of the bands."""
        return type(self)(
            tuple(self.knots[channel] for channel in channels), tuple(self.values[channel] for channel in channels)
        )

    def then(self, gain: float, offset: float) -> Self:
        """Return the curves followed by `gain * value + offset`."""
        return type(self)(self.knots, tuple(tuple(gain * value + offset for value in values) for values in self.values))

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data; see `from_json`."""
        return {"knots": [list(band) for band in self.knots], "values": [list(band) for band in self.values]}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return the curves that `as_json` wrote."""
        knots, values = (tuple(map(tuple, record[name])) for name in ("knots", "values"))
        return cls(knots, values)


def _along(band: Pixels, knots: Samples, values: Samples) -> Pixels:
    slope = (values[-1] - values[0]) / (knots[-1] - knots[0]) if knots[-1] > knots[0] else 1.0
    inner = np.interp(band, knots, values)
    beyond = np.minimum(band - knots[0], 0) + np.maximum(band - knots[-1], 0)
    corrected: Pixels = (inner + slope * beyond).astype(np.float32)
    return corrected


def match_histograms(before: Samples, after: Samples) -> Curves:
    """Return the curves that give the after date the before date's distribution, band by band.

    Args:
        before: valid pixels, (bands, N).
        after: the same pixels at the after date.
    """
    knots, values = [], []
    for source_band, target_band in zip(after, before, strict=True):
        source, target = np.quantile(source_band, _QUANTILES), np.quantile(target_band, _QUANTILES)
        # Where many pixels share a value there is one knot, at the middle of what it should become.
        distinct, index = np.unique(source, return_inverse=True)
        mean = np.bincount(index, weights=target) / np.bincount(index)
        knots.append(tuple(map(float, distinct)))
        values.append(tuple(map(float, mean)))
    return Curves(tuple(knots), tuple(values))


@dataclass(frozen=True, slots=True)
class Invariant:
    """Relative normalisation on pseudo-invariant pixels, and how much it can be trusted.

    Attributes:
        curves: straight lines, one a band.
        pixels: how many of the sample were held to be unchanged: the sum of their probabilities.
        correlation: between the dates over those pixels, one a band.
    """

    curves: Curves
    pixels: int
    correlation: tuple[float, ...]


def normalise_on_invariant(before: Samples, after: Samples) -> Invariant | None:
    """Find pixels that did not change by IR-MAD, and bring the after date to the before date by them.

    Canty and Nielsen, "Automatic radiometric normalization of multitemporal satellite imagery with the iteratively
    re-weighted MAD transformation", Remote Sensing of Environment 112 (2008): orthogonal regression, as both dates
    are noisy. Where they take the pixels of a probability of no change over 0.95, here all take part with their
    probability for their weight: of unchanged pixels themselves only one in twenty is over 0.95.

    Args:
        before: valid pixels, (bands, N).
        after: the same pixels at the after date.

    Returns:
        None where fewer than 100 pixels of the sample did not change.
    """
    if before.shape[1] < _LEAST_PIXELS:
        return None
    weights = fit_irmad(np.concatenate([before, after])).no_change(before, after)
    if weights.sum() < _LEAST_PIXELS:
        return None
    lines = [_orthogonal_line(x, y, weights) for x, y in zip(after, before, strict=True)]
    gain, offset, correlation = (np.array(column) for column in zip(*lines, strict=True))
    if not (gain > 0).all():
        return None
    return Invariant(
        Curves.straight(gain, offset), round(float(weights.sum())), tuple(np.round(correlation, 4).tolist())
    )


def _orthogonal_line(x: Samples, y: Samples, weights: Samples) -> tuple[float, float, float]:
    """Return gain, offset and correlation of the line that is nearest to weighted points in both directions."""
    (x_variance, covariance), (_, y_variance) = np.cov(x, y, aweights=weights)
    x_mean, y_mean = np.average(x, weights=weights), np.average(y, weights=weights)
    if covariance <= 0:
        return 0.0, float(y_mean), 0.0
    difference = y_variance - x_variance
    gain = (difference + np.hypot(difference, 2 * covariance)) / (2 * covariance)
    return float(gain), float(y_mean - gain * x_mean), float(covariance / np.sqrt(x_variance * y_variance))


def stretch(dates: Sequence[Samples], bands: tuple[str, ...]) -> Line:
    """Return the gain and offset that put 8-bit pictures, (bands, N) a date, on the range of reflectance networks know.

    One for all bands and dates: a stretch of each band would change colours, one of each date would be a change.
    """
    visible = [channel for channel, name in enumerate(bands) if name in _VISIBLE] or list(range(len(bands)))
    all_values = np.concatenate([date[visible].ravel() for date in dates])
    dark, bright = np.quantile(all_values, _STRETCH_QUANTILES) if all_values.size else (0.0, 0.0)
    if bright <= dark:
        return 1.0, 0.0
    gain = (BRIGHT_REFLECTANCE - DARK_REFLECTANCE) / (bright - dark)
    return float(gain), float(DARK_REFLECTANCE - gain * dark)


@dataclass(frozen=True, slots=True)
class RadiometryPlan:
    """The curves of both dates, None where values stay as they are.

    Attributes:
        before: of the before date.
        after: of the after date.
        why: in a sentence.
        warning: what a user should know of it, empty for nothing.
    """

    before: Curves | None
    after: Curves | None
    why: str
    warning: str = ""


def plan_radiometry(
    before: Samples,
    after: Samples,
    *,
    bands: tuple[str, ...],
    physical: tuple[bool, bool],
    method: str,
    line: Line | None = None,
) -> RadiometryPlan:
    """Decide on the curves of both dates from a sample of pixels valid at both.

    Args:
        before: (bands, N), as read.
        after: the same pixels at the after date.
        bands: their names.
        physical: whether values are reflectance, before and after; if not both are, both dates are stretched alike.
        method: `none`, `histogram` or `irmad`.
        line: gain and offset of the stretch of values that are none, where it was decided for more dates than these.
    """
    if before.shape[1] == 0:
        return RadiometryPlan(None, None, "values as they are: the sample holds no valid pixel")
    curves, why, warning = _normalisation(before, after, method)
    if all(physical):
        return RadiometryPlan(None, curves, why or "reflectance as it is", warning)
    if any(physical) and curves is None:
        warning = warning or _MIXED
    matched = after if curves is None else np.asarray(curves.apply(after.astype(np.float32)), dtype=np.float64)
    gain, offset = line or stretch([before, matched], bands)
    same = Curves.straight(np.full(len(bands), 1.0), np.zeros(len(bands)))
    told = f"8-bit values stretched by one line, {gain:.3g} × value {offset:+.3g}, at both dates and in all bands"
    why = "; ".join(filter(None, (told, why)))
    return RadiometryPlan(same.then(gain, offset), (curves or same).then(gain, offset), why, warning)


def _normalisation(before: Samples, after: Samples, method: str) -> tuple[Curves | None, str, str]:
    """Return the after date's curves, None for none, why, and a warning, empty for none."""
    if method == "histogram":
        return match_histograms(before, after), "the after date's histogram is matched to the before date's", ""
    if method == "irmad":
        found = normalise_on_invariant(before, after)
        if found is None:
            return None, "not normalised", "not normalised: too few pixels of the sample did not change"
        told = ", ".join(f"{value:.3f}" for value in found.correlation)
        return found.curves, f"normalised on {found.pixels} invariant pixels of the sample (correlation {told})", ""
    return None, "", ""
