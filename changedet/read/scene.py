"""A scene: one raster at one date, from one file or from a folder of single-band files.

Opening reads headers only. Pixels are read by `changedet.read.reader`.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from changedet.errors import NotFoundError, PairError, SceneError
from changedet.read import bands as names

RASTER_SUFFIXES = {".tif", ".tiff", ".gtif", ".gtiff", ".jp2", ".vrt", ".img", ".png"}

# Tags that hold a date of acquisition. TIFFTAG_DATETIME comes last: some writers put the date of processing there.
_DATE_TAGS = ("ACQUISITION_DATE", "DATE_ACQUIRED", "SENSING_TIME", "datetime", "TIFFTAG_DATETIME")


@dataclass(frozen=True, slots=True)
class Band:
    """One band of a scene and where its pixels are.

    Attributes:
        name: Sentinel-2 name (`B04`) where it is known, else the band's number in the file as text.
        path: file, URL or GDAL path that holds it.
        index: 1-based band number in that file.
        geobox: CRS, transform and shape of that file.
        dtype: numpy name of the stored type.
        nodata: the value that is tagged as no data, None where there is no tag.
        masked: the file carries validity of its own, as an alpha band or an internal mask.
        scale: stored value times `scale` plus `offset` is the tagged physical value; 1 and 0 where untagged.
        offset: see `scale`.
    """

    name: str
    path: str
    index: int
    geobox: GeoBox
    dtype: str
    nodata: float | None
    masked: bool
    scale: float
    offset: float

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in squared CRS units: what 'finest' is decided by."""
        return abs(self.geobox.affine.determinant)


@dataclass(frozen=True, slots=True)
class Scene:
    """The bands of one date, and the date if it is known from a source that can be trusted."""

    path: str
    bands: tuple[Band, ...]
    date: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands, in file order."""
        return tuple(band.name for band in self.bands)

    @property
    def geobox(self) -> GeoBox:
        """Grid of the finest band."""
        return min(self.bands, key=lambda band: band.pixel_area).geobox

    def select(self, wanted: tuple[str, ...]) -> Scene:
        """Return the scene with just the wanted bands, in that order.

        Raises:
            PairError: a band is not there.
        """
        by_name = {band.name: band for band in self.bands}
        missing = [name for name in wanted if name not in by_name]
        if missing:
            raise PairError(
                f"{self.path} has bands {', '.join(self.names)}; missing: {', '.join(map(names.describe, missing))}",
                expected=", ".join(map(names.describe, wanted)),
                remedy=f"say which band is which, e.g. {names.suggest_mapping(wanted)}",
            )
        return replace(self, bands=tuple(by_name[name] for name in wanted))


def open_scene(
    path: str | os.PathLike[str], *, mapping: Mapping[str, int] | None = None, local_px: float | None = None
) -> Scene:
    """Open a raster file or a folder of single-band files as a scene. Reads headers only.

    Args:
        path: a file, a folder, a URL or a GDAL `/vsi` path.
        mapping: band name to 1-based band number, for files whose bands have no names.
        local_px: ground size (m) of the pixels of a file without a CRS, which then lies on a grid of its own from
            (0, 0), such as a picture of a benchmark; None refuses it.

    Raises:
        NotFoundError: there is nothing at `path`.
        SceneError: it is not a raster, or has no CRS and `local_px` is None.
        ConfigError: `mapping` names a band the file does not have.
    """
    text = os.fspath(path)
    remote = "://" in text or text.startswith("/vsi")
    if not remote and not Path(text).exists():
        raise NotFoundError(f"{text} does not exist", remedy="check the path; it is taken from the current folder")
    if not remote and Path(text).is_dir():
        return Scene(text, _bands_of_folder(Path(text)), _date_of_folder(Path(text)))
    found, tagged_date = _bands_of_file(text, mapping, local_px)
    return Scene(text, found, tagged_date)


def _bands_of_folder(folder: Path) -> tuple[Band, ...]:
    finest: dict[str, Band] = {}
    for file in sorted(folder.iterdir()):
        name = names.in_file_name(file.stem)
        if file.suffix.lower() not in RASTER_SUFFIXES or name is None:
            continue
        (band, *others), _ = _bands_of_file(str(file), None)
        if others:
            raise SceneError(f"{file} has {len(others) + 1} bands", expected="one band a file in a folder scene")
        # The same band may lie there at 10, 20 and 60 m, as in Sentinel-2 L2A products: take the finest.
        if name not in finest or band.pixel_area < finest[name].pixel_area:
            finest[name] = replace(band, name=name)
    if not finest:
        raise SceneError(
            f"no band files in the folder {folder}",
            expected="single-band rasters with a band in their names, such as …_B02.tif or red.tif",
        )
    crs = {band.geobox.crs for band in finest.values()}
    if len(crs) > 1:
        raise SceneError(f"the band files in {folder} have {len(crs)} different CRSs", expected="one CRS a scene")
    return tuple(finest[name] for name in sorted(finest))


def _bands_of_file(
    path: str, mapping: Mapping[str, int] | None, local_px: float | None = None
) -> tuple[tuple[Band, ...], str | None]:
    try:
        with quietly_without_georeference(), rasterio.open(path) as dataset:
            return _describe(dataset, path, mapping, local_px), _date_of_tags(dataset.tags())
    except RasterioError as error:
        raise SceneError(
            f"{path} cannot be opened as a raster ({error})",
            expected="a file that GDAL reads, such as a GeoTIFF",
            remedy="gdalinfo on the file shows what is wrong with it",
        ) from error


@contextmanager
def quietly_without_georeference() -> Iterator[None]:
    """Open files without rasterio's warning that they have no georeference: whether that matters is our decision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _describe(
    dataset: rasterio.DatasetReader, path: str, mapping: Mapping[str, int] | None, local_px: float | None
) -> tuple[Band, ...]:
    if dataset.crs is None and local_px is None:
        raise SceneError(
            f"{path} has no coordinate reference system",
            expected="a georeferenced raster",
            remedy="gdal_edit.py -a_srs EPSG:xxxx on a copy, if you know it",
        )
    if dataset.count == 0:
        raise SceneError(f"{path} holds no raster band", expected="at least one band")
    local = Affine.scale(local_px or 1.0, -(local_px or 1.0))
    geobox = GeoBox(dataset.shape, local if dataset.crs is None else dataset.transform, dataset.crs)
    labels = _labels(dataset, mapping, path)
    return tuple(
        Band(
            name=label,
            path=path,
            index=index,
            geobox=geobox,
            dtype=dataset.dtypes[index - 1],
            nodata=dataset.nodatavals[index - 1],
            masked=MaskFlags.per_dataset in dataset.mask_flag_enums[index - 1] or bool(alpha_bands(dataset)),
            scale=dataset.scales[index - 1],
            offset=dataset.offsets[index - 1],
        )
        for index, label in labels.items()
    )


