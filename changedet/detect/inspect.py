"""`changedet inspect`: the pair report for what `run` would do, without a network."""

from __future__ import annotations

import os
from typing import Any

from changedet.config import check_options
from changedet.detect.choose import bands_for, choose_model, told_missing
from changedet.detect.prepare import prepare
from changedet.detect.scenes import open_scenes, reading_options
from changedet.errors import ModelError, PairError
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
    try:
        card = read_card(choose_model(scenes, config))
        bands: tuple[str, ...] = bands_for(card, scenes)
        note = "; ".join(filter(None, (f"model {card.name} would be used", told_missing(card, bands))))
    except (ModelError, PairError) as error:
        bands, note = common_bands(*scenes), f"WARNING: {error.args[0].splitlines()[0]}"
    with RasterPair(scenes[0].select(bands), scenes[1].select(bands), reading_options(config)) as pair:
        return prepare(pair, coregister=config.coregister, normalize=config.normalize).report.noting(note)
