from importlib import import_module

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.features import rasterize

from changedet.errors import ConfigError, NotFoundError, PairError, SceneError
from tests.vectorize.tables import tables as vectorize

COLUMNS = [
    *("id", "area_m2", "perimeter_m", "probability_mean", "probability_max", "direction", "brightness_change"),
    *("ndvi_change", "compactness"),
    *("touches_edge", "date_before", "date_after", "model", "threshold", "geometry"),
]
# On its central meridian UTM shrinks lengths by 0.9996.
PIXEL_M2 = 100 / 0.9996**2
MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([0, 1, 255]))


def scene():
    """A mask of 4 and 6 changed pixels, and one at the border; 12 pixels unknown."""
    mask = np.zeros((20, 30), np.uint8)
    mask[3:5, 4:6] = 1
    mask[10:12, 8:11] = 1
    mask[19, 15] = 1
    mask[0:3, 26:30] = 255
    return mask


def burnt(table, shape, transform, value):
    shapes = [(geometry, value) for geometry in table.geometry]
    return rasterize(shapes, out_shape=shape, transform=transform) if shapes else np.zeros(shape, np.uint8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mask=MASKS, connectivity=st.sampled_from([4, 8]))
def test_the_three_layers_partition_the_raster(make_raster, mask, connectivity):
    path = make_raster(mask)
    with rasterio.open(path) as dataset:
        transform = dataset.transform

    vectors = vectorize(path, connectivity=connectivity)

    assert np.array_equal(burnt(vectors.changes, mask.shape, transform, 1), mask == 1)
    assert np.array_equal(burnt(vectors.unknown, mask.shape, transform, 1), mask == 255)
    assert np.array_equal(burnt(vectors.footprint, mask.shape, transform, 1), mask != 255)
    assert vectors.changes.area_m2.sum() == pytest.approx((mask == 1).sum() * PIXEL_M2, rel=1e-6)
    assert vectors.unknown.area_m2.sum() == pytest.approx((mask == 255).sum() * PIXEL_M2, rel=1e-6)
    assert vectors.footprint.area_m2.sum() == pytest.approx((mask != 255).sum() * PIXEL_M2, rel=1e-6)
    tables = (vectors.changes, vectors.footprint, vectors.unknown)
    assert all(table.geometry.is_valid.all() and table.crs == "EPSG:32633" for table in tables)
    assert set().union(*(table.geom_type for table in tables)) <= {"MultiPolygon"}
    assert vectors.changes.id.is_unique


def test_one_row_a_region_with_all_it_should_say(make_raster):
    mask = scene()
    stored = np.where(mask == 255, 255, mask * 200).astype(np.uint8)
    stored[3, 4] = 254
    labels = {"date_before": "2019-01-01", "date_after": "2020-01-01", "model": "m", "threshold": 0.5}

    changes = vectorize(make_raster(mask), make_raster(stored, scale=1 / 254), **labels).changes

    assert list(changes.columns) == COLUMNS
    assert changes.area_m2.to_numpy() == pytest.approx(np.array([4, 6, 1]) * PIXEL_M2, rel=1e-6)
    assert changes.perimeter_m.to_numpy() == pytest.approx(np.array([80, 100, 40]) / 0.9996, rel=1e-6)
    assert changes.probability_mean.to_numpy() == pytest.approx(np.array([(254 + 600) / 4, 200, 200]) / 254)
    assert changes.probability_max.to_numpy() == pytest.approx(np.array([254, 200, 200]) / 254)
    assert changes.touches_edge.tolist() == [False, False, True]
    assert changes.compactness[0] == pytest.approx(np.pi / 4)
    assert changes.direction.isna().all()
    assert {name: changes[name].unique().tolist() for name in labels} == {name: [v] for name, v in labels.items()}


