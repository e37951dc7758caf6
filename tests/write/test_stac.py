"""A run as a STAC Item."""

import json
from pathlib import Path

import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from pystac.validation import validate_dict

import changedet
from changedet.errors import ConfigError
from changedet.write.raster import RasterSink, mask_layout, probability_layout, statistic_layout
from changedet.write.stac import extent_of, write_item
from tests.data import geobox
from tests.pairs import crop_sample, tiny_model

GRID = geobox(20, 30)
NAMES = ("probability.tif", "mask.tif", "statistic.tif", "changes.gpkg", "run.json")


def _record(path: str = "a/before.tif", before: str = "2018-03-28", after: str = "2020-04-02") -> dict[str, object]:
    return {
        "inputs": {"before": {"path": path}, "after": {"path": "b/after.tif"}},
        "dates": {"before": before, "after": after},
        "model": {"name": "tiny", "licence": "CC0-1.0"},
        "areas": {"changed_m2": 1200.0},
    }


def _write(folder: Path, grid: GeoBox = GRID, **fields: str) -> pystac.Item:
    layouts = {
        "probability.tif": probability_layout(grid),
        "mask.tif": mask_layout(grid),
        "statistic.tif": statistic_layout(grid, ("chi-square",)),
    }
    for name, layout in layouts.items():
        with RasterSink(folder / name, layout):
            pass
    write_item(folder / "stac.json", _record(**fields), NAMES)
    return pystac.Item.from_file(str(folder / "stac.json"))


def test_it_holds_to_the_schema_of_an_item(tmp_path: Path) -> None:
    _write(tmp_path)
    content = json.loads((tmp_path / "stac.json").read_text())
    # The schemas of the extensions are not bundled with pystac; the next tests read their fields with its classes.
    assert len(content["stac_extensions"]) == 2
    assert validate_dict({**content, "stac_extensions": []})


def test_place_and_time_are_those_of_the_run(tmp_path: Path) -> None:
    item = _write(tmp_path)
    assert item.datetime is None
    assert [moment[:10] for moment in (item.properties["start_datetime"], item.properties["end_datetime"])] == [
        "2018-03-28",
        "2020-04-02",
    ]
    assert item.bbox == pytest.approx(GRID.geographic_extent.boundingbox.bbox)
    projection = ProjectionExtension.ext(item)
    assert (projection.code, projection.shape) == ("EPSG:32633", [20, 30])
    assert projection.transform == list(GRID.affine)[:6]


ACROSS = {
    "degrees": (GeoBox((20, 30), Affine(0.001, 0, 179.99, 0, -0.001, 10), "EPSG:4326"), 0.02),
    "degrees from -180 on": (GeoBox((20, 30), Affine(0.001, 0, -180.01, 0, -0.001, 10), "EPSG:4326"), 0.02),
    "UTM": (geobox(20, 30, crs="EPSG:32660", transform=Affine(100, 0, 828_000, 0, -100, 1_107_000)), None),
}


@pytest.mark.parametrize("name", ACROSS)
def test_across_the_antimeridian_the_outline_is_cut_and_west_is_the_greater(tmp_path: Path, name: str) -> None:
    grid, east_of_it = ACROSS[name]
    item = _write(tmp_path, grid)
    west, south, east, north = item.bbox
    assert 179.9 < west < 180
    assert -180 < east < -179.9
    assert south < north
    outline = shapely.geometry.shape(item.geometry)
    assert outline.is_valid
    assert len(outline.geoms) == 2
    assert [part.bounds[0] < 0 for part in sorted(outline.geoms, key=lambda part: part.bounds[0])] == [True, False]
    assert sum(part.bounds[2] - part.bounds[0] for part in outline.geoms) == pytest.approx(east + 360 - west)
    if east_of_it is not None:
        assert east == pytest.approx(-180 + east_of_it)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("crs", "transform", "bbox"),
    [
        ("EPSG:3413", Affine(1000, 0, -32_000, 0, -1000, 32_000), (-180, 89.583, 180, 90)),
        ("EPSG:3031", Affine(1000, 0, -32_000, 0, -1000, 32_000), (-180, -90, 180, -89.583)),
        ("EPSG:3031", Affine(1000, 0, 3_000, 0, -1000, 32_000), (5.356, -89.972, 174.644, -89.317)),
        ("EPSG:4326", Affine(1, 0, -32, 0, -1, 90.5), (-32, 26.5, 32, 90)),
        ("+proj=geos +h=35785831 +lon_0=140 +datum=WGS84", Affine(175e3, 0, -5.6e6, 0, -175e3, 5.6e6), None),
        ("ESRI:54009", Affine(563e3, 0, -18e6, 0, -282e3, 9e6), None),
    ],
)
def test_grids_around_a_pole_or_the_disc_of_the_earth_have_an_extent(
    crs: str, transform: Affine, bbox: tuple[float, ...] | None
) -> None:
    geometry, found = extent_of(GeoBox((64, 64), transform, crs))
    assert shapely.geometry.shape(geometry).is_valid
    if bbox is not None:
        assert found == pytest.approx(bbox, abs=1e-3)
    assert -90 <= found[1] < found[3] <= 90


def test_reversed_dates_give_a_span_that_runs_forwards(tmp_path: Path) -> None:
    item = _write(tmp_path, before="2020-04-02", after="2018-03-28")
    assert item.properties["start_datetime"] < item.properties["end_datetime"]


def test_assets_say_what_the_files_are(tmp_path: Path) -> None:
    item = _write(tmp_path)
    assert {Path(asset.href).name for asset in item.assets.values()} == set(NAMES)
    assert item.assets["mask"].roles == ["data", "classification"]
    (probability,) = RasterExtension.ext(item.assets["probability"]).bands or []
    assert (probability.nodata, probability.data_type, probability.scale) == (255, "uint8", pytest.approx(1 / 254))
    (statistic,) = RasterExtension.ext(item.assets["statistic"]).bands or []
    assert (statistic.nodata, statistic.data_type) == ("nan", "float32")


def test_a_hostile_file_name_makes_no_path_of_the_identifier(tmp_path: Path) -> None:
    item = _write(tmp_path, path="x/a b<script>&é.tif")
    assert item.id.startswith("change_a-b-script-")
    assert not set(item.id) & set("/ <>&")


def test_a_run_writes_one_beside_its_files(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    pair = crop_sample(tmp_path)
    result = changedet.run(*pair, tmp_path / "out", model=str(model), stac=True, report=False)
    item = pystac.Item.from_file(str(result.path("stac.json")))
    assert {Path(asset.href).name for asset in item.assets.values()} == set(result.results) - {"stac.json"}
    assert all((tmp_path / "out" / Path(asset.href).name).exists() for asset in item.assets.values())


def test_without_dates_it_is_refused_before_the_work(tmp_path: Path) -> None:
    pair = crop_sample(tmp_path)
    for path in pair:
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(**dict.fromkeys(dataset.tags(), ""))
    with pytest.raises(ConfigError, match=r"--stac, but the date of .*before\.tif is not known[\s\S]*--dates"):
        changedet.run(*pair, tmp_path / "out", stac=True)
    assert not (tmp_path / "out").exists()
