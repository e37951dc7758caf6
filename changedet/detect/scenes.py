"""From what a user said to open scenes and the way they are read."""

from __future__ import annotations

import os
from dataclasses import replace

from changedet.config import RunConfig
from changedet.errors import ConfigError
from changedet.read.bands import parse_mapping
from changedet.read.pair import PairOptions
from changedet.read.scene import Scene, is_iso_date, open_scene


def open_scenes(
    before: str | os.PathLike[str], after: str | os.PathLike[str], config: RunConfig
) -> tuple[Scene, Scene]:
    """Open both scenes, with the user's band mapping and dates.

    Raises:
        ConfigError: the mapping or a date cannot be read.
        NotFoundError, SceneError: a scene is missing or cannot be opened.
    """
    mapping = parse_mapping(config.bands) if config.bands else None
    scenes = open_scene(before, mapping=mapping), open_scene(after, mapping=mapping)
    if config.dates is None:
        return scenes
    if not all(map(is_iso_date, config.dates)):
        raise ConfigError(f"dates {config.dates}", expected="two ISO dates", remedy="--dates 2018-03-28,2020-04-02")
    return replace(scenes[0], date=config.dates[0]), replace(scenes[1], date=config.dates[1])


def reading_options(config: RunConfig) -> PairOptions:
    """Return the part of a run's options that says how pixels are read."""
    return PairOptions(nodata=config.nodata, scale=config.scale, bounds=config.bounds, resampling=config.resampling)
