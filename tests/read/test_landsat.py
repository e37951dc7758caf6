import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from changedet.errors import SceneError
from changedet.grid import Window
from changedet.read import open_pair, open_scene
from tests.products import ground, make_landsat, make_safe

WHOLE = Window(0, 0, 20, 20)


@pytest.mark.parametrize(("level", "told"), [(2, "surface reflectance"), (1, "top of atmosphere")])
@pytest.mark.parametrize("sensor", ["LC08", "LE07"])
def test_both_levels_give_the_reflectance_of_the_ground(tmp_path: Path, level: int, told: str, sensor: str) -> None:
    scene = open_scene(make_landsat(tmp_path, level=level, sensor=sensor))
    assert (scene.date, scene.product) == ("2020-06-01", f"Landsat Collection 2 {sensor}, {told}")
    with open_pair(scene.path, scene.path, bands=("B04", "B08", "B8A")) as pair:
        chip = pair.read(WHOLE)
    assert chip.valid[1:].all()
    assert not chip.valid[0].any()
    np.testing.assert_allclose(chip.before[2, 1:], ground(600, 30)[1:], atol=5e-5)


def test_quality_bits_hide_clouds_and_their_shadows(tmp_path: Path) -> None:
    quality = np.full((20, 20), 1 << 6, np.uint16)  # clear
    quality[3, 4] = 1 << 3  # cloud
    quality[5, 6] = 1 << 4  # shadow
    quality[7, 8] = 1 << 5  # snow, which stays
    folder = make_landsat(tmp_path, quality=quality)
    with open_pair(folder, folder) as pair:
        valid = pair.read(WHOLE).valid
    assert not valid[3, 4]
    assert not valid[5, 6]
    assert (~valid).sum() == 20 + 2


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("form", ["json", "xml"])
def test_the_metadata_may_be_json_or_xml(tmp_path: Path, form: str, level: int) -> None:
    folder = make_landsat(tmp_path, level=level)
    expected = [(band.name, band.scale, band.offset) for band in open_scene(folder).bands]
    (text,) = folder.glob("*_MTL.txt")
    write = {"json": _as_json, "xml": _as_xml}[form]
    text.with_suffix(f".{form}").write_text(write(text.read_text()))
    text.unlink()
    scene = open_scene(folder)
    assert [(band.name, band.scale, band.offset) for band in scene.bands] == expected
    assert scene.date == "2020-06-01"


def _groups(text: str) -> dict[str, dict[str, str]]:
    groups = re.findall(r"  GROUP = (\w+)\n(.*?)  END_GROUP", text, re.DOTALL)
    return {name: dict(re.findall(r"(\w+) = (\S+)", content)) for name, content in groups}


def _as_json(text: str) -> str:
    return json.dumps({"LANDSAT_METADATA_FILE": _groups(text)})


def _as_xml(text: str) -> str:
    root = ET.Element("LANDSAT_METADATA_FILE")
    for name, values in _groups(text).items():
        group = ET.SubElement(root, name)
        for key, value in values.items():
            ET.SubElement(group, key).text = value
    return ET.tostring(root, encoding="unicode")


@pytest.mark.parametrize("form", ["json", "xml"])
@pytest.mark.parametrize("content", ["", "[]", "{", "<a>", '{"LANDSAT_METADATA_FILE": {"A": 1}}'])
def test_damaged_metadata_are_refused(tmp_path: Path, form: str, content: str) -> None:
    folder = make_landsat(tmp_path)
    (text,) = folder.glob("*_MTL.txt")
    text.unlink()
    text.with_suffix(f".{form}").write_text(content)
    with pytest.raises(SceneError, match=rf"_MTL\.{form} is damaged"):
        open_scene(folder)


def test_a_level_2_folder_without_metadata_is_understood_and_a_level_1_folder_refused(tmp_path: Path) -> None:
    for level in (1, 2):
        folder = make_landsat(tmp_path, level=level)
        next(folder.glob("*_MTL.txt")).unlink()
        if level == 2:
            scene = open_scene(folder)
            assert {band.offset for band in scene.bands} == {-0.2}
            assert scene.date == "2020-06-01"  # of the files' names
        else:
            with pytest.raises(SceneError, match="does not say how band 1 becomes reflectance"):
                open_scene(folder)


def test_landsat_and_sentinel_2_meet_in_their_common_bands(tmp_path: Path) -> None:
    """Of two sensors the common bands are compared; Landsat's one near infrared is the broad one for Sentinel-2."""
    before, after = make_safe(tmp_path), make_landsat(tmp_path)
    with open_pair(before, after) as pair:
        assert set(pair.bands) == {"B01", "B02", "B03", "B04", "B08"}
        chip = pair.read(Window(0, 0, 60, 60))
    inner = np.zeros((60, 60), bool)
    inner[9:-6, 6:-6] = True
    assert chip.valid[inner].all()
    # 30 m pixels of a ground that is smooth over 15 m: what is left is their size.
    assert np.abs(chip.after - chip.before)[:, inner].mean() < 0.03
