"""`changedet inspect`: the pair report for what `run` would do, without a network."""

from __future__ import annotations

import os
from typing import Any

from changedet.config import RunConfig, check_options
from changedet.detect.choose import bands_for, check_resolution, choose_model, told_missing
from changedet.detect.prepare import prepare
from changedet.detect.scenes import open_scenes, reading_options
from changedet.errors import ModelError, PairError
from changedet.network.card import Card
from changedet.network.shipped import read_card
from changedet.read.pair import RasterPair, common_bands
from changedet.read.report import PairReport


def inspect(before: str | os.PathLike[str], after: str | os.PathLike[str], **options: Any) -> PairReport:
    """Report on a pair as `run` would read it.

    Where no model fits or may be used, the pair is read with all bands both have, and the report says so.

    Raises:
        ChangeDetError: a scene cannot be read, or the two cannot be compared.
    """
    config = check_options(options)
    scenes = open_scenes(before, after, config)
    card = None
    try:
        card = read_card(choose_model(scenes, config))
        bands: tuple[str, ...] = bands_for(card, scenes)
        note = "; ".join(filter(None, (f"model {card.name} would be used", told_missing(card, bands))))
    except (ModelError, PairError) as error:
        bands, note = common_bands(*scenes), f"WARNING: {_first_line(error)}"
    with RasterPair(scenes[0].select(bands), scenes[1].select(bands), reading_options(config)) as pair:
        report = prepare(pair, coregister=config.coregister, normalize=config.normalize).report.noting(note)
        resolution = _told_resolution(pair, card, config) if card else None
    return report.noting(resolution) if resolution else report


def _told_resolution(pair: RasterPair, card: Card, config: RunConfig) -> str | None:
    try:
        told = check_resolution(pair, card, config)
    except PairError as error:
        return f"WARNING: a run would be refused: {_first_line(error)}; --any-resolution runs all the same"
    return f"WARNING: {told}" if told else None


def _first_line(error: Exception) -> str:
    return str(error.args[0]).splitlines()[0]
