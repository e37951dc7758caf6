"""Bad and odd inputs, each with what is expected of it: the right pixels, or an error of a class with its message.

Whatever comes in, nothing crashes or hangs, and no file is written beside it.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.shutil import copy
from scipy.io import netcdf_file

from changedet.detect.prepare import prepare
from changedet.detect.run import run
from changedet.errors import ChangeDetError, NotFoundError, PairError, SceneError
from changedet.grid import Window
from changedet.read import open_pair
from tests.data import NORTH_UP, geobox, texture, write_raster
from tests.read.test_header import write_with_points

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

Array = NDArray[Any]
HEIGHT, WIDTH = 64, 48
GROUND = texture(HEIGHT, WIDTH)
PLAIN = np.stack([GROUND, texture(HEIGHT, WIDTH, seed=1)])


class Right(NamedTuple):
    """The pair is read: of `shape`, with this share valid, and the before date's first band to within `error`.

    Where the after date shows the same ground, its first band lies within `same` of the before date's.
    """

    error: float = 1e-4
    valid: float = 1.0
    shape: tuple[int, int] = (HEIGHT, WIDTH)
    values: Array | None = None
    same: float | None = None


class Refused(NamedTuple):
    """An error of this class, whose message holds this."""

    kind: type[ChangeDetError]
    message: str


def _raster(image: Array = PLAIN, **options: Any) -> Callable[[Path], Path]:
    """Return what writes a raster of these pixels."""
    return lambda folder: write_raster(folder / "scene.tif", image, **options)


def _stored(dtype: str, factor: float = 10_000) -> Array:
    return np.rint(PLAIN * factor).astype(dtype)


def _with(value: float, *, dtype: str = "float32", whole: bool = False) -> Array:
    image = PLAIN.astype(dtype)
    image[:, 16 : 48 if not whole else HEIGHT, :] = value
    if whole:
        image[:] = value
    return image


def _bytes(content: bytes, name: str = "scene.tif") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _translated(driver: str, name: str, image: Array | None = None, **options: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        source = write_raster(folder.parent / "source.tif", PLAIN if image is None else image)
        copy(source, folder / name, driver=driver, **options)
        return folder / name

    return write


def _palette(dtype: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = write_raster(folder / "scene.tif", np.ones((HEIGHT, WIDTH), dtype), photometric="palette")
        with rasterio.open(path, "r+") as dataset:
            dataset.write_colormap(1, {1: (255, 0, 0)})
        return path

    return write


def _netcdf(*, dimensions: int, variables: int = 1) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "scene.nc"
        names = ("time", "level", "y", "x")[-dimensions:]
        sizes = {"time": 3, "level": 2, "y": HEIGHT, "x": WIDTH}
        with netcdf_file(path, "w") as dataset:
            for name in names:
                dataset.createDimension(name, sizes[name])
                axis = dataset.createVariable(name, "f8", (name,))
                axis[:] = np.arange(sizes[name])
            for number in range(variables):
                variable = dataset.createVariable(f"v{number}", "f4", names)
                variable[:] = np.ones([sizes[name] for name in names])
        return path

    return write


def _rpc(folder: Path) -> Path:
    path = folder / "scene.tif"
    with rasterio.open(path, "w", driver="GTiff", height=9, width=9, count=1, dtype="uint8") as dataset:
        dataset.write(np.ones((1, 9, 9), np.uint8))
        ones = [1.0] + [0.0] * 19
        dataset.rpcs = rasterio.rpc.RPC(0, 100, 45, 1, ones, ones, 4.5, 5, 10, 1, ones, ones, 4.5, 5)
    return path


def _overviews_only(folder: Path) -> Path:
    path = write_raster(folder.parent / "source.tif", PLAIN, tiled=True, blockxsize=16, blockysize=16)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    return (folder.parent / "source.tif.ovr").rename(folder / "scene.ovr")


def _with_overviews(folder: Path) -> Path:
    path = write_raster(folder / "scene.tif", PLAIN, tiled=True, blockxsize=16, blockysize=16)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    return path


def _sparse(folder: Path) -> Path:
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16, "SPARSE_OK": True, "nodata": 0}
    profile = {"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 2, "dtype": "uint16", "crs": "EPSG:32633"}
    with rasterio.open(folder / "scene.tif", "w", transform=NORTH_UP, **profile, **options) as dataset:
        dataset.write(_stored("uint16")[:, :16], window=rasterio.windows.Window(0, 0, WIDTH, 16))
    return folder / "scene.tif"


def _complex_integers(folder: Path) -> Path:
    profile = {"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 1, "crs": "EPSG:32633"}
    with rasterio.open(folder / "scene.tif", "w", dtype="complex_int16", transform=NORTH_UP, **profile) as dataset:
        dataset.write(PLAIN[:1].astype("complex64"))
    return folder / "scene.tif"


def _vrt(source: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_raster(folder / "source.tif", PLAIN)
        band = (
            '<VRTRasterBand dataType="Float32" band="1"><SimpleSource><SourceFilename relativeToVRT="1">'
            f"{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        )
        (folder / "scene.vrt").write_text(
            f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"><SRS>EPSG:32633</SRS>'
            f"<GeoTransform>500000, 10, 0, 5600000, 0, -10</GeoTransform>{band}</VRTDataset>"
        )
        return folder / "scene.vrt"

    return write


def _in_folder(name: str) -> Callable[[Path], Path]:
    return lambda folder: write_raster(folder / name, PLAIN)


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.tif")
    return folder / "pipe.tif"


def _alpha_alone(folder: Path) -> Path:
    path = write_raster(folder / "scene.tif", _stored("uint8", 255)[:1])
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.alpha]
    return path


def _scaled(scale: float) -> Callable[[Path], Path]:
    return _raster(_stored("uint16"), scale=scale, offset=0.5)


FEET = Affine(30, 0, 980_000, 0, -30, 200_000)
DEGREES = Affine(1e-4, 0, 15.0, 0, -1e-4, 50.0)
SWAPPED = Affine(0, 10, 500_000, -10, 0, 5_600_000)
LOWEST = float(np.finfo("float32").min)
FLAT = np.full((2, HEIGHT, WIDTH), 0.25, "f4")
FOOT_UTM = "+proj=utm +zone=33 +datum=WGS84 +units=ft"
MARS = "+proj=longlat +a=3396190 +b=3376200 +no_defs"
TURNED_POLE = "+proj=ob_tran +o_proj=longlat +o_lon_p=-162 +o_lat_p=39.25 +lon_0=180 +to_meter=0.0174532925199433"
PLANT = 'LOCAL_CS["plant grid",UNIT["metre",1]]'
NO_TRANSFORM = Refused(SceneError, "no usable transform")
NO_RASTER = Refused(SceneError, "cannot be opened as a raster")
BITS = (PLAIN > 0.25).astype("uint8")

# Name → what writes the scene (which is both dates), and what is expected.
ALONE: dict[str, tuple[Callable[[Path], Path], Right | Refused]] = {
    # dtypes
    "uint8": (_raster(_stored("uint8", 255)), Right(3e-3)),
    "int8": (_raster(_stored("int8", 100)), Right(6e-3, values=np.rint(GROUND * 100) / 10_000)),
    "uint16": (_raster(_stored("uint16")), Right()),
    "int16": (_raster(_stored("int16")), Right()),
    "uint32": (_raster(_stored("uint32")), Right()),
    "int32": (_raster(_stored("int32")), Right()),
    "uint64": (_raster(_stored("uint64")), Right()),
    "int64": (_raster(_stored("int64")), Right()),
    "float32": (_raster(), Right()),
    "float32 of digital numbers": (_raster(PLAIN * 10_000), Right()),
    "float64": (_raster(PLAIN.astype("float64")), Right()),
    "complex": (_raster(PLAIN.astype("complex64")), Refused(SceneError, "complex numbers")),
    "complex of integers": (_complex_integers, Refused(SceneError, "complex numbers")),
    "1 bit": (_raster(BITS, nbits=1), Right(values=BITS[0] / 255, valid=float(BITS.any(axis=0).mean()))),
    "12 bits in 16": (_raster(_stored("uint16", 4000), nbits=12), Right(values=np.rint(GROUND * 4000) / 10_000)),
    "8-bit palette": (_palette("uint8"), Refused(SceneError, "palette of colours")),
    "16-bit palette": (_palette("uint16"), Refused(SceneError, "palette of colours")),
    # nodata
    "nodata -9999": (_raster(_with(-9999), nodata=-9999), Right(valid=0.5)),
    "nodata NaN": (_raster(_with(np.nan), nodata=np.nan), Right(valid=0.5)),
    "nodata of the largest float": (
        _raster(_with(LOWEST), nodata=LOWEST),
        Right(valid=0.5),
    ),
    "nodata minus infinity": (_raster(_with(-np.inf), nodata=-np.inf), Right(valid=0.5)),
    "nodata 1e20 in float64": (_raster(_with(1e20, dtype="float64"), nodata=1e20), Right(valid=0.5)),
    "NaN without a tag": (_raster(_with(np.nan)), Right(valid=0.5)),
    "infinity without a tag": (_raster(_with(np.inf)), Right(valid=0.5)),
    "all nodata": (_raster(_with(-9999, whole=True), nodata=-9999), Refused(PairError, "no pixel is valid")),
    "all NaN": (_raster(_with(np.nan, whole=True)), Refused(PairError, "no pixel is valid")),
    "all infinite": (_raster(_with(np.inf, whole=True)), Refused(PairError, "no pixel is valid")),
    "all 0 in uint16": (_raster(np.zeros((2, HEIGHT, WIDTH), "uint16")), Refused(PairError, "no pixel is valid")),
    "mask of nothing": (_raster(mask=np.zeros((HEIGHT, WIDTH), bool)), Refused(PairError, "no pixel is valid")),
    "one value everywhere": (
        _raster(np.full((2, HEIGHT, WIDTH), 0.25, "f4")),
        Right(values=np.full((HEIGHT, WIDTH), 0.25)),
    ),
    # shapes
    "1 x N": (_raster(PLAIN[:, :1]), Right(shape=(1, WIDTH))),
    "N x 1": (_raster(PLAIN[:, :, :1]), Right(shape=(HEIGHT, 1))),
    "1 x 1": (_raster(PLAIN[:, :1, :1]), Right(shape=(1, 1))),
    "40 bands": (_raster(np.repeat(PLAIN, 20, axis=0)), Right()),
    # georeference
    "no CRS": (_raster(crs=None), Refused(SceneError, "no coordinate reference system")),
    "CRS in feet": (_raster(crs="EPSG:2263", transform=FEET), Right()),
    "geographic CRS": (_raster(crs="EPSG:4326", transform=DEGREES), Right()),
    "swapped axes": (_raster(transform=SWAPPED), Right()),
    "south up": (_raster(transform=geobox(HEIGHT, WIDTH).flipy().affine), Right()),
    "turned by 30 degrees": (_raster(transform=geobox(HEIGHT, WIDTH).rotate(30).affine), Right()),
    "mirrored": (_raster(transform=Affine(-10, 0, 500_000, 0, -10, 5_600_000)), Right()),
    "polar stereographic": (_raster(crs="EPSG:3413"), Right()),
    "local CRS": (
        _raster(crs=PLANT),
        Refused(SceneError, "local coordinate system"),
    ),
    "CRS without a transform": (_raster(transform=Affine.identity()), NO_TRANSFORM),
    "transform of no area": (
        _raster(transform=Affine(10, 10, 0, 10, 10, 0)),
        Refused(SceneError, "no usable transform"),
    ),
    "transform with NaN": (_raster(transform=Affine(10, 0, math.nan, 0, -10, 0)), NO_TRANSFORM),
    "coordinates beyond the CRS": (
        _raster(transform=Affine(10, 0, 1e12, 0, -10, 1e12)),
        Refused(SceneError, "has no place on the earth"),
    ),
    "latitudes beyond the pole": (
        _raster(crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 120)),
        Refused(SceneError, "reaches from latitude 56 to 120"),
    ),
    "the whole globe": (
        _raster(crs="EPSG:4326", transform=Affine(360 / WIDTH, 0, -180, 0, -180 / HEIGHT, 90)),
        Right(),
    ),
    "the whole globe by its middles": (
        _raster(crs="EPSG:4326", transform=Affine(360 / WIDTH, 0, 0, 0, -180 / (HEIGHT - 1), 90 + 90 / (HEIGHT - 1))),
        Right(),
    ),
    "geocentric CRS": (_raster(crs="EPSG:4978"), Refused(SceneError, "local coordinate system")),
    "CRS with heights": (_raster(crs="EPSG:9707", transform=DEGREES), Right()),
    "CRS of Mars": (_raster(crs=MARS, transform=DEGREES), Refused(SceneError, "cannot be placed on the earth")),
    "turned pole": (_raster(crs=TURNED_POLE, transform=Affine(1e-2, 0, -5, 0, -1e-2, 5)), Right()),
    "axes of north and east": (_raster(crs="EPSG:2180", transform=Affine(10, 0, 5e5, 0, -10, 5e5)), Right()),
    "axes of south and west": (_raster(crs="EPSG:2048", transform=Affine(-10, 0, 0, 0, 10, 37e5)), Right()),
    "control points": (lambda folder: write_with_points(folder / "scene.tif", PLAIN), Right(shape=(HEIGHT, WIDTH))),
    "rational polynomials": (_rpc, Refused(SceneError, "rational polynomials")),
    "PNG": (_translated("PNG", "scene.png", _stored("uint8", 255)[:1], WORLDFILE=False), Right(3e-3)),
    # files
    "tiled": (_raster(tiled=True, blockxsize=16, blockysize=16), Right()),
    "strips": (_raster(tiled=False, blockysize=3), Right()),
    "planes": (_raster(interleave="band"), Right()),
    "pixels": (_raster(interleave="pixel"), Right()),
    "LZW with a predictor": (_raster(compress="lzw", predictor=3), Right()),
    "Zstandard": (_raster(compress="zstd"), Right()),
    "JPEG": (_raster(_stored("uint8", 255)[[0, 1, 1]], compress="jpeg", jpeg_quality=100), Right(0.03)),
    "BigTIFF": (_raster(BIGTIFF="YES"), Right()),
    "big-endian": (_raster(ENDIANNESS="BIG"), Right()),
    "with overviews": (_with_overviews, Right()),
    "overviews only": (_overviews_only, Refused(SceneError, "no coordinate reference system")),
    "sparse": (_sparse, Right(valid=0.25)),
    "JPEG 2000": (_translated("JP2OpenJPEG", "scene.jp2", _stored("uint16"), QUALITY=100, REVERSIBLE=True), Right()),
    "ERDAS Imagine": (_translated("HFA", "scene.img"), Right()),
    "VRT": (_vrt("source.tif"), Right()),
    "VRT of a missing file": (_vrt("nothing.tif"), Refused(SceneError, "damaged or truncated")),
    "4-D NetCDF": (_netcdf(dimensions=4), Refused(SceneError, "has 4 dimensions")),
    "NetCDF of several variables": (_netcdf(dimensions=2, variables=2), Refused(SceneError, "2 subdatasets")),
    "NetCDF without a CRS": (_netcdf(dimensions=2), Refused(SceneError, "no coordinate reference system")),
    "empty file": (_bytes(b""), NO_RASTER),
    "text": (_bytes(b"Dear reader"), NO_RASTER),
    "GeoJSON": (
        _bytes(b'{"type": "FeatureCollection", "features": []}', "a.geojson"),
        Refused(SceneError, "cannot be opened"),
    ),
    "header alone": (_bytes(b"II*\x00\x08\x00\x00\x00"), NO_RASTER),
    "folder of nothing": (lambda folder: folder, Refused(SceneError, "no band files")),
    "a device": (lambda folder: Path(os.devnull), Refused(SceneError, "neither a file nor a folder")),
    "a pipe that nobody writes into": (_pipe, Refused(SceneError, "neither a file nor a folder")),
    "alpha alone": (_alpha_alone, Refused(SceneError, "no band but alpha")),
    "nothing": (lambda folder: folder / "nothing.tif", Refused(NotFoundError, "does not exist")),
    # names and tags
    "a name with spaces, signs and other letters": (_in_folder("szene [1] für #2 & 'x'.tif"), Right()),
    "scale tag of 0": (_scaled(0.0), Refused(SceneError, "is scaled by 0")),
    "scale tag of NaN": (_scaled(float("nan")), Refused(SceneError, "is scaled by nan")),
    "tags of markup": (_raster(tags={"TIFFTAG_DATETIME": "<b>[red]2018", "x": "\x1b[31m"}), Right()),
}


def _files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def _check(before: Path, after: Path, folder: Path, expected: Right | Refused) -> None:
    there = _files(folder)
    if isinstance(expected, Refused):
        with pytest.raises(expected.kind) as caught, open_pair(before, after) as pair:
            prepare(pair, coregister=True, normalize="histogram")
        assert expected.message in str(caught.value)
        assert type(caught.value) is expected.kind
    else:
        with open_pair(before, after) as pair:
            prepare(pair, coregister=True, normalize="histogram")
            height, width = pair.geobox.shape
            chip = pair.read(Window(0, 0, height, width))
        assert (height, width) == expected.shape
        assert chip.valid.mean() == pytest.approx(expected.valid, abs=1e-9)
        values = GROUND[:height, :width] if expected.values is None else expected.values
        assert np.abs(chip.before[0] - values)[chip.valid].max() <= expected.error
        if expected.same is not None:
            assert np.abs(chip.after[0] - chip.before[0])[chip.valid].max() <= expected.same
    assert _files(folder) == there


def test_the_table_is_long_enough() -> None:
    assert len(ALONE) + len(TOGETHER) >= 60


@pytest.mark.parametrize("name", ALONE)
def test_a_scene_is_read_right_or_refused(tmp_path: Path, name: str) -> None:
    make, expected = ALONE[name]
    (tmp_path / "scene").mkdir()
    path = make(tmp_path / "scene")
    _check(path, path, tmp_path / "scene", expected)


def _other(**options: Any) -> Callable[[Path], Path]:
    return lambda folder: write_raster(folder / "after.tif", options.pop("image", PLAIN), **options)


def _moved(row: int, col: int) -> Affine:
    return geobox(HEIGHT, WIDTH, row=row, col=col).affine


# Name → what writes the after date beside a plain before date, and what is expected.
TOGETHER: dict[str, tuple[Callable[[Path], Path], Right | Refused]] = {
    "CRS missing at one date": (_other(crs=None), Refused(SceneError, "no coordinate reference system")),
    "edges that touch": (_other(transform=_moved(0, WIDTH)), Refused(PairError, "do not overlap")),
    "corners that touch": (_other(transform=_moved(HEIGHT, WIDTH)), Refused(PairError, "do not overlap")),
    "overlap of one column": (_other(transform=_moved(0, 1 - WIDTH)), Right(shape=(HEIGHT, 1))),
    "overlap of one row": (_other(transform=_moved(1 - HEIGHT, 0)), Right(shape=(1, WIDTH))),
    "the other side of the earth": (_other(crs="EPSG:32733"), Refused(PairError, "do not overlap")),
    "another number of bands": (_other(image=PLAIN[:1]), Refused(PairError, "--bands red=3")),
    "another dtype": (_other(image=_stored("uint16")), Right(same=1e-4)),
    "the same ground with swapped axes": (_other(image=PLAIN.swapaxes(1, 2), transform=SWAPPED), Right(same=1e-3)),
    "the same ground south up": (
        _other(image=PLAIN[:, ::-1], transform=geobox(HEIGHT, WIDTH).flipy().affine),
        Right(same=1e-3),
    ),
    "the same ground in feet": (
        _other(crs=FOOT_UTM, transform=Affine.scale(1 / 0.3048) @ NORTH_UP),
        Right(same=1e-3),
    ),
    "pixels a thousand times larger": (_other(transform=Affine(10_000, 0, 400_000, 0, -10_000, 5_700_000)), Right()),
    "valid where the other is not": (
        lambda folder: write_raster(folder / "after.tif", _with(np.nan)[:, ::-1]),
        Right(valid=0.5),
    ),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_a_pair_is_read_right_or_refused(tmp_path: Path, name: str) -> None:
    make, expected = TOGETHER[name]
    (tmp_path / "pair").mkdir()
    before = write_raster(tmp_path / "pair" / "before.tif", PLAIN)
    _check(before, make(tmp_path / "pair"), tmp_path / "pair", expected)


@pytest.mark.timeout(120)  # all places of a case together; a read that hangs is found
@pytest.mark.parametrize("harm", ["cut", "flipped"])
@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_a_damaged_file_is_mapped_or_refused_at_any_place(tmp_path: Path, harm: str, compress: str) -> None:
    """30 random places: an error of ours that names the file, or a whole result; never half of one."""
    (tmp_path / "in").mkdir()
    options = {"compress": compress, "tiled": True, "blockxsize": 16, "blockysize": 16}
    whole = write_raster(tmp_path / "in" / "whole.tif", PLAIN, **options)
    content = whole.read_bytes()
    rng = np.random.default_rng(30)
    # Half of the places in the header and the directory, where they do most harm.
    places = np.concatenate([rng.integers(0, 600, 15), rng.integers(0, len(content), 15)])
    told: list[ChangeDetError] = []
    for number, place in enumerate(map(int, places)):
        path, out = tmp_path / "in" / f"{number}.tif", tmp_path / f"out_{number}"
        flipped = content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :]
        path.write_bytes(content[:place] if harm == "cut" else flipped)
        there = _files(tmp_path / "in")
        try:
            result = run(whole, path, out, detector="cva", report=False)
        except ChangeDetError as error:
            told.append(error)
            assert not out.exists()
        else:
            assert {each.name for each in out.iterdir()} == set(result.results)
        assert _files(tmp_path / "in") == there
    assert len(told) >= (25 if harm == "cut" else 1)
    assert all(str(tmp_path) in str(error) for error in told if not isinstance(error, PairError))
