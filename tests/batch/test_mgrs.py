import mgrs
import shapely
from pyproj import Transformer

from changedet.batch.mgrs import squares


def _named(west, south, east, north):
    for zone in squares(west, south, east, north):
        to_degrees = Transformer.from_crs(zone.epsg, 4326, always_xy=True)
        for name, shape in zip(zone.names, zone.shapes, strict=True):
            inside = shapely.point_on_surface(shape)
            yield name, *to_degrees.transform(inside.x, inside.y)


# Both sides of the equator in all zones; Norway and Svalbard with their exceptions; and the south end.
PLACES = ((-180, -1, 180, 1), (-3, 57, 45, 84), (-70, -80, -60, -74))


def test_squares_are_called_what_another_library_calls_a_point_in_them():
    told = mgrs.MGRS()
    named = [one for place in PLACES for one in _named(*place)]
    assert len(named) > 5000
    assert len({name for name, *_ in named}) == len(named)
    for name, lon, lat in named:
        assert told.toMGRS(lat, lon, MGRSPrecision=0).zfill(5) == name


def test_a_place_finds_its_own_square():
    # Bern; Bergen, where zone 32 is wider; Longyearbyen; Cape Town.
    for lon, lat in ((7.45, 46.95), (5.33, 60.39), (15.64, 78.22), (18.42, -33.92)):
        assert mgrs.MGRS().toMGRS(lat, lon, MGRSPrecision=0) in [name for name, *_ in _named(lon, lat, lon, lat)]
