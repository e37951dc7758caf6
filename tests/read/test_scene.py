from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from changedet.errors import ConfigError, NotFoundError, SceneError
from changedet.grid import Window
from changedet.read import open_pair, open_scene
from changedet.read.dates import parse_date
from tests.data import coordinates, geobox, texture, write_raster

FINE = geobox(120, 100)


def _band(folder: Path, name: str, grid: GeoBox) -> Path:
    """Write a band file that holds the row on the fine grid (thousandths)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = coordinates(grid, FINE)[0] / 1000
    return write_raster(folder / name, rows, transform=grid.affine, crs=str(grid.crs))


def test_folder_finds_bands_by_name_and_takes_the_finest(tmp_path):
    for name, grid in [
        ("T31_B02_60m.tif", FINE.zoom_out(6)),
        ("T31_B02_10m.tif", FINE),
        ("T31_B02_20m.tif", FINE.zoom_out(2)),
        ("T31_B05_20m.tif", FINE.zoom_out(2)),
        ("nir.TIF", FINE),
        ("T31_TCI.tif", FINE),
    ]:
        _band(tmp_path / "scene", name, grid)
    (tmp_path / "scene" / "B03.txt").write_text("no raster")
    scene = open_scene(tmp_path / "scene")
    assert scene.names == ("B02", "B05", "B08")
    assert Path(scene.bands[0].path).name == "T31_B02_10m.tif"
    assert scene.geobox == FINE
    assert scene.select(("B05",)).geobox == FINE.zoom_out(2)


def test_coarse_bands_are_interpolated_onto_the_finest(tmp_path):
    _band(tmp_path / "scene", "B04.tif", FINE)
    _band(tmp_path / "scene", "B05.tif", FINE.zoom_out(2))
    _band(tmp_path / "scene", "B01.tif", FINE.zoom_out(5))
    with open_pair(tmp_path / "scene", tmp_path / "scene", scale=1, bands=("B04", "B05", "B01")) as pair:
        chip = pair.read(Window(0, 0, 120, 100))
    assert chip.valid.all()
    fine, *coarse = chip.before * 1000
    # Within half a coarse pixel of the edge there is nothing to interpolate with.
    for band, edge in zip(coarse, (1, 3), strict=True):
        assert np.abs(band - fine)[edge:-edge].max() < 0.05
    assert np.array_equal(chip.before, chip.after)


def test_bands_come_in_the_order_asked_for(tmp_path):
    image = np.stack([texture(20, 20, seed=seed) for seed in range(3)])
    path = write_raster(tmp_path / "scene.tif", image, names=["red", "green", "blue"])
    with open_pair(path, path, bands=("B02", "B04")) as pair:
        assert np.array_equal(pair.read(Window(0, 0, 20, 20)).before, image[[2, 0]])


def test_names_come_from_mapping_else_descriptions_else_colours(tmp_path):
    image = np.ones((4, 9, 9), "uint8")
    described = write_raster(tmp_path / "described.tif", image, names=["B02", "green", "B5", "nir"])
    coloured = write_raster(tmp_path / "coloured.tif", image, photometric="RGB")
    with rasterio.open(coloured, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    assert open_scene(described).names == ("B02", "B03", "3", "B08")
    assert open_scene(coloured).names == ("B04", "B03", "B02")
    assert open_scene(described, mapping={"B11": 3}).names == ("B11",)


def test_names_given_twice_are_not_trusted(tmp_path):
    path = write_raster(tmp_path / "scene.tif", np.ones((2, 9, 9), "uint8"), names=["red", "B04"])
    assert open_scene(path).names == ("1", "2")


def test_mapping_beyond_the_file_is_refused(tmp_path):
    path = write_raster(tmp_path / "scene.tif", np.ones((2, 9, 9), "uint8"))
    with pytest.raises(ConfigError, match=r"\{'B08': 4\}.* which has 2 bands"):
        open_scene(path, mapping={"B04": 1, "B08": 4})


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match=r"nothing\.tif does not exist"):
        open_scene(tmp_path / "nothing.tif")


def test_what_is_no_raster_is_refused(tmp_path):
    (tmp_path / "notes.tif").write_text("not a raster")
    with pytest.raises(SceneError, match=r"notes\.tif cannot be opened as a raster"):
        open_scene(tmp_path / "notes.tif")


def test_truncated_header_is_refused(tmp_path):
    path = write_raster(tmp_path / "scene.tif", texture(60, 60))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SceneError, match="cannot be opened as a raster"):
        open_scene(path)


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    def refused(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(SceneError, match="may not be read"):
        open_scene(tmp_path)


def test_raster_without_crs_is_refused(tmp_path):
    path = write_raster(tmp_path / "scene.tif", texture(9, 9), crs=None)
    with pytest.raises(SceneError, match="no coordinate reference system"):
        open_scene(path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_picture_without_any_georeference_is_refused(tmp_path):
    path = tmp_path / "picture.png"
    with rasterio.open(path, "w", driver="PNG", height=9, width=9, count=1, dtype="uint8") as dataset:
        dataset.write(np.ones((1, 9, 9), "uint8"))
    with pytest.raises(SceneError, match="no coordinate reference system"):
        open_scene(path)


def test_folder_without_bands_is_refused(tmp_path):
    with pytest.raises(SceneError, match="no band files in the folder"):
        open_scene(tmp_path)


def test_folder_of_stacks_or_of_two_crs_is_refused(tmp_path):
    write_raster(tmp_path / "B02.tif", np.ones((2, 9, 9), "uint8"))
    with pytest.raises(SceneError, match="one band a file"):
        open_scene(tmp_path)
    _band(tmp_path, "B02.tif", FINE)
    _band(tmp_path, "B03.tif", FINE.to_crs("EPSG:32632"))
    with pytest.raises(SceneError, match="2 different CRSs"):
        open_scene(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20180328", "2018-03-28"),
        ("2018-03-28T10:50:31Z", "2018-03-28"),
        ("2018:03:28 10:50:31", "2018-03-28"),
        ("20181328", None),
        ("201803281", None),
        ("March 2018", None),
    ],
)
def test_dates_are_read_or_left_unknown(text, expected):
    assert parse_date(text) == expected


def test_date_of_acquisition_comes_before_the_date_of_the_file(tmp_path):
    tags = {"TIFFTAG_DATETIME": "2020:01:01 00:00:00", "ACQUISITION_DATE": "2018-03-28"}
    assert open_scene(write_raster(tmp_path / "a.tif", texture(9, 9), tags=tags)).date == "2018-03-28"
    assert open_scene(write_raster(tmp_path / "20180328.tif", texture(9, 9))).date is None


def test_dates_of_oscd_folders_come_from_dates_txt(tmp_path):
    (tmp_path / "dates.txt").write_text("date_1: 20160120\ndate_2: 20180328\n")
    for name in ("imgs_1", "imgs_2", "other"):
        _band(tmp_path / name, "B02.tif", FINE)
    dates = [open_scene(tmp_path / name).date for name in ("imgs_1", "imgs_2", "other")]
    assert dates == ["2016-01-20", "2018-03-28", None]
