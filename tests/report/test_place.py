"""Longitude and latitude from a table, as the page interpolates in it."""

import json

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from changedet.read.align import ground_resolution, to_lonlat
from changedet.report.place import lonlat_table, up_azimuth
from tests.data import geobox

GRIDS = {
    "utm": geobox(20_000, 20_000),
    "geographic": geobox(1000, 500, crs="EPSG:4326", transform=Affine(1e-4, 0, 35, 0, -1e-4, 33)),
    "polar": geobox(3000, 3000, crs="EPSG:3031", transform=Affine(100, 0, 5e5, 0, -100, 5e5)),
    "antimeridian": geobox(2000, 2000, crs="EPSG:3832", transform=Affine(10, 0, 3.33e6, 0, -10, 1e6)),
}


def _interpolated(table: dict, axis: str, y: float, x: float) -> float:
    last = table["size"] - 1
    i, j = min(int(y * last), last - 1), min(int(x * last), last - 1)
    v, u = y * last - i, x * last - j
    at = table[axis]
    return (1 - v) * ((1 - u) * at[i][j] + u * at[i][j + 1]) + v * ((1 - u) * at[i + 1][j] + u * at[i + 1][j + 1])


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_a_point_between_those_of_the_table_is_off_by_less_than_a_pixel(grid: GeoBox) -> None:
    table = lonlat_table(grid)
    height, width = grid.shape
    for y, x in np.random.default_rng(6).uniform(size=(50, 2)):
        (lon,), (lat,) = to_lonlat(grid, np.array([y * height]), np.array([x * width]))
        east = (_interpolated(table, "lon", y, x) - lon + 180) % 360 - 180
        off = np.hypot(east * np.cos(np.radians(lat)), _interpolated(table, "lat", y, x) - lat) * 111_320
        assert off / min(ground_resolution(grid)) < 1


def test_a_geographic_grid_needs_its_corners_only() -> None:
    assert lonlat_table(GRIDS["geographic"])["size"] == 2


def test_longitudes_do_not_jump_at_the_antimeridian() -> None:
    lon = np.array(lonlat_table(GRIDS["antimeridian"])["lon"])
    assert (np.diff(lon, axis=1) > 0).all()
    assert lon.min() < 180 < lon.max()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_around_the_disc_of_the_earth_there_is_no_place() -> None:
    affine, crs = Affine(2e5, 0, -6.4e6, 0, -2e5, 6.4e6), "+proj=ortho +lat_0=10 +lon_0=170 +datum=WGS84"
    table = lonlat_table(GeoBox((64, 64), affine, crs))
    lon, lat = (np.array(table[axis], dtype=float) for axis in ("lon", "lat"))
    assert (table["lon"][0][0], table["lat"][0][0]) == (None, None)
    middle = len(lon) // 2
    assert (lon[middle, middle], lat[middle, middle]) == pytest.approx((170, 10))
    assert np.nanmax(lon) > 180
    assert json.dumps(table, allow_nan=False)


@pytest.mark.parametrize(("degrees", "up"), [(0, 0), (30, -30), (180, 180), (-90, 90)])
def test_the_upper_edge_of_a_turned_grid_looks_where_it_looks(degrees: float, up: float) -> None:
    turned = Affine.translation(500_000, 5_600_000) @ Affine.rotation(degrees) @ Affine.scale(10, -10)
    assert abs((up_azimuth(geobox(100, 100, transform=turned)) - up + 180) % 360 - 180) < 0.1
