"""Plans of every kind of source and tile grid; and that what they plan, once run, is what one run gives."""

import json
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from changedet.batch import run as batch_run
from changedet.batch.manifest import IDENTICAL, OUTSIDE
from changedet.batch.manifest_file import read_manifest
from changedet.batch.outcome import DONE, FAILED, LEFT, SKIPPED
from changedet.batch.plan import plan_batch
from changedet.batch.run import run_batch
from changedet.batch.sources import Unmatched, find_pairs
from changedet.detect.stitch import stitch
from changedet.errors import ConfigError, OutputExistsError, PairError, SceneError
from changedet.grid import Window, plan_chips
from changedet.grid.quantise import stored_threshold
from changedet.grid.window import blocks
from changedet.read.opening import open_scene
from changedet.read.pair import PairOptions, RasterPair
from tests.batch.kernel import BANDS, MEMORY, THRESHOLD, InlineEngine, expected, kernel_method, stored, write_scenes
from tests.commands import names_in
from tests.detect.test_stitch import ArraySink, KernelDetector

HEIGHT, WIDTH = 180, 240


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), HEIGHT, WIDTH)


@pytest.fixture(autouse=True)
def _inline(monkeypatch):
    monkeypatch.setattr(batch_run, "Engine", InlineEngine)


def _plan(before, after, folder, *, name="m.parquet", **options):
    return plan_batch(before, after, folder / name, method_of=kernel_method, max_memory=MEMORY, **options)


def _run(plan, folder):
    result = run_batch(plan.path, folder / "out", method_of=kernel_method, max_memory=MEMORY)
    return stored(result.out, result.outcomes)


def _split(path, folder, rows, cols):
    """Write a scene as files that cut it, three pixels over each other."""
    folder.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path) as dataset:
        for window in blocks(HEIGHT, WIDTH, 1):
            if window.row % rows == window.col % cols == 0:
                height, width = min(rows + 3, HEIGHT - window.row), min(cols + 3, WIDTH - window.col)
                part = rasterio.windows.Window(window.col, window.row, width, height)
                profile = dataset.profile | {"height": height, "width": width}
                target = folder / f"r{window.row}_c{window.col}_{path.stem}.tif"
                with rasterio.open(target, "w", **profile | {"transform": dataset.window_transform(part)}) as piece:
                    piece.write(dataset.read(window=part))
                    piece.descriptions = dataset.descriptions
    return folder


def _districts(path, grid):
    """Write three polygons, in degrees, that cover a grid and do not follow its pixels."""
    left, bottom, right, top = GeoBox.from_rio(rasterio.open(grid)).boundingbox.bbox
    middle, across = (left + right) / 2, (top - bottom) / 3
    shapes = [
        shapely.Polygon([(left - 9, top + 9), (middle, top + 9), (middle + 300, bottom - 9), (left - 9, bottom - 9)]),
        shapely.Polygon(
            [(middle, top + 9), (right + 9, top + 9), (right + 9, top - across), (middle + 100, top - across)]
        ),
        shapely.Polygon(
            [
                (middle + 90, top - across + 5),
                (right + 9, top - across + 5),
                (right + 9, bottom - 9),
                (middle + 300, bottom - 9),
            ]
        ),
    ]
    gpd.GeoDataFrame({"name": ["West", "North", "South"]}, geometry=shapes, crs=32633).to_crs(4326).to_file(path)
    return str(path)


@pytest.mark.parametrize("grid", ["size", "xyz", "mgrs", "polygons"])
def test_any_tile_grid_gives_the_pixels_of_one_run(scenes, tmp_path, grid):
    options = {
        "size": {"tile_size": "120"},
        "xyz": {"xyz": 15},
        "mgrs": {"mgrs": True},
        "polygons": {"tiles": _districts(tmp_path / "districts.gpkg", scenes[0])},
    }[grid]
    plan = _plan(*scenes, tmp_path, **options)
    assert (len(plan.manifest) > 1) == (grid != "mgrs")
    assert (plan.manifest.lattice is None) == (grid != "size")
    assert (plan.estimate.times == 1) == (grid in ("size", "mgrs"))
    np.testing.assert_array_equal(_run(plan, tmp_path), expected(*scenes))


