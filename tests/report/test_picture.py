"""Pictures lie exactly where the run's grid is, in one stretch, within a budget."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from changedet.read.displacement import NONE, Displacement
from changedet.read.opening import open_scene
from changedet.read.pair import PairOptions
from changedet.report import picture
from changedet.report.colours import RAMP
from changedet.report.picture import Picture, date_pictures, encode, probability_picture, reduction
from tests.data import UTM, coordinates, geobox, texture, write_raster


def pixels(shown: Picture | str) -> NDArray[np.uint8]:
    """Return the RGBA pixels of a picture."""
    uri = shown if isinstance(shown, str) else shown.uri
    assert uri.startswith("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))


@given(st.integers(1, 200_000), st.integers(1, 200_000))
def test_a_reduction_covers_the_grid_and_stays_within_its_limits(height: int, width: int) -> None:
    plan = reduction(height, width)
    assert plan.height * plan.width <= picture.MOST_PX
    assert max(plan.height, plan.width) <= picture.LONGEST_PX
    for covered, length in zip(plan.extent, (height, width), strict=True):
        assert 0 <= covered - length < plan.factor
    if plan.factor == 1:
        assert plan.extent == (height, width)


def test_the_grid_of_the_samples_has_the_corners_of_the_picture() -> None:
    grid = geobox(6001, 9001)
    plan = reduction(*grid.shape)
    sampled = plan.sampled(grid)
    assert (plan.step, plan.samples) == (2, 2)
    assert sampled.affine @ (0, 0) == grid.affine @ (0, 0)
    assert sampled.affine @ sampled.shape[::-1] == pytest.approx(grid.affine @ plan.extent[::-1])


def _scenes(tmp_path: Path, before: NDArray, after: NDArray, **options: object) -> list:
    files = [write_raster(tmp_path / f"{name}.tif", array, **options) for name, array in (("b", before), ("a", after))]
    return [open_scene(file) for file in files]


def _shown(scenes: list, grid: GeoBox, **options: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    first, second = date_pictures(*scenes, grid, options=PairOptions(**options))
    return pixels(first), pixels(second)


def test_one_stretch_serves_both_dates(tmp_path: Path) -> None:
    dark = np.full((64, 64), 1000, np.uint16)
    dark[:, 32:] = 3000
    scenes = _scenes(tmp_path, dark, dark + 1000)
    before, after = _shown(scenes, geobox(64, 64))
    # 1000 is black and 4000 white; 2000 and 3000 lie a third and two thirds in between, at either date.
    middle = {name: image[32, [8, 56], 0].astype(int) for name, image in (("before", before), ("after", after))}
    np.testing.assert_allclose(middle["before"], [0, 170], atol=4)
    np.testing.assert_allclose(middle["after"], [85, 255], atol=4)


def test_a_date_is_transparent_where_it_has_no_data_and_only_there(tmp_path: Path) -> None:
    before = (10_000 * texture(40, 50)).astype(np.uint16)
    after = before.copy()
    after[:, :20] = 0
    first, second = _shown(_scenes(tmp_path, before, after, nodata=0), geobox(40, 50))
    assert (first[..., 3] == 255).all()
    np.testing.assert_array_equal(second[..., 3], np.where(np.arange(50) < 20, 0, 255) * np.ones((40, 1)))


def test_pixels_without_data_do_not_reach_the_stretch(tmp_path: Path) -> None:
    image = (2000 + 1000 * texture(40, 50)).astype(np.uint16)
    spoilt = image.copy()
    spoilt[:10] = 65_535
    plain, _ = _shown(_scenes(tmp_path, image[10:], image[10:]), geobox(30, 50))
    other, _ = _shown(_scenes(tmp_path, spoilt, spoilt, nodata=65_535), geobox(40, 50))
    np.testing.assert_allclose(plain[..., :3].astype(int), other[10:, :, :3], atol=12)


def test_a_pair_without_any_valid_pixel_is_a_transparent_picture(tmp_path: Path) -> None:
    nothing = np.zeros((20, 20), np.uint16)
    first, second = _shown(_scenes(tmp_path, nothing, nothing, nodata=0), geobox(20, 20))
    assert not first[..., 3].any()
    assert not second[..., 3].any()


@pytest.mark.parametrize("with_overviews", [False, True])
@pytest.mark.parametrize("most", [40_000, 6_000, 1_000])
def test_a_reduced_picture_shows_every_place_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, with_overviews: bool
) -> None:
    monkeypatch.setattr(picture, "MOST_PX", most)
    grid = geobox(203, 190)
    rows_and_cols = coordinates(grid, grid)
    file = write_raster(tmp_path / "where.tif", (100 * rows_and_cols).astype(np.float32), names=("red", "green"))
    if with_overviews:
        import rasterio
        from rasterio.enums import Resampling

        with rasterio.open(file, "r+") as dataset:
            dataset.build_overviews([2, 4, 8], Resampling.average)
    scene = open_scene(file)
    seen = {}
    monkeypatch.setattr(picture, "_rgba", lambda image, valid, low, high: seen.setdefault("image", (image, valid)))
    monkeypatch.setattr(picture, "encode", lambda pixels: "")
    monkeypatch.setattr(picture, "_shown_bands", lambda before, after: (("B04", "B03"), ""))
    first, _ = date_pictures(scene, scene, grid, options=PairOptions(scale=(0.01, 0.01)))
    plan = reduction(*grid.shape)
    assert first.extent == plan.extent
    image, valid = seen["image"]
    rows, cols = (np.arange(length) * plan.factor + plan.factor / 2 for length in (plan.height, plan.width))
    inside = np.s_[: 203 // plan.factor, : 190 // plan.factor]
    assert valid[inside].all()
    # Nearest samples of a step, and overviews of even more, are off by less than half of one.
    off = plan.step / 2 + 1e-3
    np.testing.assert_allclose(image[0][inside], np.broadcast_to(rows[:, None], valid.shape)[inside], atol=off)
    np.testing.assert_allclose(image[1][inside], np.broadcast_to(cols, valid.shape)[inside], atol=off)
    assert abs(np.mean((image[0] - rows[:, None])[inside])) <= 0.51


def test_the_last_picture_pixels_show_nothing_from_beyond_the_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "MOST_PX", 400)
    image = np.full((50, 64), 2000, np.uint16)
    image[:45, :61] = 1000  # the grid: what lies beyond belongs to the scene and not to the pair
    first, _ = _shown(_scenes(tmp_path, image, image), geobox(45, 61))
    assert reduction(45, 61).extent > (45, 61)
    assert len(np.unique(first[..., 0])) == 1


def test_the_shift_that_the_run_removed_is_removed_here_too(tmp_path: Path) -> None:
    image = (10_000 * texture(60, 60, smooth=3)).astype(np.uint16)
    scenes = [
        open_scene(write_raster(tmp_path / "b.tif", image)),
        open_scene(write_raster(tmp_path / "a.tif", np.roll(image, (2, 3), (0, 1)))),
    ]
    first, second = date_pictures(
        *scenes, geobox(60, 60), options=PairOptions(), displacements=(NONE, Displacement.constant(2.0, 3.0))
    )
    inner = np.s_[8:-8, 8:-8, 0]
    np.testing.assert_allclose(pixels(first)[inner].astype(int), pixels(second)[inner], atol=25)


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("blue", "green", "red", "nir"), "natural colour (B04 (red), B03 (green), B02 (blue) as red, green, blue)"),
        (("green", "red", "nir"), "false colour (B08 (nir), B04 (red), B03 (green) as red, green, blue)"),
        (None, "band 1, band 2, band 3 as red, green, blue"),
        (("red", "nir"), "B04 (red) in grey"),
    ],
)
def test_the_alternative_text_says_what_the_colours_are(tmp_path: Path, names: tuple[str, ...], shown: str) -> None:
    image = np.stack([(10_000 * texture(16, 16, seed=band)).astype(np.uint16) for band in range(len(names or "123"))])
    scenes = _scenes(tmp_path, image, image, names=names)
    first, _ = date_pictures(*scenes, geobox(16, 16), options=PairOptions(), names=("Before, 1 May 2020", "After"))
    assert first.alt == f"Before, 1 May 2020, {shown}"


def test_the_probability_is_shown_in_its_colours_and_transparent_where_unknown(tmp_path: Path) -> None:
    stored = np.full((32, 48), 255, np.uint8)
    stored[:, :16], stored[:, 16:32] = 0, 254
    shown = pixels(probability_picture(write_raster(tmp_path / "probability.tif", stored, nodata=255)))
    assert (shown[:, 34:, 3] == 0).all()
    assert (shown[:, :30, 3] == 255).all()
    np.testing.assert_allclose(shown[16, 4, :3].astype(int), RAMP[0][1], atol=6)
    np.testing.assert_allclose(shown[16, 26, :3].astype(int), RAMP[-1][1], atol=6)


def test_noise_is_encoded_within_the_budget() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (500, 600, 4), dtype=np.uint8)
    noise[..., 3] = 255
    uri = encode(noise, most_bytes=60_000)
    assert len(base64.b64decode(uri.partition(",")[2])) <= 60_000
    assert pixels(uri).shape[:2] < noise.shape[:2]


def test_a_rotated_grid_is_drawn_as_it_lies(tmp_path: Path) -> None:
    turned = Affine.translation(500_000, 5_600_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    image = (10_000 * texture(30, 30)).astype(np.uint16)
    scenes = _scenes(tmp_path, image, image, transform=turned)
    first, _ = _shown(scenes, geobox(30, 30, crs=UTM, transform=turned))
    assert (first[..., 3] == 255).all()
