"""A batch as a STAC Collection with an Item a tile, for catalogues.

SpatioTemporal Asset Catalog 1.1; see `changedet.write.stac` for the items.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pystac

from changedet.batch.manifest import Tile
from changedet.batch.outcome import TILES, Outcomes, tile_folder
from changedet.write.stac import asset_of, item_of, licence_of, span_of, write_object

COLLECTION, ITEM = "collection.json", "item.json"
_FROM_ITEM: Final = f"../../{COLLECTION}"


def write_catalogue(
    out: Path, work: Path, outcomes: Outcomes, learned: Mapping[str, Mapping[str, Any]], results: Iterable[str]
) -> list[str]:
    """Write the collection of a batch and the item of each tile that has files.

    Args:
        out: output folder of the batch, where the tiles lie.
        work: where to write; what is made there is to be moved to `out`.
        outcomes: the tiles.
        learned: name of a mosaic → its `dates` and `model`; a tile of one whose dates are not known has no item, as
            STAC knows no time without a date.
        results: names of the files of the whole batch.

    Returns:
        The names of the files in `work`; none where no date is known.
    """
    dated = {name: record for name, record in learned.items() if None not in record["dates"].values()}
    tiles = [tile for tile in outcomes.with_files() if tile.mosaic in dated]
    if not tiles:
        return []
    boxes, names = [], []
    for tile in tiles:
        item = _item(out, tile, dated[tile.mosaic])
        boxes.append(item.bbox)
        names.append(f"{TILES}/{tile.id}/{ITEM}")
        (work / names[-1]).parent.mkdir(parents=True, exist_ok=True)
        write_object(work / names[-1], item)
    collection = _collection(out, boxes, [dated[tile.mosaic] for tile in tiles])
    for name in results:
        # Overviews are found beside the raster that they are of.
        if not name.endswith(".ovr"):
            collection.add_asset(name, asset_of(name))
    for name in names:
        collection.add_link(pystac.Link(pystac.RelType.ITEM, f"./{name}", pystac.MediaType.GEOJSON))
    collection.add_link(pystac.Link(pystac.RelType.ROOT, f"./{COLLECTION}", pystac.MediaType.JSON))
    write_object(work / COLLECTION, collection)
    return [*names, COLLECTION]


def _item(out: Path, tile: Tile, record: Mapping[str, Any]) -> pystac.Item:
    folder = tile_folder(out, tile.id)
    item = item_of(tile.id, folder, record, sorted(entry.name for entry in folder.glob("*.tif")))
    item.collection_id = _identity(out)
    for relation in (pystac.RelType.COLLECTION, pystac.RelType.PARENT, pystac.RelType.ROOT):
        item.add_link(pystac.Link(relation, _FROM_ITEM, pystac.MediaType.JSON))
    return item


def _collection(out: Path, boxes: list[Any], records: list[Mapping[str, Any]]) -> pystac.Collection:
    west, south, east, north = zip(*boxes, strict=True)
    spans = [span_of(record["dates"]) for record in records]
    model = records[0]["model"]
    return pystac.Collection(
        id=_identity(out),
        title=f"Changes in {out.absolute().name}",
        description=f"Changes that changedet found with {model['name']}, one item a tile.",
        license=licence_of(model),
        extent=pystac.Extent(
            pystac.SpatialExtent([[min(west), min(south), max(east), max(north)]]),
            pystac.TemporalExtent([[min(first for first, _ in spans), max(last for _, last in spans)]]),
        ),
    )


def _identity(out: str | os.PathLike[str]) -> str:
    return Path(out).absolute().name
