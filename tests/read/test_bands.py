import pytest

from changedet.errors import ConfigError
from changedet.read.bands import COMMON_NAMES, canonical, in_file_name, parse_mapping, suggest_mapping


@pytest.mark.parametrize(
    ("label", "name"), [("b04", "B04"), (" Red ", "B04"), ("VIS-RED", "B04"), ("nir", "B08"), ("b8a", "B8A")]
)
def test_labels_that_are_certain(label, name):
    assert canonical(label) == name


@pytest.mark.parametrize("label", ["B5", "band 5", "5", "", "reds", "B13"])
def test_labels_that_could_be_another_band_are_not_guessed(label):
    assert canonical(label) is None


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("S2A_OPER_MSI_L1C_TL_EPA__20160929T101645_A001_T31TCJ_B8A", "B8A"),
        ("T31TCJ_20180328T105031_B02_10m", "B02"),
        ("red", "B04"),
        ("B01B02", None),
        ("T31B04_TCI", None),
    ],
)
def test_band_in_a_file_name(stem, name):
    assert in_file_name(stem) == name


def test_mapping_takes_common_and_sentinel_names():
    assert parse_mapping("red=3, B03=2,blue = 1,NIR=4") == {"B04": 3, "B03": 2, "B02": 1, "B08": 4}


@pytest.mark.parametrize("text", ["red", "red=", "red=0", "red=-1", "colour=1", "red=1,B04=2", "=1"])
def test_mapping_that_cannot_be_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="band mapping") as caught:
        parse_mapping(text)
    assert "--bands red=3,green=2,blue=1,nir=4" in str(caught.value)


def test_suggested_mapping_parses_to_what_was_wanted():
    wanted = tuple(COMMON_NAMES.values())
    assert tuple(parse_mapping(suggest_mapping(wanted).removeprefix("--bands "))) == wanted
