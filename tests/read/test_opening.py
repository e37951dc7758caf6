from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from changedet.errors import ConfigError, NotFoundError
from changedet.read import open_scene
from changedet.read.bands import PRESETS, parse_mapping, parse_mappings
from changedet.write.provenance import fingerprint
from tests.data import texture, write_raster
from tests.products import make_landsat, make_safe


def _files(folder: Path, *names: str) -> list[Path]:
    return [write_raster(folder / name, texture(12, 10, seed=seed)) for seed, name in enumerate(names)]


def test_a_list_of_files_is_a_scene_however_it_is_written(tmp_path: Path) -> None:
    files = _files(tmp_path, "x_B08.tif", "x_B04.tif")
    for source in (files, ",".join(map(str, files)), str(tmp_path / "x_*.tif")):
        scene = open_scene(source)
        assert scene.names == ("B04", "B08")
        assert [Path(band.path).name for band in scene.bands] == ["x_B04.tif", "x_B08.tif"]


def _band_files(folder: Path) -> Path:
    _files(folder, "x_B04.tif", "x_B08.tif")
    return folder


@pytest.mark.parametrize("make", [_band_files, make_safe, make_landsat])
def test_what_macos_leaves_beside_files_is_no_part_of_a_scene(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    folder = make(tmp_path)
    scene = open_scene(folder)
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
    assert open_scene(folder) == scene


def test_a_list_longer_than_a_name_may_be_is_a_scene_and_known_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"T33UXQ_20180328T100021_B{number:02d}_10m.tif" for number in range(1, 13)]
    scene = open_scene(",".join(path.name for path in _files(tmp_path, *names)))
    assert len(scene.bands) == 12
    assert fingerprint(scene.path, scene.files)["files"] == 12
    with pytest.raises(NotFoundError, match="does not exist"):
        open_scene("x" * 300)


def test_files_whose_names_say_nothing_keep_their_order_or_are_mapped(tmp_path: Path) -> None:
    files = _files(tmp_path, *(f"{letter}.tif" for letter in "abcdefghijk"))
    assert open_scene(files).names == tuple(map(str, range(1, 12)))
    mapped = open_scene(files, mapping={"B08": 2, "B04": "k"})
    assert {band.name: Path(band.path).stem for band in mapped.bands} == {"B08": "b", "B04": "k"}


def test_a_pattern_without_files_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        open_scene(str(tmp_path / "*.tif"))


def test_a_path_with_a_comma_is_one_file_where_it_exists(tmp_path: Path) -> None:
    (path,) = _files(tmp_path, "a,b.tif")
    assert open_scene(str(path)).names == ("1",)


def test_a_vsi_path_is_left_to_gdal(tmp_path: Path) -> None:
    import zipfile

    (path,) = _files(tmp_path, "B04.tif")
    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        archive.write(path, "B04.tif")
    assert open_scene(f"/vsizip/{tmp_path}/scene.zip/B04.tif").geobox.shape == (12, 10)


@pytest.mark.parametrize(
    ("preset", "count", "names"),
    [
        ("sentinel-2", 13, PRESETS["sentinel-2"][0]),
        ("sentinel-2", 12, PRESETS["sentinel-2"][1]),
        ("sentinel-2", 4, ("B02", "B03", "B04", "B08")),
        ("naip", 4, ("B04", "B03", "B02", "B08")),
        ("rgb", 5, ("B04", "B03", "B02")),
        ("landsat-8", 7, ("B01", "B02", "B03", "B04", "B8A", "B11", "B12")),
        ("landsat-7", 8, ("B02", "B03", "B04", "B08", "B11", "B12")),
    ],
)
def test_a_preset_names_a_stack(tmp_path: Path, preset: str, count: int, names: tuple[str, ...]) -> None:
    path = write_raster(tmp_path / "stack.tif", np.ones((count, 6, 5), np.uint16))
    scene = open_scene(path, mapping=parse_mapping(preset))
    assert scene.names == names
    # One near infrared stands for both kinds, but the broad one of Sentinel-2 is no narrow one.
    either = preset in ("naip", "landsat-8", "landsat-7") or {"B08", "B8A"} <= set(names)
    assert ({"B08", "B8A"} <= scene.offers) == either


def test_a_preset_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "stack.tif", np.ones((5, 6, 5), np.uint16))
    with pytest.raises(ConfigError, match=r"--bands sentinel-2 for .* which has 5 bands") as caught:
        open_scene(path, mapping="sentinel-2")
    assert "13 or 12 or 10 or 4 bands" in str(caught.value)


def test_bands_are_found_by_their_description(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "stack.tif", np.ones((2, 6, 5), np.uint16), names=["Surface one", "Surface two"])
    scene = open_scene(path, mapping=parse_mapping("red=surface TWO"))
    assert [(band.name, band.index) for band in scene.bands] == [("B04", 2)]
    with pytest.raises(ConfigError, match="0 bands described as 'three'"):
        open_scene(path, mapping=parse_mapping("red=three"))


def test_mappings_are_one_for_all_dates_or_one_a_date() -> None:
    assert parse_mappings("rgb", 3) == ("rgb", "rgb", "rgb")
    assert parse_mappings("red=3/naip", 2) == ({"B04": 3}, "naip")
    with pytest.raises(ConfigError, match="3 band mappings for 2 dates"):
        parse_mappings("rgb/rgb/rgb", 2)


def test_a_mapping_for_a_folder_is_refused(tmp_path: Path) -> None:
    _files(tmp_path, "B04.tif")
    with pytest.raises(ConfigError, match="a band mapping for the folder"):
        open_scene(tmp_path, mapping="rgb")
