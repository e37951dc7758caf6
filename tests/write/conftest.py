from collections.abc import Callable
from itertools import count
from pathlib import Path

import geopandas as gpd
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from changedet.write.layers import Layer, Spool

MakeLayers = Callable[[dict[str, gpd.GeoDataFrame]], dict[str, Layer]]


@pytest.fixture
def geobox() -> GeoBox:
    """A grid of 1300 x 1100 px of 10 m in UTM 33N: not a multiple of a block."""
    return GeoBox((1300, 1100), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32633")


@pytest.fixture
def spooled(tmp_path: Path) -> MakeLayers:
    """A function that puts tables on the disk as layers."""
    numbers = count()

    def spool(tables: dict[str, gpd.GeoDataFrame]) -> dict[str, Layer]:
        with Spool(tmp_path / f"spool{next(numbers)}") as target:
            for name, table in tables.items():
                target.write(name, table)
        return target.layers()

    return spool