@pytest.mark.parametrize("name", ["m.parquet", "m.csv"])
def test_two_folders_of_pieces_give_the_pixels_of_the_whole(scenes, tmp_path, name):
    before, after = (_split(path, tmp_path / path.stem, 70, 90) for path in scenes)
    plan = _plan(before, after, tmp_path, name=name, match="{}_*.tif", tile_size="60")
    assert plan.pairs == 9
    assert [mosaic.name for mosaic in plan.manifest.mosaics] == ["mosaic"]
    assert plan.manifest.geobox.shape == (HEIGHT, WIDTH)
    assert read_manifest(plan.path).digest == plan.manifest.digest
    np.testing.assert_array_equal(_run(plan, tmp_path), expected(*scenes))


def test_two_item_collections_give_the_pixels_of_the_whole(scenes, tmp_path):
    for path in scenes:
        pieces = sorted(_split(path, tmp_path / path.stem, 90, 240).iterdir())
        items = [
            {
                "type": "Feature",
                "id": f"{piece.stem}",
                "properties": {"grid:code": piece.stem.partition("_c")[0], "datetime": "2018-03-28T00:00:00Z"},
                "assets": {"image": {"href": str(piece), "bands": [{"name": "red"}, {"name": "nir"}]}},
            }
            for piece in pieces
        ]
        (tmp_path / f"{path.stem}.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    plan = _plan(tmp_path / "before.json", tmp_path / "after.json", tmp_path, tile_size="100")
    (mosaic,) = plan.manifest.mosaics
    assert mosaic.dates == ("2018-03-28", "2018-03-28")
    assert plan.pairs == 2
    np.testing.assert_array_equal(_run(plan, tmp_path), expected(*scenes))


def test_a_tile_index_and_a_virtual_raster_give_the_pixels_of_the_whole(scenes, tmp_path):
    before, after = (_split(path, tmp_path / path.stem, 70, 90) for path in scenes)
    index = tmp_path / "before.gti.gpkg"
    pieces = sorted(before.iterdir())
    boxes = [shapely.box(*rasterio.open(piece).bounds) for piece in pieces]
    gpd.GeoDataFrame({"location": [str(piece) for piece in pieces]}, geometry=boxes, crs=32633).to_file(index)
    plan = _plan(index, after / "r0_c0_after.tif", tmp_path, bands="B04=1,B08=2/", tile_size="60", name="part.csv")
    assert plan.manifest.geobox.shape == (73, 93)
    plan = _plan(index, scenes[1], tmp_path, bands="B04=1,B08=2/", tile_size="60")
    assert len(plan.manifest) == 12
    np.testing.assert_array_equal(_run(plan, tmp_path), expected(*scenes))


@pytest.fixture
def zones(scenes, tmp_path):
    """Two folders of three sites, each of which is of two dates; the last is in the next zone."""
    for path in scenes:
        folder = tmp_path / path.stem
        folder.mkdir()
        with rasterio.open(path) as dataset:
            array, profile, names = dataset.read(), dataset.profile, dataset.descriptions
        # At 12° E, where both zones reach to.
        for name, crs, left in (("a", 32633, 290_000), ("b", 32633, 296_000), ("c", 32632, 708_000)):
            place = {"crs": f"EPSG:{crs}", "transform": Affine(10, 0, left, 0, -10, 5_600_000)}
            with rasterio.open(folder / f"{name}.tif", "w", **profile | place) as dataset:
                dataset.write(array)
                dataset.descriptions = names
    return tmp_path / "before", tmp_path / "after"


def test_a_site_in_another_crs_is_resampled_as_a_run_on_the_grid_of_the_batch_would(zones, scenes, tmp_path):
    plan = _plan(*zones, tmp_path, tile_size="100")
    assert (plan.warped, plan.manifest.crs_text) == (("c",), "EPSG:32633")
    got = _run(plan, tmp_path)
    for name in "ab":  # these are on the grid already
        window = plan.manifest.mosaic(name).window
        np.testing.assert_array_equal(got[window.slices], expected(*scenes))
    window = plan.manifest.mosaic("c").window
    grid = plan.manifest.geobox[window.slices]
    warped = [open_scene(folder / "c.tif").select(BANDS) for folder in zones]
    with RasterPair(*warped, PairOptions(), geobox=grid) as pair:
        sink = ArraySink(grid.shape)
        stitch(pair, KernelDetector(), plan_chips(*grid.shape, chip=1024, halo=1, stride=1), sink)
    np.testing.assert_array_equal(got[window.slices], sink.stored[0])
    assert (sink.stored[0] != 255).mean() > 0.5


def test_a_site_in_another_crs_is_left_out_where_nothing_is_to_be_resampled(zones, tmp_path):
    plan = _plan(*zones, tmp_path, other_grids="refuse")
    assert {mosaic.name for mosaic in plan.manifest.mosaics} == {"a", "b"}
    (left,) = plan.unmatched
    assert "it lies on another grid than the batch, 10 units of EPSG:32632 and not 10 units of EPSG:32633" in left.why


def test_sites_far_apart_are_one_result_with_overviews_and_a_catalogue(scenes, tmp_path):
    for date, path in zip(("2018-03-28", "2020-04-02"), scenes, strict=True):
        folder = tmp_path / path.stem
        folder.mkdir()
        with rasterio.open(path) as dataset:
            array, profile, names = dataset.read(), dataset.profile, dataset.descriptions
        for name, left in (("near", 500_000), ("far", 600_000)):
            place = {"transform": Affine(10, 0, left, 0, -10, 5_600_000)}
            with rasterio.open(folder / f"{name}_{date}.tif", "w", **profile | place) as dataset:
                dataset.write(array)
                dataset.descriptions = names
    plan = _plan(*(tmp_path / path.stem for path in scenes), tmp_path, match="{}_{date}.tif", tile_size="120")
    assert plan.manifest.geobox.shape == (HEIGHT, 10_000 + WIDTH)
    result = run_batch(plan.path, tmp_path / "out", method_of=kernel_method, max_memory=MEMORY)
    collection = json.loads((result.out / "collection.json").read_text())
    assert sorted(collection["assets"]) == sorted(
        ["mask.vrt", "probability.vrt", "changes.gpkg", "failures.csv", "run.json", "overview.html"]
    )
    assert {f"./{name}" for name in result.results if "/" in name} == {
        link["href"] for link in collection["links"] if link["rel"] == "item"
    }
    assert {"mask.vrt.ovr", "probability.vrt.ovr"} <= set(result.results)
    with rasterio.open(result.out / "mask.vrt") as mask:
        assert mask.overviews(1)
        array = mask.read(1)
    whole = expected(*scenes)
    changed = np.where(whole == 255, 255, whole >= stored_threshold(THRESHOLD))
    for col in (0, 10_000):
        np.testing.assert_array_equal(array[:, col : col + WIDTH], changed)
    assert (array[:, WIDTH:10_000] == 255).all()


@pytest.mark.parametrize(("dates", "polygons"), [(("2020-04-02", "2020-04-02"), 1), (("2020-04-02", "2021-06-01"), 2)])
def test_polygons_join_over_scenes_only_where_dates_agree(scenes, tmp_path, dates, polygons):
    """The disc lies half in one scene and half in the next."""
    before, after = (_split(path, tmp_path / path.stem, 180, 120) for path in scenes)
    for folder, told in ((before, ("2018-03-28", "2018-03-28")), (after, dates)):
        for col, date in zip((0, 120), told, strict=True):
            (folder / f"r0_c{col}_{folder.name}.tif").rename(folder / f"c{col}_{date}.tif")
    plan = _plan(before, after, tmp_path, match="{}_{date}.tif", tile_size="60")
    assert len(plan.manifest.mosaics) == polygons
    result = run_batch(plan.path, tmp_path / "out", method_of=kernel_method, max_memory=MEMORY, min_area=10_000)
    changes = gpd.read_file(result.out / "changes.gpkg", layer="changes")
    assert sorted(changes.date_after.astype(str).str[:10]) == sorted({*dates})
    assert len(changes) == polygons
    assert changes.geometry.area.sum() > 100 * np.pi * 40**2


def test_pairs_apart_are_each_what_a_run_of_it_is(scenes, tmp_path):
    before, after = (_split(path, tmp_path / path.stem, 180, 120) for path in scenes)
    plan = _plan(before, after, tmp_path, match="{}_*.tif", apart=True, tile_size="1000")
    assert [tile.id for tile in plan.manifest.tiles()] == ["r0_c0", "r0_c120"]
    got = _run(plan, tmp_path)
    for col, width in ((0, 120), (120, 120)):
        pair = [folder / f"r0_c{col}_{folder.name}.tif" for folder in (before, after)]
        np.testing.assert_array_equal(got[:, col : col + width], expected(*pair)[:, :width])


def test_ground_that_is_mapped_for_two_mosaics_is_told(scenes, tmp_path):
    before, after = (_split(path, tmp_path / path.stem, 180, 117) for path in scenes)
    plan = _plan(before, after, tmp_path, match="{}_*.tif", apart=True)
    # Two columns of 117 px and one of 6, each three over the next.
    assert any(note.startswith(f"{6 / 240:.1%} of the ground lies in more than one mosaic") for note in plan.notes)
    assert not _plan(*scenes, tmp_path, name="one.csv").notes


def test_what_cannot_have_changed_is_known(scenes, tmp_path):
    before, after = (_split(path, tmp_path / path.stem, 180, 120) for path in scenes)
    (after / "r0_c120_after.tif").write_bytes((before / "r0_c120_before.tif").read_bytes())
    area = tmp_path / "area.gpkg"
    gpd.GeoSeries([shapely.box(500_000, 5_599_400, 501_000, 5_600_000)], crs=32633).to_file(area)
    plan = _plan(before, after, tmp_path, match="{}_*.tif", apart=True, tile_size="60")
    assert plan.estimate.skipped == {IDENTICAL: 6}
    assert {tile.mosaic for tile in plan.manifest.tiles() if tile.skip} == {"r0_c120"}
    corner = _plan(*scenes, tmp_path, name="area.csv", aoi=str(area), tile_size="60")
    assert corner.manifest.geobox.shape == (60, 100)
    assert not corner.estimate.skipped
    ring = shapely.box(500_000, 5_598_200, 502_400, 5_600_000) - shapely.box(500_500, 5_598_700, 501_900, 5_599_500)
    gpd.GeoSeries([ring], crs=32633).to_file(tmp_path / "ring.gpkg")
    plan = _plan(*scenes, tmp_path, name="ring.parquet", aoi=str(tmp_path / "ring.gpkg"), tile_size="60")
    outside = [tile.window for tile in plan.manifest.tiles() if tile.skip == OUTSIDE]
    assert outside == [Window(61, 61, 60, 60), Window(61, 121, 60, 60)]
    assert read_manifest(plan.path).aoi == str(tmp_path / "ring.gpkg")
    result = run_batch(plan.path, tmp_path / "out", method_of=kernel_method, max_memory=MEMORY)
    assert result.outcomes.counts == {DONE: 10, SKIPPED: 2, FAILED: 0, LEFT: 0}
    assert result.record["tiles"]["skipped"] == 2


def test_what_is_left_out_is_listed_beside_the_manifest(scenes, tmp_path):
    before, after = (_split(path, tmp_path / path.stem, 180, 120) for path in scenes)
    (after / "r0_c120_after.tif").unlink()
    plan = _plan(before, after, tmp_path, match="{}_*.tif")
    told = (tmp_path / "m.unmatched.csv").read_text().splitlines()
    assert told == ["source,why", f"{before / 'r0_c120_before.tif'},there is no r0_c120 after"]
    assert plan.unmatched_path == tmp_path / "m.unmatched.csv"
    (before / "r0_c120_before.tif").unlink()
    assert _plan(before, after, tmp_path, match="{}_*.tif", overwrite=True).unmatched_path is None
    assert not (tmp_path / "m.unmatched.csv").exists()


def test_what_is_left_out_is_no_formula_and_hides_credentials(scenes, tmp_path, monkeypatch):
    def find(*asked):
        return find_pairs(*asked)[0], [Unmatched("=https://me:hunter2@host/a.tif", "@why")]

    monkeypatch.setattr("changedet.batch.plan.find_pairs", find)
    _plan(*scenes, tmp_path)
    told = (tmp_path / "m.unmatched.csv").read_text().splitlines()
    assert told == ["source,why", "'=https://***@host/a.tif,'@why"]


def test_a_plan_that_fails_leaves_nothing(scenes, tmp_path):
    out = tmp_path / "new"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no tile of that grid"):
        _plan(*scenes, out, tiles=_far_away(tmp_path / "far.gpkg"))
    with pytest.raises(PairError, match="no pair of scenes"):
        _plan(tmp_path / "empty", tmp_path / "empty", out)
    with pytest.raises(ConfigError, match="expected one of tile_size, xyz, mgrs and tiles"):
        _plan(*scenes, out, xyz=3, mgrs=True)
    with pytest.raises(ConfigError, match="ends in"):
        _plan(*scenes, out, name="m.json")
    (tmp_path / "text.tif").write_text("text")
    with pytest.raises(SceneError, match="cannot be opened"):
        _plan(scenes[0], tmp_path / "text.tif", out)
    assert not out.exists()


def _far_away(path):
    gpd.GeoSeries([shapely.box(0, 0, 1, 1)], crs=4326).to_file(path)
    return str(path)


def test_an_earlier_plan_is_kept_unless_it_is_to_be_replaced(scenes, tmp_path):
    before, after = (_split(path, tmp_path / path.stem, 180, 120) for path in scenes)
    first = _plan(before, after, tmp_path, match="{}_*.tif")
    with pytest.raises(OutputExistsError, match="another -o"):
        _plan(before, after, tmp_path, match="{}_*.tif")
    second = _plan(*scenes, tmp_path, overwrite=True)
    assert second.manifest.digest != first.manifest.digest
    assert {"m.parquet", "m.sources"} & names_in(tmp_path) == {"m.parquet"}


def test_a_hundred_thousand_tiles_are_planned_in_seconds(scenes, tmp_path):
    """A tenth of what benchmarks/plan.py measures, with room for a busy machine."""
    wide = tmp_path / "wide.vrt"
    with rasterio.open(scenes[0]) as dataset:
        _stretch(dataset, wide, 16_000, 25_000)
    started = time.perf_counter()
    plan = _plan(wide, wide, tmp_path, tile_size="60", tile_id=None)
    assert len(plan.manifest) > 100_000
    assert time.perf_counter() - started < 30


def _stretch(dataset, path, height, width):
    """Write a raster of any size that holds another in its first corner."""
    bands = "".join(
        f'<VRTRasterBand dataType="Float32" band="{band}"><Description>{dataset.descriptions[band - 1]}</Description>'
        f"<NoDataValue>-1</NoDataValue><SimpleSource><SourceFilename>{dataset.name}</SourceFilename>"
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2)
    )
    transform = ", ".join(map(str, dataset.transform.to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{dataset.crs.to_wkt()}</SRS>'
        f"<GeoTransform>{transform}</GeoTransform>{bands}</VRTDataset>"
    )
    assert isinstance(path, Path)
