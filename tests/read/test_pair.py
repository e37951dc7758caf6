"""Coordinate images: every pixel says where it lies, so that any slip is a number."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject

from changedet.errors import PairError
from changedet.grid import Window
from changedet.read import RasterPair, open_pair
from changedet.read.align import Placement
from tests.data import coordinates, geobox, texture, write_raster

GRID = geobox(150, 130)

MOVED = {
    "origin off by part of a pixel": geobox(164, 142, row=-6.37, col=-5.61),
    "neighbouring UTM zone": GRID.pad(8).to_crs("EPSG:32632"),
    "geographic": GeoBox.from_bbox(GRID.pad(8).geographic_extent.boundingbox, "EPSG:4326", shape=(166, 146)),
    "geographic, square in degrees": GRID.pad(8).to_crs("EPSG:4326"),
    "pixels of 20 m": GRID.pad(8).zoom_out(2),
    "pixels of 7 m": GRID.pad(8).zoom_to(resolution=7),
    "south up, part of a pixel": geobox(164, 142, row=-6.37, col=-5.61).flipy(),
    "south up": GRID.pad(4).flipy(),
}


def _write(path: Path, grid: GeoBox) -> Path:
    """Write row and column on `GRID` (thousandths), and a texture."""
    height, width = grid.shape
    image = np.concatenate([coordinates(grid, GRID) / 1000, texture(height, width)[None]])
    return write_raster(path, image.astype(np.float32), crs=str(grid.crs), transform=grid.affine)


def _pair(folder: Path, after: GeoBox, before: GeoBox = GRID) -> RasterPair:
    return open_pair(_write(folder / "before.tif", before), _write(folder / "after.tif", after), scale=1)


def _whole(pair: RasterPair) -> Window:
    height, width = pair.geobox.shape
    return Window(0, 0, height, width)


def _placing(pair: RasterPair) -> str:
    return next(iter(pair.readers[1].placements.values())).how


@pytest.mark.parametrize(("row", "col"), [(0, 0), (-7, 12), (31, -5)])
def test_grids_a_whole_number_of_pixels_apart_are_read_as_they_are(tmp_path, row, col):
    with _pair(tmp_path, geobox(120, 140, row=row, col=col)) as pair:
        chip = pair.read(_whole(pair))
        assert _placing(pair) == "direct"
        assert pair.geobox.shape == (min(150, row + 120) - max(0, row), min(130, col + 140) - max(0, col))
        expected = (coordinates(pair.geobox, GRID) / 1000).astype(np.float32)
    assert chip.valid.all()
    assert np.array_equal(chip.before[:2], expected)
    assert np.allclose(chip.after[:2], expected, atol=1e-6)


@pytest.mark.parametrize("name", MOVED)
def test_warped_pixels_lie_where_they_belong(tmp_path, name):
    with _pair(tmp_path, MOVED[name]) as pair:
        assert _placing(pair) == "warped"
        assert pair.geobox == GRID
        chip = pair.read(_whole(pair))
    assert chip.valid.all()
    error = (chip.after[:2] - chip.before[:2]) * 1000
    # A kernel of 1.6 pixels has a ripple of its own on a ramp; where it lies on average is what counts.
    assert np.abs(error).max() < (0.1 if "square in degrees" in name else 0.05)
    assert np.abs(error.mean(axis=(1, 2))).max() < 0.005


@pytest.mark.parametrize("name", MOVED)
def test_windows_equal_the_whole(tmp_path, name):
    with _pair(tmp_path, MOVED[name]) as pair:
        whole = pair.read(_whole(pair))
        for window in [Window(0, 0, 64, 64), Window(37, 51, 23, 41), Window(100, 5, 50, 125), Window(149, 129, 1, 1)]:
            chip = pair.read(window)
            assert np.array_equal(chip.valid, whole.valid[window.slices])
            assert np.abs(chip.after - whole.after[:, *window.slices]).max() <= 1e-5
            assert np.array_equal(chip.before, whole.before[:, *window.slices])


def test_south_up_before_is_the_grid(tmp_path):
    with _pair(tmp_path, GRID, before=GRID.flipy()) as pair:
        chip = pair.read(_whole(pair))
        assert pair.geobox == GRID.flipy()
    assert chip.before[0, 0, 0] > chip.before[0, -1, 0]
    assert np.abs(chip.after - chip.before)[:2, chip.valid].max() * 1000 < 0.05


def test_what_a_rotated_footprint_leaves_out_is_invalid(tmp_path):
    # 32632 lies askew on this grid: the corners of the overlap are in no pixel of the after date.
    source = GRID.pad(-40).to_crs("EPSG:32632")
    with _pair(tmp_path, source) as pair:
        chip = pair.read(_whole(pair))
        rows, cols = coordinates(pair.geobox, source)
    height, width = source.shape
    inside = (rows > 0) & (rows < height) & (cols > 0) & (cols < width)
    assert not chip.valid[0, 0]
    assert (chip.valid == inside).mean() > 0.995
    depth = np.minimum.reduce([rows, cols, height - rows, width - cols])
    assert np.array_equal(chip.valid[np.abs(depth) > 0.5], inside[np.abs(depth) > 0.5])


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    crs=st.sampled_from(["EPSG:32633", "EPSG:32632", "EPSG:4326", "EPSG:3035"]),
    zoom=st.sampled_from([0.8, 1.0, 1.0, 1.7, 3.0]),
    angle=st.sampled_from([0, 0, 17, 90, 180]),
    row=st.floats(-4, 4),
    col=st.floats(-4, 4),
    kernel=st.sampled_from(["bilinear", "cubic"]),
)
def test_a_drawn_pair_equals_rasterio_reproject_of_the_whole(tmp_path, crs, zoom, angle, row, col, kernel):
    source = GRID.pad(60).to_crs(crs).zoom_out(zoom).rotate(angle).translate_pix(col, row)
    before, after = _write(tmp_path / "before.tif", GRID), _write(tmp_path / "after.tif", source)
    window = Window(20, 30, 60, 50)
    with open_pair(before, after, scale=1, resampling=kernel) as pair:
        placement = next(iter(pair.readers[1].placements.values()))
        chip = pair.read(window)
        grid = pair.geobox
    part = _reprojected(after, grid, placement, Resampling[kernel])[:, *window.slices]
    assert np.array_equal(chip.valid, np.isfinite(part).all(axis=0))
    # A millionth of a pixel, as far as GDAL may be off here, on a texture that changes by up to 0.2 a px; then float32.
    assert np.abs(chip.after - part)[:, chip.valid].max() <= 5e-7


def _reprojected(path: Path, grid: GeoBox, placement: Placement, kernel: Resampling) -> NDArray[np.float32]:
    """Return a file on a grid by rasterio's `reproject`, with one constant width of the kernel for the whole.

    `reproject` ignores `tolerance` (rasterio 1.4): in lines of more than five pixels it interpolates coordinates
    between those it computes, which puts pixels of these grids up to 3e-3 px off. So it does five columns at a time.
    """
    height, width = grid.shape
    whole = np.full((3, height, width), np.nan, np.float32)
    with rasterio.open(path) as dataset:
        for col in range(0, width, 5):
            strip = np.full((3, height, min(5, width - col)), np.nan, np.float32)
            reproject(
                rasterio.band(dataset, [1, 2, 3]),
                strip,
                dst_transform=grid[:, col:].affine,
                dst_crs=str(grid.crs),
                dst_nodata=np.nan,
                src_nodata=np.nan,
                resampling=kernel,
                XSCALE=placement.x_scale,
                YSCALE=placement.y_scale,
            )
            whole[:, :, col : col + strip.shape[2]] = strip
    return whole


def test_shift_is_removed_by_reading_where_the_pixels_are_found(tmp_path):
    # What lies at (r, c) before is found at (r + 0.7, c - 1.3) after.
    found = coordinates(GRID, geobox(150, 130, row=0.7, col=-1.3))
    before = write_raster(tmp_path / "before.tif", coordinates(GRID, GRID))
    after = write_raster(tmp_path / "after.tif", found)
    with open_pair(before, after, scale=1) as pair, pair.shifted((0.7, -1.3)) as corrected:
        chip = corrected.read(_whole(pair))
    inner = chip.valid.copy()
    inner[[0, 1, -2, -1]] = inner[:, [0, 1, -2, -1]] = False
    assert inner.sum() == 146 * 126
    assert np.abs(chip.after - chip.before)[:, inner].max() < 0.01


def test_only_the_overlap_is_compared(tmp_path):
    with _pair(tmp_path, geobox(100, 100, row=60, col=50)) as pair:
        assert pair.geobox == GRID[60:150, 50:130]


def test_bounds_crop_to_the_pixels_they_touch(tmp_path):
    before, after = _write(tmp_path / "before.tif", GRID), _write(tmp_path / "after.tif", GRID)
    with open_pair(before, after, bounds=(500_105, 5_599_300, 500_300, 5_599_895)) as pair:
        assert pair.geobox == GRID[10:70, 10:30]
    with pytest.raises(PairError, match="lie outside the pair"):
        open_pair(before, after, bounds=(0, 0, 10, 10))


@pytest.mark.parametrize("apart", [geobox(50, 50, row=400), geobox(50, 50).to_crs("EPSG:32632").translate_pix(500, 0)])
def test_scenes_apart_are_refused(tmp_path, apart):
    with pytest.raises(PairError, match="do not overlap: before covers longitude"):
        _pair(tmp_path, apart)


def test_scenes_without_a_band_in_common_are_refused(tmp_path):
    before = write_raster(tmp_path / "before.tif", texture(20, 20), names=["B04"])
    after = write_raster(tmp_path / "after.tif", texture(20, 20), names=["B08"])
    with pytest.raises(PairError, match="the same bands at both dates"):
        open_pair(before, after)


def test_nameless_scenes_of_other_band_counts_are_refused(tmp_path):
    before = write_raster(tmp_path / "before.tif", np.stack([texture(20, 20)] * 4))
    after = write_raster(tmp_path / "after.tif", np.stack([texture(20, 20)] * 2))
    with pytest.raises(PairError, match=r"--bands red=3"):
        open_pair(before, after)
    with open_pair(before, after, mapping={"B04": 2}) as pair:
        assert pair.bands == ("B04",)


def test_missing_band_is_named_with_its_mapping(tmp_path):
    path = write_raster(tmp_path / "scene.tif", texture(20, 20), names=["B04"])
    with pytest.raises(PairError, match=r"missing: B08 \(nir\)") as caught:
        open_pair(path, path, bands=("B04", "B08"))
    assert "--bands red=1,nir=2" in str(caught.value)
