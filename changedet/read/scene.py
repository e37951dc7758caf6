"""A scene: one raster at one date, its bands and where their pixels are. Nothing is opened here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from odc.geo.geobox import GeoBox

from changedet.errors import PairError
from changedet.read import bands as names


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
        scale: stored value times `scale` plus `offset` is the physical value; 1 and 0 where nobody says.
        offset: see `scale`.
        scaled_by: who says so: `scale and offset tags`, or the part of the product's metadata.
        also: names it can be asked for by beside its own, see `changedet.read.bands.stand_ins`.
        by_gcps: the file's ground control points bend: `geobox` is only about where it lies, and the warp follows them.
        alpha_is_data: GDAL takes a band of the file for alpha that is none: it has another name, or the user says so.
        overview: the overview of the file to read, 0 the finest; None for the file itself.
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
    scaled_by: str = "scale and offset tags"
    also: tuple[str, ...] = ()
    by_gcps: bool = False
    alpha_is_data: bool = False
    overview: int | None = None

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in squared CRS units: what 'finest' is decided by."""
        return abs(self.geobox.affine.determinant)


@dataclass(frozen=True, slots=True)
class Scene:
    """The bands of one date, and what its product says of it.

    Attributes:
        path: as the user gave it.
        bands: in file order.
        date: ISO, if it is known from a source that can be trusted.
        quality: validity that came with the product, as `--valid-mask` takes it (`scl:PATH`); None without.
        product: what it was recognised as, for the report.
        described_by: path of the file that says what the bands are, where that is another than theirs.
    """

    path: str
    bands: tuple[Band, ...]
    date: str | None = None
    quality: str | None = None
    product: str = "raster file"
    described_by: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all files that its bands come from, and of what describes them, sorted."""
        described = {self.described_by} if self.described_by else set()
        return tuple(sorted({band.path for band in self.bands} | described))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands, in file order."""
        return tuple(band.name for band in self.bands)

    @property
    def offers(self) -> frozenset[str]:
        """All names that bands can be asked for by."""
        return frozenset(self.names).union(*(band.also for band in self.bands))

    @property
    def geobox(self) -> GeoBox:
        """Grid of the finest band."""
        return min(self.bands, key=lambda band: band.pixel_area).geobox

    def select(self, wanted: tuple[str, ...]) -> Scene:
        """Return the scene with just the wanted bands, in that order and by those names.

        Raises:
            PairError: a band is not there.
        """
        by_name = {name: band for band in self.bands for name in band.also} | {band.name: band for band in self.bands}
        missing = [name for name in wanted if name not in by_name]
        if missing:
            raise PairError(
                f"{self.path} has bands {', '.join(self.names)}; missing: {', '.join(map(names.describe, missing))}",
                expected=", ".join(map(names.describe, wanted)),
                remedy=f"say which band is which, e.g. {names.suggest_mapping(wanted)}",
            )
        return replace(self, bands=tuple(replace(by_name[name], name=name) for name in wanted))
