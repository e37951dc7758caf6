import math

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine

from changedet.errors import SceneError
from changedet.vectorize.measure import compactness, first_pixels, geodesic_measures, polygon_ids

WGS84 = pyproj.CRS("EPSG:4326")


def measures(geometry, crs):
    area, perimeter = geodesic_measures(np.array([geometry], dtype=object), pyproj.CRS(crs))
    return area[0], perimeter[0]


def ellipsoidal_cell(south, north, width_degrees):
    """Area (m²) between two parallels and two meridians: Snyder 1987, "Map projections", equation 3-12."""
    ellipsoid = WGS84.ellipsoid
    e2 = 1 - (ellipsoid.semi_minor_metre / ellipsoid.semi_major_metre) ** 2
    e = math.sqrt(e2)

    def q(latitude):
        sine = math.sin(math.radians(latitude))
        return (1 - e2) * (sine / (1 - e2 * sine**2) - math.log((1 - e * sine) / (1 + e * sine)) / (2 * e))

    return ellipsoid.semi_major_metre**2 * math.radians(width_degrees) * (q(north) - q(south)) / 2


@pytest.mark.parametrize(("south", "size"), [(60, 1e-4), (60, 0.01), (60, 1.0), (-33, 2.0), (0, 0.5)])
def test_areas_in_degrees_against_the_closed_formula(south, size):
    area, _ = measures(shapely.box(20, south, 20 + size, south + size), WGS84)

    assert area == pytest.approx(ellipsoidal_cell(south, south + size, size), rel=1e-6)


@pytest.mark.parametrize(("south", "north"), [(-90, 90), (-60, 75), (0, 90)])
@pytest.mark.parametrize("crs", [WGS84, "EPSG:6933"])
def test_what_goes_around_the_globe_is_measured_too(south, north, crs):
    box = shapely.segmentize(shapely.box(-180, south, 180, north), 1)
    hole = shapely.box(-100, 10, 20, 40)
    to_crs = pyproj.Transformer.from_crs(WGS84, crs, always_xy=True)
    shape = shapely.transform(box.difference(hole), lambda points: np.column_stack(to_crs.transform(*points.T)))

    area, _ = measures(shape, crs)

    assert area == pytest.approx(ellipsoidal_cell(south, north, 360) - ellipsoidal_cell(10, 40, 120), rel=1e-5)


def test_beyond_a_pole_and_beside_the_earth_there_is_no_ground():
    half_a_pixel_over = measures(shapely.box(10, 80, 20, 90.5), WGS84)
    assert half_a_pixel_over[0] == pytest.approx(ellipsoidal_cell(80, 90, 10), rel=1e-6)
    disc = pyproj.CRS("+proj=ortho +lat_0=0 +lon_0=0 +datum=WGS84")
    quarter = shapely.box(0, 0, 9e6, 9e6)  # of the disc, and what lies around it
    assert measures(quarter, disc)[0] == pytest.approx(ellipsoidal_cell(0, 90, 90), rel=0.1)


def test_utm_area_differs_from_the_planar_one_by_the_scale_factor():
    square = shapely.box(500_000 - 500, 5_600_000, 500_000 + 500, 5_601_000)

    area, perimeter = measures(square, "EPSG:32633")

    assert area == pytest.approx(1e6 / 0.9996**2, rel=1e-6)
    assert perimeter == pytest.approx(4000 / 0.9996, rel=1e-6)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3035", "EPSG:27572"])
def test_projected_areas_agree_with_an_equal_area_projection(crs):
    # EPSG:27572 hangs on a datum whose longitudes are grads from Paris.
    centre = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(6.0, 47.0)
    blob = shapely.Point(centre).buffer(20_000).difference(shapely.Point(centre).buffer(5_000))
    dense = shapely.segmentize(blob, 100)
    to_equal_area = pyproj.Transformer.from_crs(crs, "+proj=laea +lat_0=47 +lon_0=6 +ellps=WGS84", always_xy=True)
    planar = shapely.transform(dense, lambda points: np.column_stack(to_equal_area.transform(*points.T))).area

    area, _ = measures(blob, crs)

    assert area == pytest.approx(planar, rel=2e-4)


def test_feet_are_not_metres():
    x, y = pyproj.Transformer.from_crs(4326, 2263, always_xy=True).transform(-74.0, 40.7)

    area, _ = measures(shapely.box(x, y, x + 1000, y + 1000), "EPSG:2263")

    assert area == pytest.approx(1e6 * 0.3048**2, rel=1e-3)


def test_holes_count_in_the_perimeter_and_not_in_the_area():
    shell, hole = shapely.box(0, 0, 0.03, 0.03), shapely.box(0.01, 0.01, 0.02, 0.02)
    whole, around = measures(shell, WGS84)
    missing, inside = measures(hole, WGS84)

    area, perimeter = measures(shell.difference(hole), WGS84)

    assert area == pytest.approx(whole - missing, rel=1e-9)
    assert perimeter == pytest.approx(around + inside, rel=1e-9)


def test_parts_add_up_and_geometries_stay_apart():
    one, two = shapely.box(0, 0, 1, 1), shapely.box(5, 50, 6, 51)
    both = shapely.MultiPolygon([one, two])

    area, perimeter = geodesic_measures(np.array([one, shapely.MultiPolygon(), both, two]), WGS84)

    assert area[1] == perimeter[1] == 0
    assert area[2] == pytest.approx(area[0] + area[3])
    assert perimeter[2] == pytest.approx(perimeter[0] + perimeter[3])


def test_no_geometries_no_measures():
    assert [len(column) for column in geodesic_measures(np.empty(0, object), WGS84)] == [0, 0]


def test_a_local_crs_has_no_areas():
    with pytest.raises(SceneError, match="not tied to the earth"):
        measures(shapely.box(0, 0, 1, 1), 'LOCAL_CS["site",UNIT["metre",1]]')


def test_compactness_of_a_disc_a_square_and_a_thread():
    area = np.array([math.pi, 1.0, 1000.0])
    perimeter = np.array([2 * math.pi, 4.0, 2002.0])

    assert compactness(area, perimeter) == pytest.approx([1, math.pi / 4, 0.003135], rel=1e-3)


def test_first_pixel_in_scan_order():
    hook = shapely.union_all([shapely.box(3, 2, 5, 3), shapely.box(0, 3, 5, 4)])
    parts = shapely.MultiPolygon([shapely.box(7, 7, 8, 8), shapely.box(6, 8, 7, 9)])

    assert first_pixels(np.array([hook, parts])).tolist() == [[2, 3], [7, 7]]


def ids(first=((0, 0), (0, 1), (1, 0), (10, 1), (1, 10), (110, 1)), **changes):
    grid = {"crs_name": "EPSG:32633", "transform": Affine(10, 0, 5, 0, -10, 7), "dates": ("2019-01-01", None)}
    return polygon_ids(np.array(first), **{**grid, **changes})


def test_ids_are_stable_and_tell_place_grid_and_dates_apart():
    assert ids() == ids()
    assert len(set(ids())) == 6
    others = [
        ids(crs_name="EPSG:32634"),
        ids(transform=Affine(10, 0, 5, 0, -10, 8)),
        ids(dates=("2019-01-01", "2020-01-01")),
        ids(dates=(None, "2019-01-01")),
    ]
    assert all(set(ids()).isdisjoint(other) for other in others)
    assert ids([(0, 0)]) == ["d261718efbfcdd25"]  # written into users' files: a change here is a breaking one
