"""Series of dates: each interval as a run of its own would map it, and the date at which change showed first."""

import json
import re
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from changedet.detect.encode import Encoder
from changedet.detect.run import run
from changedet.detect.series import first_change, run_series
from changedet.detect.torch_detector import TorchDetector
from changedet.errors import ConfigError, OutputExistsError, PairError
from changedet.network.package import load_model
from tests.commands import call, names_in
from tests.data import texture, write_raster
from tests.pairs import RGBN, tiny_model

SIZE = 96


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def _dates(folder: Path, count: int = 3) -> list[Path]:
    """Write dates of which the second has a hole and the third another ground in a square."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number in range(count):
        image = np.stack([texture(SIZE, SIZE, seed=seed) for seed in range(4)])
        if number == 1:
            image[:, 10:20, 60:80] = 0
        if number >= 2:
            image[:, 40:70, 20:50] = 0.9
        stored = np.rint(image * 10_000).astype(np.uint16)
        tags = {"ACQUISITION_DATE": f"20{10 + number}-06-01"}
        paths.append(write_raster(folder / f"{number}.tif", stored, names=RGBN, tags=tags))
    return paths


def _pixels(path: Path) -> NDArray[np.uint16]:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_intervals_are_those_of_runs_of_two_dates(tmp_path: Path, model: Path) -> None:
    dates = _dates(tmp_path / "dates")
    options = {"model": str(model), "backend": "torch", "precision": "float32"}
    series = run_series(dates, tmp_path / "series", **options)
    assert names_in(series.out) == {"first_change.tif", "first_change.qml", "run.json", "interval_01", "interval_02"}
    for number, interval in enumerate(series.intervals):
        alone = run(*dates[number : number + 2], tmp_path / f"alone_{number}", **options)
        assert names_in(interval.out) == names_in(alone.out)
        ours, theirs = (_pixels(result.path("probability.tif")).astype(int) for result in (interval, alone))
        # Both dates in one batch or one after the other: convolutions sum in another order, and one byte may tip.
        assert np.abs(ours - theirs).max() <= 1
        assert (ours != theirs).mean() < 1e-3
        assert interval.record["dates"] == alone.record["dates"]


def test_first_change_follows_from_the_stored_probabilities(tmp_path: Path, model: Path) -> None:
    dates = _dates(tmp_path / "dates", 4)
    series = run_series(dates, tmp_path / "series", model=str(model), threshold=0.4)
    masks = [_pixels(interval.path("mask.tif")) for interval in series.intervals]
    expected = np.zeros((SIZE, SIZE), int)
    for number, mask in reversed(list(enumerate(masks, start=1))):
        expected[mask == 1] = number
    expected[np.all([mask == 255 for mask in masks], axis=0)] = 65_535
    first = _pixels(tmp_path / "series" / "first_change.tif")
    assert np.array_equal(first, expected)
    with rasterio.open(tmp_path / "series" / "first_change.tif") as dataset:
        assert (dataset.dtypes, dataset.nodata) == (("uint16",), 65_535)
        assert dataset.tags()["DATE_3"] == "2013-06-01"
        assert "1 is DATE_1, the second, 0 is never" in dataset.tags()["TIFFTAG_IMAGEDESCRIPTION"]
        assert dataset.descriptions == ("index of the date that shows change first",)
    style = (tmp_path / "series" / "first_change.qml").read_text()
    assert re.findall(r'value="(\d)"[^>]*label="([^"]*)"', style) == [
        *(("0", "no change"), ("1", "2011-06-01"), ("2", "2012-06-01"), ("3", "2013-06-01"))
    ]
    record = json.loads((tmp_path / "series" / "run.json").read_text())
    assert [date["date"] for date in record["dates"]] == [f"20{10 + n}-06-01" for n in range(4)]
    assert [interval["folder"] for interval in record["intervals"]] == ["interval_01", "interval_02", "interval_03"]


def test_the_index_is_of_the_first_interval_that_shows_change() -> None:
    masks = [np.array([[0, 1, 255, 255, 0]], np.uint8), np.array([[0, 2, 3, 255, 255]], np.uint8)]
    assert first_change(masks).tolist() == [[0, 1, 2, 65_535, 0]]


def test_features_of_a_date_are_computed_once(model: Path) -> None:
    detector = TorchDetector(load_model(model), "cpu")
    dates = [np.stack([texture(32, 32, seed=10 * d + b) for b in range(4)]) for d in range(5)]
    encoder = Encoder(detector)
    kept = [encoder.probability(before, after) for before, after in pairwise(dates)]
    assert encoder.encoded == 5
    for probability, before, after in zip(kept, dates, dates[1:], strict=False):
        np.testing.assert_allclose(probability, detector.predict(before[None], after[None])[0], atol=1e-5)


def test_what_differs_beside_another_date_is_encoded_again(model: Path) -> None:
    encoder = Encoder(TorchDetector(load_model(model), "cpu"))
    first, second = (np.stack([texture(32, 32, seed=d + b) for b in range(4)]) for d in (0, 7))
    encoder.probability(first, second)
    filled = second.copy()
    filled[:, 3:9, 3:9] = 0.1
    encoder.probability(filled, first)
    assert encoder.encoded == 4


def test_8_bit_dates_share_one_line_in_all_intervals(tmp_path: Path, model: Path) -> None:
    paths = []
    for number in range(3):
        image = (np.stack([texture(SIZE, SIZE, seed=seed) for seed in range(4)]) * (300 + 50 * number)).astype(np.uint8)
        paths.append(write_raster(tmp_path / f"{number}.tif", image, names=RGBN))
    series = run_series(paths, tmp_path / "out", model=str(model))
    curves = [r.record["preparation"][date] for r in series.intervals for date in ("curves_before", "curves_after")]
    assert all(curve == curves[0] for curve in curves)


def test_a_shorter_series_replaces_a_longer_one_whole(tmp_path: Path, model: Path) -> None:
    dates = _dates(tmp_path / "dates", 4)
    run_series(dates, tmp_path / "out", model=str(model))
    run_series(dates[:3], tmp_path / "out", model=str(model), overwrite=True)
    assert names_in(tmp_path / "out") == {
        "first_change.tif",
        "first_change.qml",
        "run.json",
        "interval_01",
        "interval_02",
    }


def test_nothing_is_left_of_a_series_that_fails(tmp_path: Path, model: Path) -> None:
    dates = _dates(tmp_path / "dates")
    image = np.ones((4, 9, 9), np.uint16)
    elsewhere = write_raster(tmp_path / "dates" / "else.tif", image, crs="EPSG:32733", names=RGBN)
    with pytest.raises(PairError, match="do not overlap"):
        run_series([*dates, elsewhere], tmp_path / "out", model=str(model))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="1 scenes"):
        run_series(dates[:1], tmp_path / "out", model=str(model))


def test_the_command_takes_any_number_of_dates(tmp_path: Path, model: Path) -> None:
    dates = _dates(tmp_path / "dates")
    result = call("run", *dates, "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 0, result.output
    assert "interval_02: 2011-06-01 to 2012-06-01" in result.stdout
    alone = call("run", dates[0], "-o", tmp_path / "one", "--model", model)
    assert (alone.exit_code, "Missing argument 'AFTER'" in alone.stderr) == (2, True)


@pytest.mark.parametrize("options", [{"detector": "irmad"}, {"detector": "pca-kmeans", "readers": 2}, {"tta": True}])
def test_what_sees_both_dates_at_once_maps_each_interval_as_a_run_would(
    tmp_path: Path, model: Path, options: dict[str, Any]
) -> None:
    dates = _dates(tmp_path / "dates")
    options = {"report": False, **({"model": str(model)} if "tta" in options else {}), **options}
    series = run_series(dates, tmp_path / "series", **options)
    for number, interval in enumerate(series.intervals):
        alone = run(*dates[number : number + 2], tmp_path / f"alone_{number}", **options)
        assert interval.results == alone.results
        for name in set(alone.results) & {"probability.tif", "mask.tif", "statistic.tif", "uncertainty.tif"}:
            with rasterio.open(interval.path(name)) as ours, rasterio.open(alone.path(name)) as theirs:
                np.testing.assert_array_equal(ours.read(), theirs.read())
        assert interval.record["threshold"] == alone.record["threshold"]


def test_intervals_that_are_there_are_reused_one_by_one(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dates = _dates(tmp_path / "dates", 4)
    options: dict[str, Any] = {"model": str(model), "report": False}
    first = run_series(dates[:3], tmp_path / "out", **options)
    new = run_series(dates, tmp_path / "new", threshold=0.4, **options)
    asked: list[int] = []
    real = Encoder.probability
    monkeypatch.setattr(Encoder, "probability", lambda *a: (asked.append(1), real(*a))[1])
    longer = run_series(dates, tmp_path / "out", threshold=0.4, reuse=True, **options)
    assert len(asked) == 1  # the last interval's one chip
    assert [each.record["times"]["reused"] is not None for each in longer.intervals] == [True, True, False]
    for name in ("first_change.tif", "interval_01/mask.tif", "interval_02/probability.tif", "interval_03/mask.tif"):
        assert np.array_equal(_pixels(longer.out / name), _pixels(new.out / name)), name
    again = run_series(dates, tmp_path / "again", reuse_from=str(new.out), **options)
    assert len(asked) == 1
    assert again.intervals[0].record["areas"] == first.intervals[0].record["areas"]
    other = str(tiny_model(tmp_path / "other.safetensors", bands=RGBN[:3]))
    with pytest.raises(ConfigError, match="cannot be reused: another model"):
        run_series(dates, tmp_path / "other", reuse_from=str(new.out), model=other)


@pytest.mark.parametrize("name", ["changes.parquet", "changes.fgb", "all.gpkg"])
def test_polygons_of_all_intervals_go_to_one_table(tmp_path: Path, model: Path, name: str) -> None:
    dates = _dates(tmp_path / "dates", 4)
    target = tmp_path / name
    options: dict[str, Any] = {"model": str(model), "threshold": 0.4, "report": False, "vector": (str(target),)}
    series = run_series(dates[:3], tmp_path / "out", **options)
    read = gpd.read_parquet if target.suffix == ".parquet" else partial(gpd.read_file, layer=0)
    rows = read(target)
    assert sorted(rows["id"]) == sorted(id_ for each in series.intervals for id_ in each.changes["id"])
    assert set(rows["date_after"]) == {"2011-06-01", "2012-06-01"}
    if target.suffix == ".parquet":
        longer = run_series(dates, tmp_path / "longer", append=True, **options)
        assert sorted(read(target)["id"]) == sorted(id_ for each in longer.intervals for id_ in each.changes["id"])
        with pytest.raises(OutputExistsError, match="--append to add to it"):
            run_series(dates, tmp_path / "third", **options)


def test_dates_that_are_both_displaced_are_looked_up_where_they_lie(tmp_path: Path) -> None:
    """The second and third dates lie (3, -2) px off the first; what changed between them has its own brightness."""
    ground = np.stack([texture(280, 280, seed=seed) for seed in range(4)])
    later = ground.copy()
    later[:, 100:140, 60:100] += 0.3
    paths = []
    for number, (image, row, col) in enumerate([(ground, 10, 10), (ground, 7, 12), (later, 7, 12)]):
        seen = np.rint(image[:, row : row + 256, col : col + 256] * 10_000).astype(np.uint16)
        paths.append(write_raster(tmp_path / f"{number}.tif", seen, names=RGBN))
    options: dict[str, Any] = {"detector": "cva", "threshold": "otsu", "coregister": True, "report": False}
    series = run_series(paths, tmp_path / "out", **options)
    removed = series.intervals[1].record["preparation"]
    for date in ("displacement_removed_px", "displacement_removed_before_px"):
        assert (removed[date]["row"], removed[date]["col"]) == pytest.approx((3, -2), abs=0.05)
    largest = series.intervals[1].changes.sort_values("area_m2").iloc[-1]
    assert largest.area_m2 == pytest.approx(40 * 40 * 100, rel=0.05)
    assert largest.brightness_change == pytest.approx(0.3, abs=0.01)
    assert largest.geometry.centroid.x == pytest.approx(500_000 + (80 - 10) * 10, abs=2)


def test_undated_intervals_go_to_no_common_table(tmp_path: Path, model: Path) -> None:
    image = np.stack([texture(40, 40, seed=seed) for seed in range(4)]) * 10_000
    paths = [write_raster(tmp_path / f"{n}.tif", image.astype(np.uint16), names=RGBN) for n in range(3)]
    with pytest.raises(ConfigError, match=r"date of .*0\.tif is not known(.|\n)*--dates"):
        run_series(paths, tmp_path / "out", model=str(model), vector=(str(tmp_path / "all.fgb"),))
    assert not (tmp_path / "out").exists()


def test_intervals_of_equal_dates_go_to_no_common_table(tmp_path: Path, model: Path) -> None:
    image = np.stack([texture(40, 40, seed=seed) for seed in range(4)]) * 10_000
    paths = [write_raster(tmp_path / f"{n}.tif", image.astype(np.uint16), names=RGBN) for n in range(3)]
    options: dict[str, Any] = {"model": str(model), "vector": (str(tmp_path / "all.fgb"),), "report": False}
    with pytest.raises(ConfigError, match="two intervals are from 2020-06-01 to 2020-06-01"):
        run_series(paths, tmp_path / "out", dates=("2020-06-01",) * 3, **options)
    run_series(paths, tmp_path / "out", dates=("2020-06-01", "2020-06-01", "2020-06-02"), **options)


def test_dates_without_a_band_in_common_are_told_by_their_number(tmp_path: Path) -> None:
    image = (texture(40, 40) * 10_000).astype(np.uint16)
    names = ("B04", "B04", "B08")
    paths = [write_raster(tmp_path / f"{n}.tif", image, names=[name]) for n, name in enumerate(names)]
    with pytest.raises(PairError, match="date 2 has bands B04 and date 3 has bands B08") as refused:
        run_series(paths, tmp_path / "out", detector="cva")
    assert "the same bands at all dates" in str(refused.value)
    with pytest.raises(PairError, match="no shipped model fits"):
        run_series(paths, tmp_path / "out")
