"""Our own resampler against coordinate images and GDAL's."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject

from changedet.grid import Window
from changedet.read import RasterPair, open_pair
from changedet.read.displacement import Displacement
from changedet.read.pair import Correction
from changedet.read.resample import Locator, resample
from tests.data import coordinates, geobox, texture, write_raster

GRID = geobox(150, 130)
WHOLE = Window(0, 0, 150, 130)
# Up to 2 px, bending: what terrain and a jittering platform do to a scene.
BENT = Displacement(
    (20.0, 75.0, 130.0),
    (20.0, 65.0, 110.0),
    ((0.4, -0.8, 0.1), (1.2, 0.3, -0.5), (-1.9, 0.0, 0.6)),
    ((-0.7, 0.2, 1.1), (0.0, -1.5, 0.4), (0.9, 0.8, -0.2)),
)
SOURCES = {
    "same lattice": GRID.pad(4),
    "part of a pixel": geobox(164, 142, row=-6.37, col=-5.61),
    "turned": GRID.pad(40).rotate(20),
    "south up": GRID.pad(4).flipy(),
    "neighbouring UTM zone": GRID.pad(8).to_crs("EPSG:32632"),
    "pixels of 20 m": GRID.pad(8).zoom_out(2),
}


def _pair(folder: Path, source: GeoBox, displacement: Displacement) -> RasterPair:
    """Return a pair whose after date holds row and column on the pair's grid, found where the displacement says."""
    height, width = source.shape
    true = coordinates(source, GRID)
    before = np.concatenate([coordinates(GRID, GRID) / 1000, texture(150, 130)[None]])
    after = np.concatenate([true / 1000, texture(height, width)[None]]).astype(np.float32)
    write_raster(folder / "before.tif", before)
    write_raster(folder / "after.tif", after, crs=str(source.crs), transform=source.affine)
    with open_pair(folder / "before.tif", folder / "after.tif", scale=1) as pair:
        return pair.corrected(Correction(displacement))


@pytest.mark.parametrize("name", SOURCES)
def test_every_pixel_is_found_where_the_field_says(tmp_path: Path, name: str) -> None:
    rows, cols = np.indices((150, 130)) + 0.5
    down, right = BENT.at(rows, cols)
    with _pair(tmp_path, SOURCES[name], BENT) as pair:
        assert pair.readers[1].placements[str(tmp_path / "after.tif")].how == "displaced"
        chip = pair.read(WHOLE)
    assert chip.valid[4:-4, 4:-4].all()
    found = chip.after[:2].astype(float) * 1000
    error = np.abs(found - [rows + down, cols + right])[:, chip.valid]
    # The coordinate image is linear but for the curvature of another zone: interpolation adds nothing of its own.
    assert error.max() < 0.01


@pytest.mark.parametrize("name", SOURCES)
def test_windows_are_bit_equal_to_the_whole(tmp_path: Path, name: str) -> None:
    with _pair(tmp_path, SOURCES[name], BENT) as pair:
        whole = pair.read(WHOLE)
        for window in (Window(0, 0, 70, 64), Window(37, 51, 23, 41), Window(149, 129, 1, 1)):
            chip = pair.read(window)
            assert np.array_equal(chip.valid, whole.valid[window.slices])
            assert np.array_equal(chip.after, whole.after[:, *window.slices])


@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("name", ["part of a pixel", "turned", "neighbouring UTM zone"])
def test_without_a_displacement_it_is_gdal(tmp_path: Path, name: str, kernel: str) -> None:
    source = SOURCES[name]
    image = texture(*source.shape)
    path = write_raster(tmp_path / "source.tif", image, crs=str(source.crs), transform=source.affine)
    ours = resample(
        lambda window: image[None, *window.slices],
        source.shape,
        *Locator(source, GRID, Displacement()).locate(WHOLE),
        count=1,
        kernel=kernel,
    )[0]
    expected = np.full((150, 130), np.nan, np.float32)
    with rasterio.open(path) as dataset:
        reproject(
            rasterio.band(dataset, 1),
            expected,
            dst_transform=GRID.affine,
            dst_crs=str(GRID.crs),
            dst_nodata=np.nan,
            resampling=Resampling[kernel],
            tolerance=1e-6,
            XSCALE=1,
            YSCALE=1,
        )
    inner = np.s_[5:-5, 5:-5]
    if kernel == "nearest":  # the last bit of a coordinate may tip a point over a pixel's edge
        assert (ours[inner] == expected[inner]).mean() > 0.999
    else:
        np.testing.assert_allclose(ours[inner], expected[inner], atol=1e-4)


def test_a_finer_source_is_averaged_and_not_aliased() -> None:
    """Stripes finer than the target's pixels become their mean."""
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (240, 120))
    target = geobox(40, 40).zoom_out(1)
    source = geobox(40, 40).zoom_to(resolution=10 / 6)
    locator = Locator(source, target, Displacement.constant(0.3, 0.2))
    window = Window(4, 4, 30, 30)
    seen = resample(
        lambda part: stripes[None, *part.slices], (240, 240), *locator.locate(window), count=1, scale=(1 / 6, 1 / 6)
    )
    assert np.abs(seen - 0.5).max() < 0.02


def test_missing_pixels_spread_no_further_than_themselves() -> None:
    image: NDArray[np.float32] = np.full((1, 20, 20), 0.25, np.float32)
    image[:, 8:12, 8:12] = np.nan
    locator = Locator(geobox(20, 20), geobox(20, 20), Displacement.constant(0.4, 0.4))
    seen = {
        kernel: resample(
            lambda part: image[:, *part.slices], (20, 20), *locator.locate(Window(2, 2, 15, 15)), count=1, kernel=kernel
        )
        for kernel in ("bilinear", "cubic")
    }
    for values in seen.values():
        assert np.isnan(values[0]).sum() == 16
        assert np.nanmax(np.abs(values - 0.25)) < 1e-6
