"""Scenes of several files with one band each: a folder or a list of them, whatever the product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from changedet.errors import SceneError
from changedet.read import bands as names
from changedet.read.dates import date_of_folder
from changedet.read.header import read_header
from changedet.read.scene import Band, Scene

RASTER_SUFFIXES = {".tif", ".tiff", ".gtif", ".gtiff", ".jp2", ".vrt", ".img", ".png"}


def is_companion(path: Path) -> bool:
    """Return whether a file is one of those, `._B02.tif`, that macOS leaves beside each on other disks."""
    return path.name.startswith("._")


def is_raster(path: Path) -> bool:
    """Return whether a file is named as a raster is, and no companion of one."""
    return path.suffix.lower() in RASTER_SUFFIXES and not is_companion(path)


def open_folder(folder: Path) -> Scene:
    """Open a folder of single-band files, named by their bands, as a scene.

    Raises:
        SceneError: no file in it is named by a band, one holds several, or their CRSs differ.
    """
    files = filter(is_raster, sorted(folder.iterdir()))
    named = [(name, str(file)) for file in files if (name := names.in_file_name(file.stem)) is not None]
    if not named:
        raise SceneError(
            f"no band files in the folder {folder}",
            expected="single-band rasters with a band in their names, such as …_B02.tif or red.tif",
        )
    return Scene(str(folder), bands_of_files(named, str(folder)), date_of_folder(folder), product="folder of bands")


def open_list(paths: Sequence[str], path: str, mapping: names.Mapping | None = None) -> Scene:
    """Open several single-band files as a scene; where their names do not tell all bands apart, by their order.

    Args:
        paths: of the files, in band order.
        path: what the user called them.
        mapping: which file is which band, by its place in the list or its name without suffix.

    Raises:
        NotFoundError, SceneError: a file is missing, is no raster or holds several bands; or their CRSs differ.
        ConfigError: `mapping` names a file that is not in the list.
    """
    stems = [Path(file.rsplit("?", 1)[0]).stem for file in paths]
    if mapping is not None:
        numbers = names.resolve_mapping(mapping, stems, path)
        chosen = [(name, paths[number - 1]) for name, number in numbers.items()]
        return Scene(path, bands_of_files(chosen, path), product=f"list of {len(paths)} files")
    labels = [names.in_file_name(stem) for stem in stems]
    certain = None not in labels and len(set(labels)) == len(labels)
    named = [(label or "", file) for label, file in zip(labels, paths, strict=True)]
    if not certain:
        named = [(str(number), file) for number, file in enumerate(paths, start=1)]
    return Scene(path, bands_of_files(named, path), product=f"list of {len(paths)} files")


def bands_of_files(named: Iterable[tuple[str, str]], path: str) -> tuple[Band, ...]:
    """Return the bands of single-band files, each (band name, path); of one name the finest.

    Raises:
        NotFoundError, SceneError: see `open_list`.
    """
    finest: dict[str, Band] = {}
    for name, file in named:
        (band, *others), _ = read_header(file)
        if others:
            raise SceneError(
                f"{file} has {len(others) + 1} bands", expected="one band a file where a scene is several files"
            )
        # The same band may lie there at 10, 20 and 60 m, as in Sentinel-2 L2A products: take the finest.
        if name not in finest or band.pixel_area < finest[name].pixel_area:
            finest[name] = replace(band, name=name)
    crs = {band.geobox.crs for band in finest.values()}
    if len(crs) > 1:
        raise SceneError(f"the band files in {path} have {len(crs)} different CRSs", expected="one CRS a scene")
    # Bands that are only numbered keep their order: '10' comes after '9'.
    return tuple(finest[name] for name in sorted(finest, key=lambda name: (len(name) if name.isdigit() else 0, name)))
