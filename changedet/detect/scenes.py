"""From what a user said to open scenes and the way they are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from changedet.config import RunConfig
from changedet.errors import ConfigError
from changedet.read.bands import parse_mappings
from changedet.read.dates import is_iso_date
from changedet.read.header import read_header
from changedet.read.opening import Source, open_scene
from changedet.read.pair import PairOptions
from changedet.read.quality import quality_for_date
from changedet.read.scene import Scene
from changedet.read.target import GridOptions, open_area


def open_scenes(before: Source, after: Source, config: RunConfig) -> tuple[Scene, Scene]:
    """Open both scenes, with the user's band mapping and dates.

    Raises:
        ConfigError: the mapping or a date cannot be read.
        NotFoundError, SceneError: a scene is missing or cannot be opened.
    """
    first, second = open_series((before, after), config)
    return first, second


def open_series(sources: Sequence[Source], config: RunConfig) -> list[Scene]:
    """Open two or more scenes, in the order of their dates.

    Raises:
        ConfigError: the mapping or a date cannot be read, there is another number of dates, or a STAC item is wanted
            and a date is not known.
        NotFoundError, SceneError: a scene is missing or cannot be opened.
    """
    count = len(sources)
    mappings = parse_mappings(config.bands, count) if config.bands else (None,) * count
    scenes = [open_scene(source, mapping=mapping) for source, mapping in zip(sources, mappings, strict=True)]
    if config.dates is None:
        _check_known(scenes, config)
        return scenes
    if len(config.dates) != count or not all(map(is_iso_date, config.dates)):
        expected = "two ISO dates" if count == 2 else f"{count} ISO dates"
        raise ConfigError(f"dates {config.dates}", expected=expected, remedy="--dates 2018-03-28,2020-04-02")
    return [replace(scene, date=date) for scene, date in zip(scenes, config.dates, strict=True)]


def _check_known(scenes: Sequence[Scene], config: RunConfig) -> None:
    undated = [scene.path for scene in scenes if scene.date is None]
    if config.stac and undated:
        raise ConfigError(
            f"--stac, but the date of {undated[0]} is not known",
            expected="scenes whose files tell their dates, as a STAC item must have them",
            remedy="--dates BEFORE,AFTER",
        )


def reading_options(config: RunConfig, *, which: tuple[int, int] = (0, 1), count: int = 2) -> PairOptions:
    """Return the part of a run's options that says how the pixels of two of its `count` dates are read.

    Raises:
        ConfigError: an option is given for another number of dates, or two options contradict each other.
        NotFoundError, SceneError: a file that an option names is missing or cannot be read.
    """
    first, second = which
    return PairOptions(
        nodata=(_for_date(config.nodata, first, count), _for_date(config.nodata, second, count)),
        scale=(_for_date(config.scale, first, count), _for_date(config.scale, second, count)),
        offset=(_for_date(config.offset, first, count), _for_date(config.offset, second, count)),
        grid=_grid(config),
        valid_mask=(
            quality_for_date(config.valid_mask, first, count),
            quality_for_date(config.valid_mask, second, count),
        ),
        resampling=config.resampling,
    )


def _for_date(values: tuple[float, ...], which: int, count: int) -> float | None:
    if len(values) not in (0, 1, count):
        raise ConfigError(f"{len(values)} values for {count} dates: {values}", expected=f"one for all, or {count}")
    return None if not values else values[0] if len(values) == 1 else values[which]


def _grid(config: RunConfig) -> GridOptions:
    if config.like and config.res:
        raise ConfigError("both like and res", expected="one of them: a grid to take has its own resolution")
    if len(config.res) > 2:
        raise ConfigError(f"res {config.res}", expected="one size, or height and width")
    return GridOptions(
        like=read_header(os.fspath(config.like))[0][0].geobox if config.like else None,
        res=(config.res[0], config.res[-1]) if config.res else None,
        bounds=config.bounds,
        area=open_area(config.aoi) if config.aoi else None,
    )
