import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from changedet.vectorize.direction import ImageBand, Imagery, directions
from tests.vectorize.conftest import NORTH_UP, UTM

GRID = GeoBox((40, 40), NORTH_UP, UTM)
CRS = pyproj.CRS(UTM)
# Left to right: brighter, darker, greener, less green, the same; 8 px wide each.
RED = [(1000, 2000), (2000, 1000), (1000, 500), (500, 1000), (800, 800)]
NEAR_INFRARED = [(2000, 4000), (4000, 2000), (1500, 3500), (3500, 1500), (1600, 1600)]
STRIPES = np.array([shapely.MultiPolygon([shapely.box(8 * i + 1, 5, 8 * i + 7, 30)]) for i in range(5)], dtype=object)
NAMES = ["brighter", "darker", "greener", "less green", None]


def still(rows, cols):
    return np.zeros_like(rows), np.zeros_like(cols)


def stripes(values, which):
    return np.repeat(np.array([pair[which] for pair in values], np.uint16), 8)[None].repeat(40, axis=0)


def scene(make_raster, which, **options):
    bands = {"B04": stripes(RED, which), "B08": stripes(NEAR_INFRARED, which)}
    paths = {name: make_raster(array, nodata=0, **options) for name, array in bands.items()}
    return tuple(ImageBand(name, str(path), 1, 1e-4, 0.0, 0) for name, path in paths.items())


def test_each_way_is_told_by_the_change_that_is_larger(make_raster):
    imagery = Imagery(scene(make_raster, 0), scene(make_raster, 1), still)

    way = directions(STRIPES, GRID, CRS, imagery)

    assert way.names == NAMES
    assert way.brightness == pytest.approx([0.1, -0.1, -0.05, 0.05, 0], abs=1e-12)
    assert way.ndvi == pytest.approx([0, 0, 0.75 - 0.2, 0.2 - 0.75, 0], abs=1e-12)


def test_without_infrared_there_is_only_brightness_and_without_scenes_nothing(make_raster):
    before, after = scene(make_raster, 0)[:1], scene(make_raster, 1)[:1]

    way = directions(STRIPES, GRID, CRS, Imagery(before, after, still))
    none = directions(STRIPES, GRID, CRS, None)

    assert way.names == ["brighter", "darker", "darker", "brighter", None]
    assert np.isnan(way.ndvi).all()
    assert none.names == [None] * 5
    assert np.isnan([none.brightness, none.ndvi]).all()


def test_a_later_date_that_is_displaced_is_looked_up_where_it_lies(make_raster):
    moved = Affine(10, 0, NORTH_UP.c - 80, 0, -10, NORTH_UP.f)
    imagery = Imagery(scene(make_raster, 0), scene(make_raster, 1, transform=moved), lambda r, c: (0 * r, 0 * c - 8))

    assert directions(STRIPES, GRID, CRS, imagery).names == NAMES


def test_a_date_in_another_crs_is_read_on_its_own_pixels(make_raster):
    # Web Mercator pixels of about the same ground, whose values say where they are.
    x, y = Transformer.from_crs(UTM, 3857, always_xy=True).transform(NORTH_UP.c, NORTH_UP.f)
    place = Affine(15.6, 0, x - 80, 0, -15.6, y + 80)
    col = np.arange(60, dtype=np.uint16)[None].repeat(60, axis=0) * 100 + 100
    later = (ImageBand("B04", str(make_raster(col, crs="EPSG:3857", transform=place, nodata=0)), 1, 1.0, 0.0, 0),)
    earlier = (ImageBand("B04", str(make_raster(np.ones((40, 40), np.uint16), nodata=0)), 1, 1.0, 0.0, 0),)

    way = directions(STRIPES, GRID, CRS, Imagery(earlier, later, still))

    centres = shapely.get_coordinates(shapely.centroid(STRIPES)) * [10, -10] + [NORTH_UP.c, NORTH_UP.f]
    x, _ = Transformer.from_crs(UTM, 3857, always_xy=True).transform(*centres.T)
    assert way.brightness + 1 == pytest.approx(((x - place.c) / 15.6 - 0.5) * 100 + 100, rel=1e-3)


def test_what_a_date_does_not_show_is_unknown(make_raster):
    far = scene(make_raster, 1, transform=Affine(10, 0, 9e5, 0, -10, NORTH_UP.f))
    way = directions(STRIPES, GRID, CRS, Imagery(scene(make_raster, 0), far, still))

    assert way.names == [None] * 5
    assert len(directions(STRIPES[:0], GRID, CRS, None).names) == 0
