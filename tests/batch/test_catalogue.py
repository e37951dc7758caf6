"""A batch as a STAC Collection, read back and validated without a network."""

import json
from pathlib import Path

import pystac
import pytest
from pystac.extensions.projection import ProjectionExtension
from pystac.validation import validate_dict

from changedet.batch.catalogue import write_catalogue
from tests.batch.whole import GRID, joined_batch


def test_the_collection_and_every_item_hold_to_their_schemas(tmp_path: Path) -> None:
    whole = joined_batch(tmp_path / "batch")
    names = write_catalogue(whole.out, whole.out, whole.outcomes, whole.learned, ["mask.vrt", "changes.gpkg"])
    assert len(names) == 12
    assert names[-1] == "collection.json"
    for name in names:
        content = json.loads((whole.out / name).read_text())
        # The schemas of the extensions are not bundled with pystac.
        assert validate_dict({**content, "stac_extensions": []})


def test_a_catalogue_finds_from_the_collection_every_tile_and_from_each_back(tmp_path: Path) -> None:
    whole = joined_batch(tmp_path / "batch")
    write_catalogue(whole.out, whole.out, whole.outcomes, whole.learned, ["mask.vrt"])
    collection = pystac.Collection.from_file(str(whole.out / "collection.json"))
    items = list(collection.get_items())
    assert {item.id for item in items} == {tile.id for tile in whole.outcomes.with_files()}
    for item in items:
        assert (item.collection_id, collection.id) == ("batch", "batch")
        assert item.get_collection().id == collection.id
        assert sorted(item.assets) == ["mask", "probability"]
        assert all(Path(asset.get_absolute_href()).is_file() for asset in item.assets.values())
    (item,) = (item for item in items if item.id == "r20c40")
    assert ProjectionExtension.ext(item).transform == list(GRID[20:40, 40:60].affine)[:6]


def test_the_extent_is_that_of_the_tiles_and_their_dates(tmp_path: Path) -> None:
    whole = joined_batch(tmp_path)
    write_catalogue(whole.out, whole.out, whole.outcomes, whole.learned, [])
    extent = pystac.Collection.from_file(str(tmp_path / "collection.json")).extent
    (box,), ((first, last),) = extent.spatial.bboxes, extent.temporal.intervals
    # Longitude and latitude of outlines, which are straight in the grid's CRS.
    assert box == pytest.approx(GRID.geographic_extent.boundingbox.bbox, abs=1e-6)
    assert (f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}") == ("2018-03-28", "2020-04-02")


def test_without_dates_there_is_none(tmp_path: Path) -> None:
    whole = joined_batch(tmp_path, after=None)
    assert write_catalogue(tmp_path, tmp_path, whole.outcomes, whole.learned, []) == []
    assert not (tmp_path / "collection.json").exists()
