import numpy as np
import pytest

from changedet.read import open_scene
from changedet.read.interpret import nodata_of, scaling_of
from tests.data import texture, write_raster


@pytest.mark.parametrize(
    ("dtype", "largest", "scale", "why"),
    [
        ("uint8", 255, 1 / 255, "8-bit"),
        ("uint16", 10_000, 1e-4, "times 10,000"),
        ("int16", 10_000, 1e-4, "times 10,000"),
        ("float32", 1.2, 1.0, "reflectance already"),
        ("float32", 10_000, 1e-4, "times 10,000"),
    ],
)
def test_reflectance_follows_from_the_type(tmp_path, dtype, largest, scale, why):
    image = texture(40, 40) / 0.5 * largest
    path = write_raster(tmp_path / "scene.tif", image.astype(dtype))
    scene = open_scene(path)
    (scaling,) = scaling_of(scene, nodata_of(scene, scene))
    assert (scaling.scale, scaling.offset) == (scale, 0.0)
    assert why in scaling.why


def test_tags_come_before_the_type_and_the_user_before_the_tags(tmp_path):
    path = write_raster(tmp_path / "scene.tif", np.ones((9, 9), "uint16"), scale=2.75e-05, offset=-0.2)
    scene = open_scene(path)
    nodata = nodata_of(scene, scene)
    (tagged,) = scaling_of(scene, nodata)
    (asked,) = scaling_of(scene, nodata, 0.5)
    assert (tagged.scale, tagged.offset, tagged.why) == (2.75e-05, -0.2, "scale and offset tags")
    assert (asked.scale, asked.offset, asked.why) == (0.5, 0.0, "as asked")


@pytest.mark.parametrize("kind", ["mask", "alpha", "nodata", "asked"])
def test_bytes_without_data_say_nothing_about_the_scale(tmp_path, kind):
    valid = np.zeros((40, 40), bool)
    valid[:8] = True
    image = np.where(valid, texture(40, 40), 9_000).astype("float32")
    told = {"mask": {"mask": valid}, "alpha": {"alpha": valid * 255}, "nodata": {"nodata": 9_000}, "asked": {}}[kind]
    path = write_raster(tmp_path / "scene.tif", np.stack([image] * 4), **told)
    scene = open_scene(path)
    asked = 9_000 if kind == "asked" else None
    assert {scaling.scale for scaling in scaling_of(scene, nodata_of(scene, scene, asked))} == {1.0}


@pytest.mark.parametrize(
    ("dtype", "own", "theirs", "value", "all_bands"),
    [
        ("uint16", 7, None, 7, False),
        ("uint16", 0, None, 0, True),
        ("uint16", None, None, 0, True),
        ("uint16", None, 7, 7, False),
        ("int16", None, None, None, False),
        ("int16", None, -9999, -9999, False),
        ("float32", None, None, None, False),
        ("float32", np.nan, None, None, False),
        ("float32", 0, None, 0, False),
    ],
)
def test_what_marks_a_pixel_without_data(tmp_path, dtype, own, theirs, value, all_bands):
    image = np.ones((9, 9), dtype)
    scene = open_scene(write_raster(tmp_path / "own.tif", image, nodata=own))
    other = open_scene(write_raster(tmp_path / "other.tif", image, nodata=theirs))
    (nodata,) = nodata_of(scene, other)
    assert (nodata.value, nodata.all_bands) == (value, all_bands)


def test_value_of_another_type_is_not_borrowed(tmp_path):
    scene = open_scene(write_raster(tmp_path / "own.tif", np.ones((9, 9), "int16")))
    other = open_scene(write_raster(tmp_path / "other.tif", np.ones((9, 9), "float32"), nodata=1))
    assert nodata_of(scene, other)[0].value is None
    assert nodata_of(scene, other, override=5)[0].value == 5
