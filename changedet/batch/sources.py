"""From what a user calls before and after to pairs of scenes: and what has no partner, or cannot be opened, and why."""

from __future__ import annotations

import filecmp
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from changedet.batch.names import distinct, slug
from changedet.batch.paths import absolute
from changedet.config import RunConfig
from changedet.detect.scenes import open_scenes
from changedet.detect.stitch import Progress
from changedet.errors import ChangeDetError, ConfigError, PairError
from changedet.read import bands as band_names
from changedet.read.align import overlap
from changedet.read.dates import parse_date
from changedet.read.folder import is_raster
from changedet.read.landsat import is_landsat_folder
from changedet.read.pair import common_bands
from changedet.read.scene import Scene
from changedet.read.sentinel2 import is_safe
from changedet.read.stac import features_of
from changedet.remote import is_local

_KEY: Final = "{}"
# What both dates share takes as much of a name as it can.
_PARTS: Final = {_KEY: r"([^/]+)", "{date}": r"(?P<date>\d{4}-?\d\d-?\d\d)", "*": r"[^/]*?", "?": r"[^/]"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two scenes of one place.

    Attributes:
        name: its own, and safe as the name of a folder.
        before: of the earlier date.
        after: of the later date.
        sources: what `changedet run` would be given for the two; local paths are absolute.
    """

    name: str
    before: Scene
    after: Scene
    sources: tuple[str, str]

    @property
    def dates(self) -> tuple[str | None, str | None]:
        """ISO, of both; None where they are not known."""
        return self.before.date, self.after.date


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Something that is not in the plan, and why."""

    source: str
    why: str


@dataclass(frozen=True, slots=True)
class Source:
    """A scene by its name, with the date that its name or its item tells, if they do."""

    path: str
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """What there is of one date: key → the scenes of that place, best first; and what has no key."""

    by_key: Mapping[str, Sequence[Source]]
    strangers: Sequence[Unmatched] = ()


def find_pairs(
    before: str, after: str, match: Sequence[str], config: RunConfig, progress: Progress
) -> tuple[list[Pair], list[Unmatched]]:
    """Return the pairs of scenes in two sources, and what is in none.

    Args:
        before: a scene or a mosaic, as `changedet run` takes it; a folder of scenes; or a STAC item collection.
        after: likewise, of the same kind.
        match: for folders, what the path of a scene looks like from the folder on: `{}` is the part that is the same at
            both dates, as much as fits; `*` and `?` stand for anything but a slash, `{date}` for its date. For item
            collections, what their ids look like. One for both, or one a date; empty takes all rasters and folders with
            equal names, and items of one place.
        config: how scenes are opened.
        progress: hears how many pairs were opened.

    Raises:
        ConfigError: the sources differ in kind, or a pattern has no `{}`.
        NotFoundError, SceneError: a source is missing or cannot be read.
        PairError: there is no pair.
    """
    if not _is_many(before, match) and not _is_many(after, match):
        return [_open("mosaic", Source(before), Source(after), config)], []
    sides = [_side(source, pattern) for source, pattern in zip((before, after), _patterns(match), strict=True)]
    matched, unmatched = _matched(sides[0], sides[1])
    pairs: list[Pair] = []
    for done, (name, first, second) in enumerate(matched):
        progress("open scenes", done, len(matched))
        try:
            pairs.append(_open(name, first, second, config))
        except ChangeDetError as error:
            unmatched.append(Unmatched(f"{first.path} and {second.path}", _in_short(error)))
    if not pairs:
        told = "; ".join(f"{entry.source}: {entry.why}" for entry in unmatched[:3]) or "both are empty"
        raise PairError(
            f"{before} and {after} have no pair of scenes ({told})",
            expected="scenes of one name in both",
            remedy="--match with {} for the part of the names that is the same, such as --match '{}_2018.tif'"
            " --match '{}_2020.tif'",
        )
    return pairs, unmatched


def are_identical(pair: Pair) -> bool:
    """Return whether both dates of a pair are files of the same bytes, so that nothing can have changed.

    All bytes are compared, up to the first that differs; what is no local file is taken to differ.
    """
    one, other = ([band.path for band in scene.bands] for scene in (pair.before, pair.after))
    files = set(zip(one, other, strict=False))
    return len(one) == len(other) and all(
        first == second
        or (Path(first).is_file() and Path(second).is_file() and filecmp.cmp(first, second, shallow=False))
        for first, second in files
    )


def _is_many(source: str, match: Sequence[str]) -> bool:
    """Return whether a source is several scenes: an item collection, or a folder that is no scene itself."""
    if _is_collection(source):
        return True
    folder = Path(source)
    return is_local(source) and folder.is_dir() and (bool(match) or not _is_scene(folder))


def _is_collection(source: str) -> bool:
    return source.partition("?")[0].lower().endswith((".json", ".geojson")) and not source.startswith("stac:")


def _is_scene(folder: Path) -> bool:
    """Return whether a folder is one scene: a product, or the files of its bands."""
    files = filter(is_raster, folder.iterdir())
    return is_safe(folder) or is_landsat_folder(folder) or any(map(band_names.in_file_name, (it.stem for it in files)))


def _open(name: str, before: Source, after: Source, config: RunConfig) -> Pair:
    """Open a pair, and see that it is one.

    Raises:
        ChangeDetError: it is none.
    """
    folder = Path.cwd()
    sources = absolute(before.path, folder), absolute(after.path, folder)
    opened = open_scenes(*sources, config)
    first, second = (
        scene if source.date is None or config.dates else replace(scene, date=source.date)
        for scene, source in zip(opened, (before, after), strict=True)
    )
    common_bands(first, second)
    overlap(first.geobox, second.geobox)
    return Pair(name, first, second, sources)


def _in_short(error: ChangeDetError) -> str:
    return " ".join(str(error).split("\n  try:")[0].split())


def _patterns(match: Sequence[str]) -> tuple[str | None, str | None]:
    if len(match) > 2:
        raise ConfigError(f"{len(match)} times --match", expected="one pattern for both dates, or one a date")
    for pattern in match:
        if _KEY not in pattern:
            raise ConfigError(f"--match {pattern}", expected="{} for the part of the names that both dates share")
        if pattern.count("{date}") > 1:
            raise ConfigError(f"--match {pattern}", expected="one {date}", remedy="* where another date stands")
        if Path(pattern).is_absolute():
            raise ConfigError(f"--match {pattern}", expected="names as they are in the folders, such as '{}_2018.tif'")
    return (match[0], match[-1]) if match else (None, None)


def _side(source: str, pattern: str | None) -> Side:
    if _is_collection(source):
        return _side_of_items(source, pattern)
    folder = Path(source)
    if not folder.is_dir():
        raise ConfigError(f"{source} is not a folder, and the other date is", expected="two folders, or two scenes")
    if pattern is None:
        entries = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() or is_raster(entry)]
        return Side(_by_key((entry.stem if entry.is_file() else entry.name, Source(str(entry))) for entry in entries))
    return _side_of_folder(folder, pattern)


