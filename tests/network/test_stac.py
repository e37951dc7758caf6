"""A model as a STAC Item of the MLM extension, read back by pystac's own classes."""

import json
from pathlib import Path

import pystac
import pytest
from click.testing import CliRunner
from pystac.extensions.mlm import AssetGeneralMLMExtension, MLMExtension
from pystac.validation import validate_dict

from changedet.cli import cli
from changedet.network.card import Card, Place
from changedet.network.shipped import read_card, shipped_models
from changedet.network.stac import model_item, write_model_item
from tests.pairs import tiny_model


def _card(folder: Path, **changes: object) -> Card:
    return read_card(tiny_model(folder / "tiny.safetensors", **changes))


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_every_shipped_model_is_an_item(tmp_path: Path, name: str) -> None:
    card = read_card(name)
    write_model_item(tmp_path / "item.json", card, (f"{name}.xml", f"{name}.bin"))
    content = json.loads((tmp_path / "item.json").read_text())
    # The schema of the extension is not bundled with pystac.
    assert validate_dict({**content, "stac_extensions": []})
    told = MLMExtension.ext(pystac.Item.from_dict(content))
    assert [part.name for part in told.input] == ["before", "after"]
    assert told.input[0].bands == list(card.bands)
    assert told.input[0].input.shape == [-1, len(card.bands), -1, -1]
    assert told.output[0].result.shape == [-1, 1, -1, -1]
    assert [band["name"] for band in content["assets"]["xml"]["bands"]] == told.input[0].bands
    assert told.framework == "OpenVINO"
    assert (told.architecture, told.total_parameters) == (card.architecture, card.parameters)
    assert content["properties"]["changedet:threshold"] == card.threshold


def test_a_model_says_which_of_its_files_is_to_be_loaded(tmp_path: Path) -> None:
    item = model_item(_card(tmp_path), ("tiny.xml", "tiny.bin"))
    assert AssetGeneralMLMExtension.ext(item.assets["xml"]).artifact_type == "openvino"
    assert item.assets["xml"].roles == ["mlm:model", "mlm:weights"]
    assert item.assets["bin"].roles == ["mlm:weights"]
    assert model_item(_card(tmp_path), ("tiny.onnx",)).assets["onnx"].href == "./tiny.onnx"


def test_kinds_of_change_are_classes_under_names_that_stac_takes(tmp_path: Path) -> None:
    card = _card(tmp_path).model_copy(update={"classes": ("new roof", "forest → field")})
    (output,) = MLMExtension.ext(model_item(card, ())).output
    assert [(kind.value, kind.name, kind.description) for kind in output.classes] == [
        (0, "unchanged", "no change"),
        (1, "new_roof", "new roof"),
        (2, "forest___field", "forest → field"),
    ]


def test_it_lies_where_it_learned_or_nowhere(tmp_path: Path) -> None:
    card = _card(tmp_path)
    assert model_item(card, ()).geometry is None
    places = (Place(name="a", bounds=(1, 2, 3, 4)), Place(name="b"), Place(name="c", bounds=(-5, 0, -4, 1)))
    item = model_item(card.model_copy(update={"places": places}), ())
    assert item.bbox == [-5, 0, 3, 4]
    assert len(item.geometry["coordinates"]) == 2
    assert validate_dict({**item.to_dict(), "stac_extensions": []})


def test_an_export_brings_its_item(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    result = CliRunner().invoke(
        cli, ["models", "export", str(model), "--format", "openvino", "--stac", "-o", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["tiny.bin", "tiny.json", "tiny.xml"]
    item = pystac.Item.from_file(str(tmp_path / "out" / "tiny.json"))
    assert all(Path(asset.get_absolute_href()).is_file() for asset in item.assets.values())
