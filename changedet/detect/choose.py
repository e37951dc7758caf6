"""Which model fits a pair, and whether it may be used. Cards only: no torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from changedet.config import RunConfig
from changedet.errors import ModelError, PairError
from changedet.network.card import Card
from changedet.network.shipped import read_card, shipped_models
from changedet.read.align import ground_resolution
from changedet.read.bands import describe, suggest_mapping
from changedet.read.pair import RasterPair, common_bands
from changedet.read.scene import Scene
from changedet.write.provenance import redact

# What a pair is offered that no model fits: of the detectors without labels, the one with a statistic of known
# distribution that no gain or offset of a band changes.
OFFERED = "irmad"
# How many times larger or smaller a pixel may be than those the model learned from.
WARN_BEYOND = 1.5
REFUSE_BEYOND = 3.0


def choose_model(scenes: Sequence[Scene], config: RunConfig, out: str = "OUT") -> str:
    """Return the name or path of the model to use: the one asked for, or the best shipped one that fits the bands.

    Best is the highest cross-validated F1 on the cards. Those figures are of models that have all their bands, so one
    that would do without some is taken only where no other fits.

    Args:
        scenes: opened, before and after.
        config: options of the run.
        out: its output folder, for the command that an error offers.

    Raises:
        ModelError: the one asked for is not free and only free ones are wanted, or no shipped one may be used.
        PairError: no shipped model fits the bands.
    """
    if config.model is not None:
        check_free(read_card(config.model), config)
        return config.model
    cards = {name: read_card(path) for name, path in shipped_models().items()}
    if not cards:
        raise ModelError("no model came with this installation", remedy="--model FILE, or install changedet again")
    usable = {name: card for name, card in cards.items() if card.commercial_use or not config.free_only}
    if not usable:
        raise ModelError(
            "none of the shipped models is free for commercial use",
            remedy=f"--model FILE, or without --free-only{_offer(scenes, config, out)}",
        )
    there = _offered(scenes)
    fitting = [name for name, card in usable.items() if set(card.bands) - set(card.optional_bands) <= there]
    if not fitting:
        raise _nothing_fits(scenes, usable, _offer(scenes, config, out))
    return max(fitting, key=lambda name: _merit(usable[name], there))


def _merit(card: Card, there: set[str]) -> tuple[bool, float, int]:
    """Return what models are ranked by: all bands there, cross-validated F1 (0 where not on the card), bands seen."""
    pooled: Any = card.figures.get("pooled", {})
    return set(card.bands) <= there, float(pooled.get("f1") or 0), len(set(card.bands) & there)


def choose_encoder(scenes: Sequence[Scene], config: RunConfig) -> str | None:
    """Return the model whose encoder `--detector deep` uses: the one asked for, else a shipped one that fits, or None.

    A model fits where all its bands are there at both dates and it is free, if only free ones are wanted. Of two with
    as many bands a free one is taken: the free ones learned without labels, as this detector promises.

    Raises:
        ModelError: the one asked for is not free and only free ones are wanted.
    """
    if config.model is not None:
        return choose_model(scenes, config)
    there = _offered(scenes)
    cards = {name: read_card(path) for name, path in shipped_models().items()}
    usable = {name: card for name, card in cards.items() if card.commercial_use or not config.free_only}
    fitting = [name for name, card in usable.items() if set(card.bands) <= there]
    return max(fitting, key=lambda name: (len(usable[name].bands), usable[name].commercial_use), default=None)


def bands_for(card: Card, scenes: Sequence[Scene]) -> tuple[str, ...]:
    """Return the bands of the card to read: all but the optional ones that a date lacks."""
    there = _offered(scenes)
    return tuple(band for band in card.bands if band in there or band not in card.optional_bands)


def told_missing(card: Card, bands: tuple[str, ...]) -> str | None:
    """Return what a user should know where a pair gives only `bands` of the card's, None where it gives all."""
    missing = [describe(band) for band in card.bands if band not in bands]
    return f"{card.name} has to do without {', '.join(missing)}, which not both dates have" if missing else None


def _offered(scenes: Sequence[Scene]) -> set[str]:
    """Return the bands that all scenes have, by their own names or those they stand in for."""
    return set(frozenset.intersection(*(scene.offers for scene in scenes)))


def check_free(card: Card, config: RunConfig) -> None:
    """Refuse a model that is not free for commercial use where only free ones are wanted.

    Raises:
        ModelError: it is not.
    """
    if config.free_only and not card.commercial_use:
        raise ModelError(
            f"model {card.name} is under {card.licence}, not free for commercial use",
            expected="a free one (--free-only)",
        )


def _nothing_fits(scenes: Sequence[Scene], cards: dict[str, Card], offer: str) -> PairError:
    nearest = min(cards.values(), key=lambda card: len(card.bands))
    required = [band for band in nearest.bands if band not in nearest.optional_bands]
    missing = [band for band in required if any(band not in scene.offers for scene in scenes)]
    return PairError(
        f"no shipped model fits: before has bands {', '.join(scenes[0].names)}, after {', '.join(scenes[-1].names)};"
        f" {nearest.name} misses {', '.join(map(describe, missing))}",
        expected="; or ".join(f"{card.name}: {', '.join(map(describe, card.bands))}" for card in cards.values()),
        remedy=f"say which band is which, e.g. {suggest_mapping(nearest.bands)}{offer}",
    )


def _offer(scenes: Sequence[Scene], config: RunConfig, out: str) -> str:
    """Return the command that does without a model, as the rest of a remedy; empty where that would not work either."""
    try:
        common_bands(*scenes)
    except PairError:
        return ""
    command = ["changedet", "run", *(redact(scene.path) for scene in scenes), "-o", out, "--detector", OFFERED]
    mapping = ["--bands", config.bands] if config.bands else []
    coregister = ["--coregister"] if config.coregister else []
    return f"\n  or, with no model at all: {shlex.join([*command, *mapping, *coregister])}"


def check_resolution(pair: RasterPair, card: Card, config: RunConfig) -> str | None:
    """Return a warning where the pixels' size is far from what the model learned from, None where it is near.

    Raises:
        PairError: it is over three times larger or smaller, and `any_resolution` is not set.
    """
    height, width = ground_resolution(pair.geobox)
    pixel = (height * width) ** 0.5
    times = max(pixel / card.resolution_m, card.resolution_m / pixel)
    told = f"pixels of {pixel:.3g} m, where {card.name} learned from {card.resolution_m:g} m"
    # Rounding: 30 m on the ground is 30.0004 m on the ellipsoid.
    if times > REFUSE_BEYOND * 1.01 and not config.any_resolution:
        raise PairError(
            told,
            expected=f"{card.resolution_m / REFUSE_BEYOND:.3g} to {card.resolution_m * REFUSE_BEYOND:.3g} m",
            remedy="a model for that resolution, or --any-resolution to run all the same",
        )
    return f"{told}: expect a poorer map" if times > WARN_BEYOND else None
