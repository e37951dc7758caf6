import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changedet.errors import NotFoundError, SceneError
from changedet.grid import Window
from changedet.read import open_pair, open_scene
from tests.data import texture, write_raster
from tests.server import serve

WHOLE = Window(0, 0, 60, 60)


def _item(folder: Path, name: str, *, offset: int, assets: dict[str, Any] | None = None, **properties: Any) -> Path:
    """Write an item and its red and near infrared, whose values carry `offset`."""
    files = {}
    for seed, (key, common) in enumerate({"B04": "red", "B08": "nir"}.items()):
        stored = np.rint(texture(60, 60, seed=seed) * 10_000 + offset).astype(np.uint16)
        path = write_raster(folder / f"{name}_{key}.tif", stored)
        files[key] = {"href": f"./{path.name}", "type": "image/tiff; application=geotiff", "roles": ["data"]}
        files[key]["eo:bands"] = [{"name": key, "common_name": common}]
    visual = {"href": "./nothing.tif", "type": "image/tiff", "roles": ["visual"], "eo:bands": [{"name": "red"}]}
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "properties": {"datetime": "2022-02-03T10:52:51Z", **properties},
        "assets": {"visual": visual, **files},
    }
    for key, more in (assets or {}).items():
        item["assets"].setdefault(key, {}).update(more)
    (folder / f"{name}.json").write_text(json.dumps(item))
    return folder / f"{name}.json"


RASTER = {key: {"raster:bands": [{"scale": 1e-4, "offset": -0.1, "nodata": 0}]} for key in ("B04", "B08")}
STAC11 = {
    "B04": {"eo:bands": None, "bands": [{"eo:common_name": "red", "raster:scale": 1e-4, "raster:offset": -0.1}]},
    "B08": {"eo:bands": None, "bands": [{"eo:common_name": "nir", "raster:scale": 1e-4, "raster:offset": -0.1}]},
}


@pytest.mark.parametrize(
    ("offset", "assets", "properties", "why"),
    [
        (1000, RASTER, {}, "STAC item"),
        (1000, STAC11, {}, "STAC item"),
        (0, RASTER, {"earthsearch:boa_offset_applied": True}, "STAC item"),
        (1000, None, {"s2:processing_baseline": "05.09"}, "baseline 05.09"),
        (0, None, {"s2:processing_baseline": "02.06"}, "baseline 02.06"),
        (0, None, {"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}, "baseline 05.09"),
        (0, None, {}, "reflectance times 10,000"),
    ],
)
def test_an_item_says_what_its_values_mean(
    tmp_path: Path, offset: int, assets: Any, properties: dict[str, Any], why: str
) -> None:
    item = _item(tmp_path, "scene", offset=offset, assets=assets, **properties)
    with open_pair(f"stac:{item}", f"stac:{item}") as pair:
        assert pair.bands == ("B04", "B08")
        assert why in pair.scaling[0][0].why
        assert pair.before.date == "2022-02-03"
        chip = pair.read(WHOLE)
    np.testing.assert_allclose(chip.before, [texture(60, 60, seed=0), texture(60, 60, seed=1)], atol=6e-5)


def test_an_item_behind_a_url_finds_its_assets_and_its_quality_band(tmp_path: Path) -> None:
    classes = np.full((60, 60), 4, np.uint8)
    classes[10:20, 10:20] = 8
    write_raster(tmp_path / "scl.tif", classes)
    quality = {"scl": {"href": "scl.tif", "type": "image/tiff"}}
    _item(tmp_path, "scene", offset=1000, assets={**RASTER, **quality})
    with serve(tmp_path) as served:
        address = f"stac:{served.url}/scene.json"
        with open_pair(address, address) as pair:
            chip = pair.read(WHOLE)
        with pytest.raises(NotFoundError, match="no STAC item"):
            open_scene(f"stac:{served.url}/other.json")
    assert np.array_equal(chip.valid, classes == 4)


def test_what_is_no_item_or_has_no_bands_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.json").write_text("Dear reader")
    (tmp_path / "collection.json").write_text('{"type": "Collection"}')
    (tmp_path / "empty.json").write_text('{"type": "Feature", "assets": {"doc": {"href": "a.pdf"}}}')
    for name, message in (("letter", "cannot be read"), ("collection", "is no STAC item"), ("empty", "common name")):
        with pytest.raises(SceneError, match=message):
            open_scene(f"stac:{tmp_path / name}.json")
    with pytest.raises(NotFoundError, match="no STAC item"):
        open_scene(f"stac:{tmp_path / 'nothing.json'}")


def test_a_band_that_an_item_names_is_none_of_alpha(tmp_path: Path) -> None:
    image = np.stack([texture(20, 20, seed=seed) for seed in range(4)]) * 200
    image[3, 5:9, 5:9] = 0
    write_raster(tmp_path / "naip.tif", image[:3].astype(np.uint8), alpha=image[3])
    names = ("red", "green", "blue", "nir")
    assets = {"image": {"href": "naip.tif", "bands": [{"name": name, "eo:common_name": name} for name in names]}}
    item = {"type": "Feature", "id": "a", "properties": {"datetime": None}, "assets": assets}
    (tmp_path / "item.json").write_text(json.dumps(item))
    scene = f"stac:{tmp_path / 'item.json'}"
    with open_pair(scene, scene) as pair:
        assert pair.bands == ("B04", "B03", "B02", "B08")
        assert pair.read(Window(0, 0, 20, 20)).valid.all()
    assets["image"]["bands"].append({"name": "swir16", "eo:common_name": "swir16"})
    (tmp_path / "item.json").write_text(json.dumps(item))
    with pytest.raises(SceneError, match=r"naip\.tif has no band \d, as its STAC item says"):
        open_scene(scene)


def test_bands_that_share_the_common_name_rededge_go_by_their_own(tmp_path: Path) -> None:
    assets = {}
    for name, common in {
        "B05": "rededge",
        "B06": "rededge",
        "B8A": "rededge",
        "B04": "rededge",
        "B10": "lwir11",
    }.items():
        write_raster(tmp_path / f"{name}.tif", np.ones((9, 9), np.uint16))
        assets[name] = {"href": f"{name}.tif", "eo:bands": [{"name": name, "common_name": common}]}
    item = {"type": "Feature", "id": "a", "properties": {"datetime": None}, "assets": assets}
    (tmp_path / "item.json").write_text(json.dumps(item))
    # Of other sensors B04 may be a red edge, and B10 a thermal band.
    assert open_scene(f"stac:{tmp_path / 'item.json'}").names == ("B05", "B06", "B8A")


def test_an_item_of_a_collection_is_a_scene_by_its_id(tmp_path: Path) -> None:
    items = [_item(tmp_path, name, offset=0) for name in ("one", "two")]
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [json.loads(it.read_text()) for it in items]}))
    scene = open_scene(f"stac:{path}#two")
    assert scene.product == "STAC item two"
    assert [band.path for band in scene.bands] == [str(tmp_path / f"two_{name}.tif") for name in ("B04", "B08")]
    assert str(path) in scene.files
    with pytest.raises(NotFoundError, match="no item three in"):
        open_scene(f"stac:{path}#three")
    with pytest.raises(SceneError, match="of an item collection, FILE#ID"):
        open_scene(f"stac:{path}")
    with pytest.raises(SceneError, match="is no STAC item collection"):
        open_scene(f"stac:{items[0]}#one")
