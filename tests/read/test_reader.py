"""The traps of validity, each read as it lies and warped."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.shutil import copy
from scipy.ndimage import binary_dilation, binary_erosion

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.errors import SceneError
from changedet.grid import Window
from changedet.read import Chip, open_pair, open_scene
from changedet.read.interpret import nodata_of, scaling_of
from changedet.read.reader import SceneReader
from tests.data import geobox, texture, write_raster

Array = NDArray[Any]
Hide = Callable[[Array, Array], tuple[Array, dict[str, Any]]]

GRID = geobox(90, 80)
# What lies half a pixel off has to be warped.
PLACES = {"direct": GRID, "warped": geobox(96, 86, row=-3.5, col=-2.7)}


def _image(box: GeoBox) -> Array:
    """Return reflectance (2, H, W)."""
    height, width = box.shape
    return np.stack([texture(height, width, seed=seed) for seed in (1, 2)])


def _hole(box: GeoBox) -> Array:
    """Return valid (H, W) with a rectangle that is not."""
    valid = np.ones(box.shape, bool)
    valid[30:55, 25:60] = False
    return valid


def _digits(image: Array, valid: Array, dtype: str, hidden: float) -> Array:
    return np.where(valid, np.rint(image * 10_000), hidden).astype(dtype)


HIDES: dict[str, Hide] = {
    "nodata tag": lambda image, valid: (_digits(image, valid, "uint16", 65_535), {"nodata": 65_535}),
    "nodata tag of 0": lambda image, valid: (_digits(image, valid, "uint16", 0), {"nodata": 0}),
    "nothing declared, 0 in all bands": lambda image, valid: (_digits(image, valid, "uint16", 0), {}),
    "internal mask": lambda image, valid: (_digits(image, valid, "uint16", 40_000), {"mask": valid}),
    "internal mask over 0": lambda image, valid: (_digits(image, valid, "uint16", 0), {"mask": valid}),
    "alpha band": lambda image, valid: (_digits(image, valid, "uint16", 40_000), {"alpha": valid * 65_535}),
    "faint alpha band": lambda image, valid: (_digits(image, valid, "uint16", 40_000), {"alpha": valid * 1}),
    "alpha band of floats": lambda image, valid: (np.where(valid, image, 9).astype("float32"), {"alpha": valid * 255}),
    "alpha as the fourth band": lambda image, valid: (
        _digits(image[[0, 1, 1]], valid, "uint16", 40_000),
        {"alpha": valid * 255},
    ),
    "alpha band and a tag": lambda image, valid: (
        _digits(image, valid, "uint16", 40_000),
        {"alpha": valid * 65_535, "nodata": 65_534},
    ),
    "NaN without a tag": lambda image, valid: (np.where(valid, image, np.nan).astype("float32"), {}),
    "NaN with a tag": lambda image, valid: (np.where(valid, image, np.nan).astype("float32"), {"nodata": np.nan}),
    "NaN and a tag of -1": lambda image, valid: (np.where(valid, image, np.nan).astype("float32"), {"nodata": -1}),
    "infinity": lambda image, valid: (np.where(valid, image, np.inf).astype("float32"), {}),
    "NaN in one band": lambda image, valid: (_in_one_band(image, valid, np.nan), {}),
    "NaN in one band and a tag of 0": lambda image, valid: (_in_one_band(image, valid, np.nan), {"nodata": 0}),
    "infinity in a full mask": lambda image, valid: (
        _in_one_band(image, valid, np.inf),
        {"mask": valid | True},
    ),
    "NaN in a full mask": lambda image, valid: (
        _in_one_band(image, valid, np.nan),
        {"mask": valid | True},
    ),
}


def _in_one_band(image: Array, valid: Array, value: float) -> Array:
    image = image.astype("float32")
    image[1, ~valid] = value
    return image


def _chip(folder: Path, place: str, hide: Hide, *, before: dict[str, Any] | None = None) -> Chip:
    """Read the whole pair whose after date has a hole."""
    source = PLACES[place]
    array, options = hide(_image(source), _hole(source))
    ground = np.resize(_image(GRID), (len(array), *GRID.shape)) * (10_000 if array.dtype.kind in "ui" else 1)
    write_raster(folder / "before.tif", ground.astype(array.dtype), **(before or {}))
    write_raster(folder / "after.tif", array, transform=source.affine, **options)
    with open_pair(folder / "before.tif", folder / "after.tif") as pair:
        assert next(iter(pair.readers[1].placements.values())).how == place
        return pair.read(Window(0, 0, *GRID.shape))


def _hole_on_grid(place: str) -> Array:
    """Return the hole's pixels (H, W) on the pair's grid, to within a pixel."""
    rows, cols = (3, 2) if place == "warped" else (0, 0)
    height, width = GRID.shape
    return ~_hole(PLACES[place])[rows : rows + height, cols : cols + width]


def _check_hole(chip: Chip, place: str) -> None:
    hole = _hole_on_grid(place)
    if place == "direct":
        assert np.array_equal(chip.valid, ~hole)
    assert not chip.valid[binary_erosion(hole, iterations=2)].any()
    away = ~binary_dilation(hole, iterations=2)
    away[[0, -1]] = away[:, [0, -1]] = place == "direct"
    assert chip.valid[away].all()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", HIDES)
def test_pixel_without_data_is_invalid_and_nothing_of_it_leaks(tmp_path, kind, place):
    chip = _chip(tmp_path, place, HIDES[kind])
    _check_hole(chip, place)
    # The texture stays between 0.05 and 0.5: what leaks in from under the hole would leave that range.
    seen = chip.after[:, chip.valid]
    assert seen.min() >= 0.049
    assert seen.max() <= 0.501
    assert (chip.after[:, ~chip.valid] == np.float32(NEUTRAL_REFLECTANCE)).all()
    assert (chip.before[:, ~chip.valid] == np.float32(NEUTRAL_REFLECTANCE)).all()


@pytest.mark.parametrize("place", PLACES)
def test_nodata_declared_at_the_other_date_counts(tmp_path, place):
    chip = _chip(
        tmp_path, place, lambda image, valid: (_digits(image, valid, "int16", -9999), {}), before={"nodata": -9999}
    )
    _check_hole(chip, place)


@pytest.mark.parametrize("place", PLACES)
def test_each_file_has_its_own_nodata_value(tmp_path, place):
    """What is nodata at one date is a value like others at the other."""
    valid = _hole(GRID)
    lake = np.zeros(GRID.shape, bool)
    lake[2:9, 30:39] = True

    def before(image: Array) -> Array:
        return np.where(lake, 499, _digits(image, valid, "int16", -9999)).astype("int16")

    for given in ({}, {"nodata": (-9999.0, 499.0)}):
        tags = ({"nodata": -9999}, {"nodata": 499}) if not given else ({}, {})
        image = before(_image(GRID))
        write_raster(tmp_path / "before.tif", image, **tags[0])
        grid = PLACES[place]
        other = _digits(_image(grid), np.ones(grid.shape, bool), "int16", 0)
        write_raster(tmp_path / "after.tif", other, crs=str(grid.crs), transform=grid.affine, **tags[1])
        with open_pair(tmp_path / "before.tif", tmp_path / "after.tif", **given) as pair:
            chip = pair.read(Window(0, 0, *GRID.shape))
            assert [rule[0].value for rule in pair.nodata] == [-9999, 499]
        assert np.array_equal(chip.valid, valid)
        np.testing.assert_allclose(chip.before[:, lake], 0.0499, rtol=1e-6)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["mask", "alpha"])
def test_bytes_under_a_mask_change_nothing(tmp_path, kind, place):
    def hide(image: Array, valid: Array, value: float) -> tuple[Array, dict[str, Any]]:
        return _digits(image, valid, "uint16", value), {kind: valid * 65_535}

    chips = [_chip(tmp_path, place, partial(hide, value=value)) for value in (0, 9_000, 65_535)]
    for chip in chips[1:]:
        assert np.array_equal(chip.valid, chips[0].valid)
        assert np.array_equal(chip.after, chips[0].after)
        assert np.array_equal(chip.before, chips[0].before)


def test_bytes_at_the_other_date_change_nothing_where_one_is_invalid(tmp_path):
    valid = _hole(GRID)
    write_raster(tmp_path / "after.tif", _digits(_image(GRID), valid, "uint16", 65_535), nodata=65_535)
    chips = []
    for hidden in (1, 20_000):
        write_raster(tmp_path / "before.tif", _digits(_image(GRID), valid, "uint16", hidden))
        with open_pair(tmp_path / "before.tif", tmp_path / "after.tif") as pair:
            chips.append(pair.read(Window(0, 0, *GRID.shape)))
    assert np.array_equal(chips[0].before, chips[1].before)
    assert np.array_equal(chips[0].after, chips[1].after)
    assert np.array_equal(chips[0].valid, valid)


@pytest.mark.parametrize("tag", [None, 0])
def test_zero_in_one_band_alone_is_data(tmp_path, tag):
    image = _digits(_image(GRID), np.ones(GRID.shape, bool), "uint16", 0)
    image[0, 10:20, 10:20] = 0
    write_raster(tmp_path / "scene.tif", image, nodata=tag)
    with open_pair(tmp_path / "scene.tif", tmp_path / "scene.tif") as pair:
        chip = pair.read(Window(0, 0, *GRID.shape))
    assert chip.valid.all()
    assert (chip.after[0, 10:20, 10:20] == 0).all()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("told", ["name", "mapping"])
def test_a_band_that_gdal_takes_for_alpha_is_data_where_it_is_said_to_be(tmp_path, place, told):
    """As near infrared of 8 bits is, the fourth band: 0 there is water."""
    names = ["red", "green", "blue", "nir"]
    for name, grid in (("before.tif", GRID), ("after.tif", PLACES[place])):
        image = np.stack([texture(*grid.shape, seed=seed) for seed in range(4)])
        image[3, 30:50, 30:50] = 0
        stored = np.rint(image * 255).astype("uint8")
        write_raster(tmp_path / name, stored, transform=grid.affine, names=names if told == "name" else None)
    mapping = None if told == "name" else "naip"
    with open_pair(tmp_path / "before.tif", tmp_path / "after.tif", mapping=mapping) as pair:
        chip = pair.read(Window(0, 0, *GRID.shape))
        how = next(iter(pair.readers[1].placements.values())).how
    assert how == {"direct": "direct", "warped": "displaced"}[place]
    assert pair.nodata[1][0].why == "none declared: 0 in all bands means it"
    assert chip.valid.all()
    assert (chip.before[3, 30:50, 30:50] == 0).all()
    assert (chip.after[3, 32:44, 32:44] == 0).all()
    assert chip.after[3, 0:20].min() > 0.04


def _reader(path: Path, target: GeoBox) -> SceneReader:
    scene = open_scene(path)
    nodata = nodata_of(scene, scene)
    return SceneReader(scene, target, scaling=scaling_of(scene, nodata), nodata=nodata)


@pytest.mark.parametrize("offset", [(-7, -9), (-7.4, -9.3)], ids=["direct", "warped"])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_outside_the_file_is_invalid_without_any_nodata(tmp_path, offset, dtype):
    row, col = offset
    path = write_raster(tmp_path / "scene.tif", np.full((2, 40, 30), 0.25 if dtype == "float32" else 2500, dtype))
    target = geobox(70, 60, row=row, col=col)
    with _reader(path, target) as reader:
        _, valid = reader.read(Window(0, 0, 70, 60))
    # A target pixel is covered where its middle is.
    rows, cols = np.arange(70) + 0.5 + row, np.arange(60) + 0.5 + col
    covered = np.outer((rows > 0) & (rows < 40), (cols > 0) & (cols < 30))
    assert np.array_equal(valid, covered)


@pytest.mark.parametrize("offset", [0, -3.5])
@pytest.mark.parametrize(
    ("stored", "tag"),
    [
        ("-3.4028235e38", -3.4028230607370965e38),
        ("-3.4028235e38", -1.7976931348623157e308),
        ("3.4028235e38", 1.7976931348623157e308),
        ("-inf", -1.7976931348623157e308),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_largest_values_are_no_data_however_their_tag_was_rounded(tmp_path, stored, tag, offset):
    image = texture(*GRID.shape).astype("float32")
    image[:20] = float(stored)
    path = write_raster(tmp_path / "a.tif", np.stack([image]))
    with rasterio.open(path, "r+") as dataset:
        dataset.nodata = tag  # comes back as single precision has it, infinite too
    with _reader(path, geobox(*GRID.shape, row=offset)) as reader:
        values, valid = reader.read(Window(0, 0, *GRID.shape))
    assert not valid[:23].any() if offset else not valid[:20].any()
    assert valid[25:].all()
    assert 0 < values[0][valid].max() < 2


@pytest.mark.parametrize("place", PLACES)
def test_outside_the_grid_nothing_is_valid(tmp_path, place):
    write_raster(tmp_path / "before.tif", _image(GRID))
    write_raster(tmp_path / "after.tif", _image(PLACES[place]), transform=PLACES[place].affine)
    with open_pair(tmp_path / "before.tif", tmp_path / "after.tif") as pair:
        height, width = pair.geobox.shape
        whole = pair.read(Window(0, 0, height, width))
        beyond = pair.read(Window(-8, -6, height + 20, width + 30))
        apart = pair.read(Window(height + 5, 0, 8, 8))
    assert np.array_equal(beyond.valid[8 : 8 + height, 6 : 6 + width], whole.valid)
    assert beyond.valid.sum() == whole.valid.sum()
    assert not apart.valid.any()


@pytest.mark.parametrize("place", PLACES)
def test_truncated_file_is_named(tmp_path, place):
    source = PLACES[place]
    write_raster(tmp_path / "before.tif", _image(GRID))
    # A COG has its directory first: it still opens.
    write_raster(tmp_path / "whole.tif", _image(source), transform=source.affine)
    copy(tmp_path / "whole.tif", path := tmp_path / "after.tif", driver="COG")
    path.write_bytes(path.read_bytes()[:-20_000])
    with (
        pytest.raises(SceneError, match=r"after\.tif is damaged or truncated"),
        open_pair(tmp_path / "before.tif", path) as pair,
    ):
        pair.read(Window(0, 0, *pair.geobox.shape))
