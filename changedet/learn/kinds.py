"""The kinds of change that a labelled set tells apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from changedet.config import DatasetConfig


@dataclass(frozen=True, slots=True)
class Kinds:
    """Names of the kinds of change, 1..K in labels, in the order of a network's channels.

    Attributes:
        names: K names; one for change or no change.
        covers: names of the land covers whose transitions they are, S of them with K = S (S - 1); empty otherwise.
    """

    names: tuple[str, ...] = ("change",)
    covers: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: DatasetConfig) -> Kinds:
        """Return those of a dataset."""
        if config.covers:
            # Importing networks takes seconds.
            from changedet.network.semantic import transitions

            return cls(transitions(config.covers), config.covers)
        return cls(config.classes) if config.classes else cls()

    @property
    def several(self) -> bool:
        """Whether there is more than change or no change."""
        return len(self.names) > 1

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Land cover before and after, 0..S - 1, of each kind; none where they are no transitions."""
        covers = range(len(self.covers))
        return tuple((first, last) for first in covers for last in covers if first != last)

    @property
    def exchanged(self) -> tuple[int, ...] | None:
        """What 0 and the kinds 1..K become where the dates are exchanged; None where their names do not tell."""
        if not self.several:
            return 0, 1
        if not self.covers:
            return None
        return 0, *(self.pairs.index((last, first)) + 1 for first, last in self.pairs)

    def arguments(self, architecture: str) -> dict[str, Any]:
        """Return what an architecture is to be built with, so that its channels are these kinds."""
        if architecture == "semantic_smp":
            return {"covers": len(self.covers)} if self.covers else {}
        return {"classes": len(self.names)} if self.several else {}
