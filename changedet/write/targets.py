"""Where polygons go when a user says so: a format's name, a path with a suffix, or a database's URL."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from changedet.errors import ConfigError, OutputExistsError
from changedet.write.geopackage import append_to_geopackage, copy_geopackage, write_geopackage
from changedet.write.geoparquet import read_geoparquet, write_geoparquet
from changedet.write.layers import LAYERS, Layer, both, check_fits, check_has_ids, ids, new_rows, stored_layer
from changedet.write.ogr import PYOGRIO_ERRORS, told_as_output_error, write_ogr
from changedet.write.provenance import redact
from changedet.write.staging import atomic_path

Kind: TypeAlias = Literal["geopackage", "geoparquet", "flatgeobuf", "geojson", "postgis"]

# The first suffix of a kind is the one we use ourselves.
_SUFFIXES: dict[str, Kind] = {
    ".gpkg": "geopackage",
    ".parquet": "geoparquet",
    ".geoparquet": "geoparquet",
    ".fgb": "flatgeobuf",
    ".geojson": "geojson",
    ".json": "geojson",
}
_SUFFIX_OF: dict[str, str] = {kind: suffix for suffix, kind in reversed(_SUFFIXES.items())}
FORMATS = tuple(_SUFFIX_OF)
_CHANGES = "changes"


@dataclass(frozen=True)
class Target:
    """A place for polygons.

    Attributes:
        kind: the format.
        where: path, or URL with everything that is secret in it.
    """

    kind: Kind
    where: str

    def __str__(self) -> str:
        """Return the place without credentials."""
        return redact(self.where)


def file_name(kind: str) -> str:
    """Return what the file of a format is called among the results of a run."""
    return f"{_CHANGES}{_SUFFIX_OF[kind]}"


def target_of(text: str) -> Target:
    """Return the target that a user means: a path with a suffix, or `postgresql://…`.

    Raises:
        ConfigError: it is neither.
    """
    if text.partition("://")[0].split("+")[0] in ("postgresql", "postgres"):
        return Target("postgis", text)
    suffix = Path(text).suffix.lower()
    if suffix == ".shp":
        raise ConfigError(
            f"{text}: a Shapefile cuts column names to 10 letters, knows no null and no truth values, and ends at 2 GB",
            expected=_expected(),
            remedy="a GeoPackage, which opens wherever a Shapefile does",
        )
    if "://" in text or suffix not in _SUFFIXES:
        raise ConfigError(f"polygons to {redact(text)}", expected=_expected())
    return Target(_SUFFIXES[suffix], text)


def _expected() -> str:
    return f"a file named {', '.join('*' + suffix for suffix in _SUFFIXES)}, or postgresql://…"


def check_target(target: Target, *, append: bool, overwrite: bool) -> None:
    """Check that a target can be written to, before the work that would be lost otherwise.

    Raises:
        ConfigError: `append` to what cannot be appended to; or a database without what its extra installs.
        OutputExistsError: it is there, and neither to be appended to nor to be replaced; or it is a folder.
        OutputError: the database cannot be reached.
    """
    if append and target.kind == "flatgeobuf":
        raise ConfigError(
            f"append to {target}", expected="a format that grows: a FlatGeobuf is indexed as a whole when it is written"
        )
    if target.kind == "postgis":
        from changedet.write.postgis import check_postgis

        check_postgis(target.where, append=append, overwrite=overwrite)
    elif Path(target.where).is_dir():
        raise OutputExistsError(f"{target} is a folder", expected="a file", remedy="another name")
    elif Path(target.where).exists() and not (append or overwrite):
        raise OutputExistsError(
            f"{target} exists", expected="a new file", remedy="--overwrite to replace it, --append to add to it"
        )
    elif append and target.kind == "geopackage" and Path(target.where).exists():
        for name in LAYERS:
            check_has_ids(_stored(Path(target.where), name))


def write_target(target: Target, layers: Mapping[str, Layer], *, append: bool = False, overwrite: bool = False) -> int:
    """Write polygons to a target, whole or not at all: a GeoPackage takes all layers, the others take `changes`.

    Args:
        target: where to.
        layers: by their names.
        append: add to what is there, but no row whose id is there already.
        overwrite: replace what is there.

    Returns:
        Rows of `changes` that were written.

    Raises:
        ConfigError: what is there does not take these rows.
        OutputExistsError: it is there, and neither to be appended to nor to be replaced.
        OutputError: it cannot be written.
    """
    check_target(target, append=append, overwrite=overwrite)
    if target.kind == "postgis":
        from changedet.write.postgis import write_postgis

        return write_postgis(target.where, layers[_CHANGES], append=append, overwrite=overwrite)
    path = Path(target.where)
    with atomic_path(path, overwrite=append or overwrite) as new, told_as_output_error(path):
        if append and path.exists():
            return _append(target.kind, path, new, layers)
        write_file(target.kind, new, layers)
    return layers[_CHANGES].rows


def write_file(kind: str, path: Path, layers: Mapping[str, Layer]) -> None:
    """Write one new file of a format; see `write_target`."""
    if kind == "geopackage":
        write_geopackage(path, layers)
    elif kind == "geoparquet":
        write_geoparquet(path, layers[_CHANGES])
    elif kind == "flatgeobuf":
        write_ogr(path, layers[_CHANGES], driver="FlatGeobuf")
    else:
        # Longitude and latitude, outlines anticlockwise, seven decimals (1 cm).
        write_ogr(path, layers[_CHANGES], driver="GeoJSON", options={"RFC7946": "YES"})


def _append(kind: Kind, old: Path, new: Path, layers: Mapping[str, Layer]) -> int:
    """Write what `old` holds, and what it lacks of `layers`, to `new`; return the rows of `changes` that it lacked."""
    if kind == "geopackage":
        fresh = {name: _lacking(_stored(old, name), layer, new.parent) for name, layer in layers.items()}
        copy_geopackage(old, new)
        append_to_geopackage(new, fresh)
        return fresh[_CHANGES].rows
    added = layers[_CHANGES]
    if kind == "geojson":
        # The file is in longitude and latitude, so what is added takes the same way first.
        beside = new.with_name(f"added{new.suffix}")
        write_file(kind, beside, layers)
        added, there = _stored(beside, None), _stored(old, None)
        if there.rows == 0 or added.rows == 0:  # without features there are no columns either
            shutil.copyfile(beside if there.rows == 0 else old, new)
            return added.rows
    else:
        there = _stored_parquet(old, new.parent / "there")
    fresh_rows = _lacking(there, added, new.parent)
    write_file(kind, new, {_CHANGES: both(there, fresh_rows, new.parent / "both")})
    return fresh_rows.rows


def _lacking(there: Layer, layer: Layer, folder: Path) -> Layer:
    check_fits(layer, there.schema.names, there.crs)
    return new_rows(layer, ids(there), folder / f"fresh-{layer.name}")


def _stored(path: Path, name: str | None) -> Layer:
    try:
        return stored_layer(path, name)
    except PYOGRIO_ERRORS as error:
        raise ConfigError(
            f"{path} has no layer {name or _CHANGES} to append to ({error})", remedy="a file that changedet made"
        ) from error


def _stored_parquet(path: Path, folder: Path) -> Layer:
    try:
        return read_geoparquet(path, _CHANGES, folder)
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is not a GeoParquet file of changedet", remedy="another file") from error