def test_regions_of_nodata_are_unknown_and_cut_out_of_the_footprint(make_raster):
    vectors = vectorize(make_raster(scene()))

    assert list(vectors.unknown.columns) == list(vectors.footprint.columns) == ["id", "area_m2", "geometry"]
    assert vectors.unknown.geometry[0].equals(shapely.box(500_260, 5_599_970, 500_300, 5_600_000))
    assert len(vectors.footprint) == 1
    assert vectors.footprint.area_m2[0] == pytest.approx((600 - 12) * PIXEL_M2, rel=1e-6)


def test_small_regions_are_left_out_by_their_geodesic_area(make_raster):
    path = make_raster(scene())

    assert vectorize(path, min_area=4.001 * PIXEL_M2).changes.area_m2.to_list() == pytest.approx([6 * PIXEL_M2])
    assert len(vectorize(path, min_area=3.999 * PIXEL_M2).changes) == 2
    assert vectorize(path, min_area=1e9).unknown.equals(vectorize(path).unknown)


@pytest.mark.parametrize(("value", "changed", "comparable"), [(0, 0, 1), (255, 0, 0)])
def test_a_mask_without_change_or_without_data_is_empty_layers_of_the_same_columns(
    make_raster, value, changed, comparable
):
    vectors = vectorize(make_raster(np.full((5, 5), value, np.uint8)))
    full = vectorize(make_raster(scene()))

    assert (len(vectors.changes), len(vectors.footprint)) == (changed, comparable)
    for table, expected in ((vectors.changes, full.changes), (vectors.footprint, full.footprint)):
        assert isinstance(table, gpd.GeoDataFrame)
        assert table.dtypes.equals(expected.dtypes)
        assert table.crs == expected.crs


def test_classes_are_polygons_of_their_own_and_a_column(make_raster):
    mask = np.array([[1, 1, 2, 2], [0, 0, 0, 2]], np.uint8)
    stored = np.stack([np.full_like(mask, 50), np.full_like(mask, 150)])

    changes = vectorize(make_raster(mask), make_raster(stored, scale=1 / 254)).changes

    assert list(changes.columns) == [*COLUMNS[:5], "class", *COLUMNS[5:]]
    assert changes["class"].tolist() == [1, 2]
    assert changes.probability_max.to_numpy() * 254 == pytest.approx([50, 150])


def test_min_area_does_not_change_the_columns(make_raster):
    path = make_raster(np.array([[1, 1, 0, 2]], np.uint8))

    assert list(vectorize(path, min_area=150).changes.columns) == list(vectorize(path).changes.columns)


@pytest.mark.parametrize(("nodata", "changed", "unknown"), [(None, 3, 0), (7, 2, 1), (255, 2, 1), (0, 3, 2)])
def test_nodata_is_what_the_file_says(make_raster, nodata, changed, unknown):
    vectors = vectorize(make_raster(np.array([[1, 0, 7, 0, 255]], np.uint8), nodata=nodata))

    assert (len(vectors.changes), len(vectors.unknown)) == (changed, unknown)


def test_degrees_give_square_metres(make_raster):
    place = Affine(1e-4, 0, 20, 0, -1e-4, 60)

    changes = vectorize(make_raster(scene(), crs="EPSG:4326", transform=place)).changes

    # 1e-4 degrees at 60 degrees north are 5.580 m by 11.141 m on WGS 84.
    assert changes.area_m2[1] == pytest.approx(6 * 5.580 * 11.141, rel=1e-3)


def test_ids_stay_when_other_regions_come_and_go(make_raster):
    fewer = scene()
    fewer[3:5, 4:6] = 0

    before, after = vectorize(make_raster(scene())).changes.id, vectorize(make_raster(fewer)).changes.id

    assert after.tolist() == before.tolist()[1:]


def test_what_is_found_is_summed_up(make_raster):
    found = vectorize(make_raster(scene()), min_area=2 * PIXEL_M2).findings

    assert found.polygons == 2
    assert (found.changed_m2, found.unknown_m2) == pytest.approx((10 * PIXEL_M2, 12 * PIXEL_M2), rel=1e-6)
    assert found.comparable_m2 == pytest.approx(588 * PIXEL_M2, rel=1e-6)
    assert found.largest.area_m2.to_list() == pytest.approx([6 * PIXEL_M2, 4 * PIXEL_M2])


