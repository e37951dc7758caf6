import pytest
from affine import Affine
from odc.geo.geobox import GeoBox


@pytest.fixture
def geobox() -> GeoBox:
    """A grid of 1300 x 1100 px of 10 m in UTM 33N: not a multiple of a block."""
    return GeoBox((1300, 1100), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32633")