def _side_of_folder(folder: Path, pattern: str) -> Side:
    form = _regex(pattern)
    # Two asterisks in a row would be any number of folders, and a bracket a choice of letters.
    wanted = re.sub(r"\*+", "*", pattern.replace(_KEY, "*").replace("{date}", "*")).replace("[", "[[]")
    paths = sorted(folder.glob(wanted))
    found, strangers = [], []
    for path in paths:
        fits = form.fullmatch(path.relative_to(folder).as_posix())
        if fits is None:
            strangers.append(Unmatched(str(path), f"its name does not fit {pattern}"))
        else:
            found.append((_key(fits), Source(str(path), _date(fits))))
    others = sorted(path for path in folder.iterdir() if path.is_file() and is_raster(path) and path not in set(paths))
    strangers += [Unmatched(str(path), f"its name does not fit {pattern}") for path in others if "/" not in pattern]
    return Side(_by_key(found), strangers)


def _regex(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\}|\{date\}|\*|\?)", pattern)
    return re.compile("".join(_PARTS.get(part, re.escape(part)) for part in parts))


def _key(fits: re.Match[str]) -> str:
    named = set(fits.re.groupindex.values())
    return "_".join(text for number, text in enumerate(fits.groups(), start=1) if number not in named)


def _date(fits: re.Match[str]) -> str | None:
    return parse_date(fits["date"]) if "date" in fits.re.groupindex else None


def _side_of_items(source: str, pattern: str | None) -> Side:
    form = None if pattern is None else _regex(pattern)
    found, strangers = [], []
    # The clearest image of a place comes first.
    for item in sorted(features_of(source), key=_cloud_cover):
        name = str(item.get("id", ""))
        fits = form and form.fullmatch(name)
        if form is not None and not fits:
            strangers.append(Unmatched(f"{source}#{name}", f"its id does not fit {pattern}"))
        else:
            found.append((_key(fits) if fits else _place(item), Source(f"stac:{source}#{name}")))
    return Side(_by_key(found), strangers)


def _cloud_cover(item: Mapping[str, Any]) -> float:
    cover = (item.get("properties") or {}).get("eo:cloud_cover")
    return float(cover) if isinstance(cover, int | float) else 0.0


def _place(item: Mapping[str, Any]) -> str:
    """Return the place on the ground that an item is of, or its id where it does not say."""
    told = item.get("properties") or {}
    code = told.get("grid:code") or told.get("s2:mgrs_tile")
    if code:
        return str(code).rpartition("-")[2]
    path, row = told.get("landsat:wrs_path"), told.get("landsat:wrs_row")
    return f"{path}-{row}" if path and row else str(item.get("id", ""))


def _by_key(found: Iterable[tuple[str, Source]]) -> dict[str, list[Source]]:
    by_key: dict[str, list[Source]] = defaultdict(list)
    for key, source in found:
        by_key[key].append(source)
    return dict(by_key)


def _matched(before: Side, after: Side) -> tuple[list[tuple[str, Source, Source]], list[Unmatched]]:
    """Return the pairs with their names, and what has no partner."""
    unmatched = [*before.strangers, *after.strangers]
    keys = sorted(before.by_key.keys() | after.by_key.keys())
    names = dict(zip(keys, distinct([slug(key) for key in keys]), strict=True))
    pairs = []
    for key in keys:
        first, second = before.by_key.get(key, ()), after.by_key.get(key, ())
        if first and second:
            pairs.append((names[key], first[0], second[0]))
        for date, own, other in (("before", first, second), ("after", second, first)):
            left = own[1:] if other else own
            why = f"there is another of {key} {date}: {own[0].path if own else ''}" if other else _alone(key, date)
            unmatched += [Unmatched(source.path, why) for source in left]
    return pairs, unmatched


def _alone(key: str, date: str) -> str:
    return f"there is no {key} {'after' if date == 'before' else 'before'}"
