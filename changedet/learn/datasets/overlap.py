"""Learning and testing must not see the same ground."""

from __future__ import annotations

from collections.abc import Iterable

from changedet.errors import ConfigError
from changedet.network.card import Place


def shared_places(learned: Iterable[Place], tested: Iterable[Place]) -> list[tuple[str, str]]:
    """Return the names of all pairs of scenes that share ground or images."""
    tested = list(tested)
    return [(one.name, other.name) for one in learned for other in tested if one.shares_pixels_with(other)]


def refuse_overlap(learned: Iterable[Place], tested: Iterable[Place]) -> None:
    """Refuse a test on what was learned from.

    Raises:
        ConfigError: two scenes share ground, by their footprints, or an image, by its content.
    """
    shared = shared_places(learned, tested)
    if shared:
        told = ", ".join(f"{one} (learned) and {other} (tested)" for one, other in shared[:3])
        more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        raise ConfigError(
            f"scenes of training and test show the same pixels: {told}{more}",
            expected="scenes that lie apart",
            remedy="--split test, other folds, or other data; figures on pixels that were learned from say nothing",
        )
