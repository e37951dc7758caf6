"""The whole way, end to end."""

import json
import math
import os
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio._env import get_gdal_config  # what GDAL itself holds, the default where nothing is set
from rasterio.features import rasterize
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

import changedet
from changedet.detect.run import RunResult, run
from changedet.errors import ConfigError, ModelError, OutputExistsError
from changedet.network.shipped import read_card
from tests.commands import call
from tests.pairs import RGBN, ROOT, SAMPLE, crop_sample, tiny_model

DATA = Path(os.environ.get("CHANGEDET_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ("probability.tif", "mask.tif", "changes.gpkg", "report.html", "run.json")


def _pixels(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The main job, on the sample pair with the shipped model that fits it."""
    return run(SAMPLE / "before.tif", SAMPLE / "after.tif", tmp_path_factory.mktemp("sample") / "out")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights, for what does not depend on how good it is."""
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small part of the sample pair, a good half of it nodata at the second date."""
    return crop_sample(tmp_path_factory.mktemp("corner"))


def test_the_folder_holds_the_results_and_nothing_else(sample: RunResult) -> None:
    assert {path.name for path in sample.out.iterdir()} == set(RESULTS)


@pytest.mark.parametrize("name", ["probability.tif", "mask.tif"])
def test_rasters_are_valid_cogs_on_the_before_grid(sample: RunResult, name: str) -> None:
    valid, errors, warnings = cog_validate(sample.path(name), quiet=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(SAMPLE / "before.tif") as before, rasterio.open(sample.path(name)) as result:
        assert (result.shape, result.transform, result.crs) == (before.shape, before.transform, before.crs)
        assert (result.dtypes, result.nodata) == (("uint8",), 255)


def test_rasters_say_what_they_are(sample: RunResult) -> None:
    record = sample.record
    expected = {
        "MODEL": "s2-urban-rgbn",
        "MODEL_SHA256": record["model"]["sha256"],
        "DATE_BEFORE": "2017-06-17",
        "DATE_AFTER": "2018-10-05",
    }
    threshold = f"{record['parameters']['threshold']:.6g}"
    for name, description in (("probability.tif", "probability"), ("mask.tif", "change")):
        with rasterio.open(sample.path(name)) as result:
            assert result.tags().items() >= expected.items()
            # A probability is the same whatever the threshold.
            assert result.tags().get("THRESHOLD") == (threshold if name == "mask.tif" else None)
            assert result.descriptions == (description,)
            assert "255: could not be compared" in result.tags()["TIFFTAG_IMAGEDESCRIPTION"]
    with rasterio.open(sample.path("probability.tif")) as result:
        assert result.scales == pytest.approx((1 / 254,), rel=1e-12)


def test_the_mask_follows_from_the_stored_probability(sample: RunResult) -> None:
    stored, mask = _pixels(sample.path("probability.tif")), _pixels(sample.path("mask.tif"))
    changed = stored >= math.ceil(254 * read_card("s2-urban-rgbn").threshold)
    np.testing.assert_array_equal(mask, np.where(stored == 255, 255, changed))


def test_nodata_at_one_date_is_nodata_in_both_rasters_and_never_unchanged(sample: RunResult) -> None:
    with rasterio.open(SAMPLE / "after.tif") as after:
        missing = (after.read() == 0).all(axis=0)
    assert missing.any()
    for name in ("probability.tif", "mask.tif"):
        np.testing.assert_array_equal(_pixels(sample.path(name)) == 255, missing)


def test_the_polygons_overlap_the_truth(sample: RunResult) -> None:
    truth = gpd.read_file(SAMPLE / "labels.gpkg", layer="changes").union_all()
    found = gpd.read_file(sample.path("changes.gpkg"), layer="changes").union_all()
    assert found.intersection(truth).area / found.union(truth).area >= 0.5


def test_the_polygons_cover_just_what_the_mask_says(sample: RunResult) -> None:
    changed = int((_pixels(sample.path("mask.tif")) == 1).sum())
    written = gpd.read_file(sample.path("changes.gpkg"), layer="changes")
    assert written.area.sum() == pytest.approx(changed * 100)
    assert len(written) == len(sample.changes) == sample.record["areas"]["polygons"] > 0
    assert set(written["model"]) == {"s2-urban-rgbn"}


def test_each_polygon_says_which_way_it_changed(sample: RunResult) -> None:
    changes = sample.changes
    assert set(changes.direction) <= {"brighter", "darker", "greener", "less green"}
    by_ndvi = changes.direction.isin(["greener", "less green"])
    rises = changes.ndvi_change.where(by_ndvi, changes.brightness_change) > 0
    assert (rises == changes.direction.isin(["greener", "brighter"])).all()


def test_the_record_says_what_was_done(sample: RunResult) -> None:
    record = json.loads(sample.path("run.json").read_text())
    assert record == json.loads(json.dumps(sample.record))
    assert {role: entry["bytes"] for role, entry in record["inputs"].items()} == {
        role: (SAMPLE / f"{role}.tif").stat().st_size for role in ("before", "after")
    }
    assert record["dates"] == {"before": "2017-06-17", "after": "2018-10-05"}
    assert record["parameters"]["max_memory"] == 2 * 10**9
    assert record["areas"]["changed_m2"] == pytest.approx(sample.changes.area_m2.sum(), abs=0.1)
    total = record["areas"]["comparable_m2"] + record["areas"]["unknown_m2"]
    assert total == pytest.approx(448 * 512 * 100, rel=2e-3)  # the ellipsoid is not the projection
    assert record["versions"]["changedet"] == changedet.__version__


def test_the_largest_changes_come_first(sample: RunResult) -> None:
    largest = [row["area_m2"] for row in sample.record["largest"]]
    assert largest == sorted(largest, reverse=True)
    assert largest[0] == pytest.approx(sample.changes.area_m2.max(), abs=0.1)


def test_a_second_run_gives_the_same_bytes(sample: RunResult, tmp_path: Path) -> None:
    again = run(SAMPLE / "before.tif", SAMPLE / "after.tif", tmp_path / "again")
    for name in ("probability.tif", "mask.tif"):
        assert again.path(name).read_bytes() == sample.path(name).read_bytes()
    assert {**again.record, "times": None} == {**sample.record, "times": None}


def test_equal_dates_give_a_valid_layer_without_polygons(sample: RunResult, tmp_path: Path) -> None:
    result = run(SAMPLE / "before.tif", SAMPLE / "before.tif", tmp_path / "out")
    assert not _pixels(result.path("mask.tif")).any()
    empty = gpd.read_file(result.path("changes.gpkg"), layer="changes")
    there = gpd.read_file(sample.path("changes.gpkg"), layer="changes")
    assert len(empty) == 0
    assert list(empty.columns) == list(there.columns)
    assert result.record["areas"]["changed_m2"] == 0


def _with_other_bytes_under_nodata(pair: tuple[Path, Path], path: Path) -> Path:
    """Write the before date with noise where the after date holds nodata."""
    with rasterio.open(pair[0]) as before, rasterio.open(pair[1]) as after:
        pixels, missing, profile = before.read(), (after.read() == 0).all(axis=0), before.profile
        names = before.descriptions
    pixels[:, missing] = np.random.default_rng(5).integers(1, 60_000, (len(pixels), missing.sum()))
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
        dataset.descriptions = names
    return path


def test_bytes_under_nodata_change_nothing(corner: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    other = _with_other_bytes_under_nodata(corner, tmp_path / "other.tif")
    options = {"model": str(model), "dates": ("2017-06-17", "2018-10-05")}
    one = run(*corner, tmp_path / "one", **options)
    two = run(other, corner[1], tmp_path / "two", **options)
    for name in ("probability.tif", "mask.tif"):
        assert one.path(name).read_bytes() == two.path(name).read_bytes()


def test_an_output_folder_that_is_in_use_is_refused_and_left_alone(
    corner: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mask.tif").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"already holds 1 file[\s\S]*--overwrite"):
        run(*corner, tmp_path / "out", model=str(model))
    assert (tmp_path / "out" / "mask.tif").read_text() == "mine"


def test_overwrite_replaces_the_results_and_leaves_other_files(
    corner: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("mask.tif", "report.html", "notes.txt"):
        (out / name).write_text("old")
    run(*corner, out, model=str(model), overwrite=True)
    assert {path.name for path in out.iterdir()} == {*RESULTS, "notes.txt"}
    assert len(_pixels(out / "mask.tif")) == 96


def test_min_area_leaves_out_polygons_and_no_pixels(corner: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    # Low enough for random weights to call much of it changed.
    options: dict[str, Any] = {"model": str(model), "threshold": 0.45}
    every = run(*corner, tmp_path / "all", **options)
    large = run(*corner, tmp_path / "large", min_area=1e12, **options)
    assert len(every.changes) > len(large.changes) == 0
    assert every.path("mask.tif").read_bytes() == large.path("mask.tif").read_bytes()


def test_bounds_cut_out_part_of_the_grid(corner: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    with rasterio.open(corner[0]) as before:
        bounds = before.window_bounds(Window(col_off=8, row_off=16, width=40, height=32))
    result = run(*corner, tmp_path / "out", model=str(model), bounds=bounds)
    with rasterio.open(result.path("mask.tif")) as mask:
        assert (mask.shape, tuple(mask.bounds)) == ((32, 40), bounds)


def test_more_readers_change_no_byte(corner: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    results = [run(*corner, tmp_path / str(readers), model=str(model), readers=readers) for readers in (1, 3)]
    assert len({result.path("probability.tif").read_bytes() for result in results}) == 1


def test_a_mapping_names_the_bands_of_a_file(corner: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    named = run(*corner, tmp_path / "named", model=str(model))
    mapped = run(*corner, tmp_path / "mapped", model=str(model), bands="red=1,green=2,blue=3,nir=4")
    assert named.path("probability.tif").read_bytes() == mapped.path("probability.tif").read_bytes()


def test_a_model_does_without_its_optional_bands_and_the_run_says_so(corner: tuple[Path, Path], tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "wide.safetensors", bands=("B01", *RGBN, "B12"), optional_bands=("B01", "B12"))
    result = run(*corner, tmp_path / "out", model=str(model))
    assert result.record["model"]["bands"] == list(RGBN)
    assert result.record["model"]["bands_missing"] == ["B01", "B12"]
    assert "wide has to do without B01 (coastal), B12 (swir22), which not both dates have" in result.record["warnings"]


def test_creation_options_reach_the_cogs(corner: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    result = run(*corner, tmp_path / "out", model=str(model), co={"COMPRESS": "ZSTD"})
    with rasterio.open(result.path("probability.tif")) as probability, rasterio.open(result.path("mask.tif")) as mask:
        assert (probability.profile["compress"], mask.profile["compress"]) == ("zstd", "zstd")


def test_an_exact_halo_is_refused_where_the_answer_depends_on_the_chip(
    corner: tuple[Path, Path], tmp_path: Path
) -> None:
    fixed = tiny_model(tmp_path / "fixed.safetensors", tiling="fixed_chip", chip_px=256, receptive_field_px=None)
    with pytest.raises(ConfigError, match=r"--halo exact with fixed[\s\S]*tiling: exact"):
        run(*corner, tmp_path / "out", model=str(fixed), halo="exact")
    assert not (tmp_path / "out").exists()


def test_chips_that_belong_to_the_model_have_its_size(corner: tuple[Path, Path], tmp_path: Path) -> None:
    fixed = tiny_model(
        tmp_path / "fixed.safetensors", tiling="fixed_chip", chip_px=48, halo_px=16, receptive_field_px=None
    )
    chips = run(*corner, tmp_path / "out", model=str(fixed)).record["chips"]
    # Cores of 16 px, but for those at the ends of 96 x 80 px.
    assert (chips["chip_height"], chips["chip_width"], chips["halo"], chips["chips"]) == (48, 48, 16, 4 * 3)


def test_gdal_keeps_little_in_memory_while_a_run_lasts(corner: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    before, seen = get_gdal_config("GDAL_CACHEMAX"), set()
    run(*corner, tmp_path / "out", model=str(model), progress=lambda *_: seen.add(get_gdal_config("GDAL_CACHEMAX")))
    # More from when the network is released: COGs are written beside the polygons by then.
    assert seen == {64 * 2**20, 480_000_000}
    assert get_gdal_config("GDAL_CACHEMAX") == before


def test_reversed_dates_are_warned_of(corner: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    result = run(*reversed(corner), tmp_path / "out", model=str(model))
    assert any("later than the after scene" in warning for warning in result.record["warnings"])


def test_dates_that_lie_on_each_other_are_no_reason_to_warn_that_nothing_was_removed(
    corner: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model": str(model), "coregister": True, "report": False}
    before, _ = crop_sample(tmp_path, row=0, col=0, height=260, width=260)
    same = run(before, before, tmp_path / "same", **options).record
    assert same["pair"]["alignment"] == "no shift to remove: the dates lie on each other"
    assert not [warning for warning in same["warnings"] if "coregister" in warning or "shift" in warning]
    torn = run(*corner, tmp_path / "torn", **options).record  # half of it is nodata
    assert "--coregister: nothing removed: too few windows agree on a shift" in torn["warnings"]


def test_a_model_that_is_not_free_is_refused_when_only_free_ones_are_wanted(
    corner: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="not free for commercial use"):
        run(*corner, tmp_path / "out", model="s2-urban-rgbn", free_only=True)


@pytest.mark.skipif(not (DATA / "oscd").is_dir(), reason=f"no folder oscd in {DATA} (CHANGEDET_DATA)")
@pytest.mark.parametrize("city", ["abudhabi", "beirut"])
def test_a_city_of_oscd_as_it_lies_there_gives_polygons(city: str, tmp_path: Path) -> None:
    (folder,) = (DATA / "oscd").glob(f"*Images/{city}")
    result = run(folder / "imgs_1", folder / "imgs_2", tmp_path / "out")
    assert result.record["model"]["name"].startswith("s2-urban")
    assert result.record["dates"]["before"] < result.record["dates"]["after"]
    assert len(result.changes) > 0
    assert result.changes.is_valid.all()
    with rasterio.open(result.path("mask.tif")) as mask:
        burnt = rasterize(result.changes.geometry, out_shape=mask.shape, transform=mask.transform)
        np.testing.assert_array_equal(burnt, mask.read(1) == 1)
    # One pixel of 10 m less detail, not a hundredth of the area.
    arguments = ("--simplify", "10", "-o", tmp_path / "simple.gpkg")
    assert call("vectorize", result.path("mask.tif"), *arguments).exit_code == 0
    simple = gpd.read_file(tmp_path / "simple.gpkg", layer="changes")
    assert simple.id.tolist() == result.changes.id.tolist()
    assert simple.area_m2.sum() == pytest.approx(result.changes.area_m2.sum(), rel=0.01)
    assert simple.count_coordinates().sum() < 0.85 * result.changes.count_coordinates().sum()