def test_the_largest_are_kept_over_all_batches(make_raster, monkeypatch):
    monkeypatch.setattr(import_module("changedet.vectorize.vectorize"), "_BATCH", 3)
    mask = np.zeros((60, 120), np.uint8)
    for index in range(24):
        mask[2 * index + 1, 1 : 2 + (index * 7) % 24] = 1

    found = vectorize(make_raster(mask))

    assert len(found.changes) == 24
    assert found.findings.largest.area_m2.to_list() == found.changes.area_m2.nlargest(10).to_list()


@pytest.mark.parametrize("options", [{"min_area": -1}, {"min_area": float("nan")}, {"connectivity": 6}])
def test_refuses_options_that_mean_nothing(make_raster, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        vectorize(make_raster(scene()), **options)


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(NotFoundError, match="no file"):
        vectorize(tmp_path / "absent.tif")


def test_refuses_what_is_not_a_raster(tmp_path):
    path = tmp_path / "text.tif"
    path.write_text("not a raster")
    with pytest.raises(SceneError, match=r"text\.tif cannot be read"):
        vectorize(path)


def test_refuses_a_truncated_mask(make_raster):
    path = make_raster(np.tile(scene(), (30, 30)), compress="deflate", tiled=True, blockxsize=64, blockysize=64)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SceneError, match="cannot be read"):
        vectorize(path)


def test_refuses_a_mask_without_crs(make_raster):
    with pytest.raises(SceneError, match="no coordinate system"):
        vectorize(make_raster(scene(), crs=None))


@pytest.mark.parametrize("array", [scene().astype(np.uint16), scene() / 254, np.stack([scene(), scene()])])
def test_refuses_what_is_no_mask(make_raster, array):
    with pytest.raises(SceneError, match="one band of uint8"):
        vectorize(make_raster(array))


def test_refuses_probabilities(make_raster):
    path = make_raster(scene())
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (1 / 254,)
    with pytest.raises(SceneError, match=r"has a scale, 0\.00393701"):
        vectorize(path)


def test_refuses_an_internal_mask(make_raster):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = make_raster(scene(), nodata=None)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(scene() != 255)
    with pytest.raises(SceneError, match="internal mask"):
        vectorize(path)
    with pytest.raises(SceneError, match="internal mask"):
        vectorize(make_raster(scene()), path)


@pytest.mark.parametrize(
    ("shape", "place", "crs"),
    [
        ((20, 31), {}, {}),
        ((20, 30), {"transform": Affine(10, 0, 500_005, 0, -10, 5_600_000)}, {}),
        ((20, 30), {"transform": Affine(10.01, 0, 500_000, 0, -10, 5_600_000)}, {}),
        ((20, 30), {}, {"crs": "EPSG:32634"}),
    ],
)
def test_refuses_probabilities_on_another_grid(make_raster, shape, place, crs):
    probability = make_raster(np.zeros(shape, np.uint8), scale=1 / 254, **place, **crs)
    with pytest.raises(PairError, match="another grid than the mask"):
        vectorize(make_raster(scene()), probability)


def test_accepts_a_grid_that_differs_by_rounding(make_raster):
    place = Affine(10, 0, 500_000 + 1e-6, 0, -10, 5_600_000)
    probability = make_raster(np.full((20, 30), 127, np.uint8), scale=1 / 254, transform=place)

    assert vectorize(make_raster(scene()), probability).changes.probability_mean.to_list() == pytest.approx([0.5] * 3)


def test_refuses_whole_numbers_without_a_scale(make_raster):
    with pytest.raises(SceneError, match="without a scale"):
        vectorize(make_raster(scene()), make_raster(scene()))


def test_refuses_probabilities_of_some_classes_only(make_raster):
    mask = np.array([[1, 2, 3]], np.uint8)
    with pytest.raises(PairError, match="2 bands of probability"):
        vectorize(make_raster(mask), make_raster(np.stack([mask, mask]), scale=1 / 254))