def alpha_bands(dataset: rasterio.DatasetReader) -> list[int]:
    """Return the 1-based numbers of alpha bands. GDAL's own mask knows them only in files of two or four bands."""
    return [index for index, colour in enumerate(dataset.colorinterp, start=1) if colour is ColorInterp.alpha]


def _labels(dataset: rasterio.DatasetReader, mapping: Mapping[str, int] | None, path: str) -> dict[int, str]:
    """Return 1-based band number → name, without alpha bands: by mapping, else description, else colour."""
    if mapping:
        names.check_mapping(mapping, dataset.count, path)
        return {number: name for name, number in mapping.items()}
    colours = [interp.name for interp in dataset.colorinterp]
    by_description = [names.canonical(text) if text else None for text in dataset.descriptions]
    by_colour = [names.canonical(colour) for colour in colours]
    chosen = by_description if any(by_description) else by_colour
    if len(set(filter(None, chosen))) < len(list(filter(None, chosen))):
        chosen = [None] * dataset.count  # two bands of one name: the names cannot be trusted
    # GDAL calls the fourth band of 8 bits alpha unless told: a band that says which one it is, is that band.
    return {
        index: name or str(index)
        for index, (name, colour) in enumerate(zip(chosen, colours, strict=True), start=1)
        if name or colour != "alpha"
    }


def _date_of_folder(folder: Path) -> str | None:
    """Read OSCD's `dates.txt`, which lies beside the folders imgs_1 and imgs_2 and has a line for each."""
    listing = folder.resolve().parent / "dates.txt"
    which = re.fullmatch(r"imgs_(\d)(?:_rect)?", folder.resolve().name)
    if which is None or not listing.is_file():
        return None
    match = re.search(rf"^date_{which[1]}:\s*(\d{{8}})\s*$", listing.read_text(errors="replace"), re.MULTILINE)
    return parse_date(match[1]) if match else None


def _date_of_tags(tags: Mapping[str, str]) -> str | None:
    found = (parse_date(tags[key]) for key in _DATE_TAGS if key in tags)
    return next(filter(None, found), None)


def parse_date(text: str) -> str | None:
    """Return an ISO date for `20180328`, `2018-03-28…` or TIFF's `2018:03:28 …`; None for anything else."""
    match = re.match(r"\s*(\d{4})[:\-/]?(\d\d)[:\-/]?(\d\d)(?!\d)", text)
    if match is None:
        return None
    try:
        return date(int(match[1]), int(match[2]), int(match[3])).isoformat()
    except ValueError:
        return None


def is_iso_date(text: str) -> bool:
    """Return whether `text` is an ISO date or date and time."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
