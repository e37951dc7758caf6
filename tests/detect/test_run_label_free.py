"""`run --detector`, end to end."""

import json
import os
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import get_args

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rio_cogeo.cogeo import cog_validate

from changedet.config import Detector
from changedet.detect import choose
from changedet.detect.run import RunResult, run
from changedet.errors import ConfigError, ModelError, PairError
from changedet.network.shipped import read_card, shipped_models
from changedet.report.command import command_of
from tests.commands import call, names_in
from tests.data import texture, write_raster
from tests.pairs import ROOT, SAMPLE, crop_sample

DATA = Path(os.environ.get("CHANGEDET_DATA", ROOT.parent / "shared" / "data"))
RESULTS = {"probability.tif", "mask.tif", "statistic.tif", "changes.gpkg", "report.html", "run.json"}


def _pixels(path: Path, band: int = 1) -> NDArray[np.generic]:
    with rasterio.open(path) as dataset:
        return dataset.read(band)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    out = tmp_path_factory.mktemp("sample") / "out"
    return run(SAMPLE / "before.tif", SAMPLE / "after.tif", out, detector="cva")


def test_the_folder_holds_the_statistic_too(sample: RunResult) -> None:
    assert names_in(sample.out) == RESULTS == set(sample.results)
    assert cog_validate(sample.path("statistic.tif"), quiet=True) == (True, [], [])
    with rasterio.open(sample.path("statistic.tif")) as statistic, rasterio.open(SAMPLE / "before.tif") as before:
        assert (statistic.dtypes, statistic.descriptions) == (("float32",) * 2, ("magnitude", "direction (degrees)"))
        assert np.isnan(statistic.nodata)
        assert (statistic.shape, statistic.transform, statistic.crs) == (before.shape, before.transform, before.crs)


def test_nodata_is_the_same_in_all_rasters(sample: RunResult) -> None:
    missing = _pixels(sample.path("mask.tif")) == 255
    assert missing.any()
    np.testing.assert_array_equal(_pixels(sample.path("probability.tif")) == 255, missing)
    np.testing.assert_array_equal(np.isnan(_pixels(sample.path("statistic.tif"))), missing)


def test_the_record_says_what_was_fitted_and_why_the_threshold(sample: RunResult) -> None:
    record = json.loads(sample.path("run.json").read_text())
    assert record["model"]["name"] == "cva"
    assert record["model"]["commercial_use"] is True
    assert record["threshold"]["rule"] == "mixture"
    fitted = record["preparation"]["fitted"]
    assert fitted["mixture"]["family"] == "gamma"
    assert fitted["sample"]["valid_px"] == int((_pixels(sample.path("mask.tif")) != 255).sum())
    assert np.shape(fitted["statistic"]["mean"]) == (2, 4)


def test_what_is_found_is_mostly_what_changed(sample: RunResult) -> None:
    truth = gpd.read_file(SAMPLE / "labels.gpkg", layer="changes").union_all()
    found = sample.changes.union_all()
    right = found.intersection(truth).area
    assert right / found.area > 0.5
    assert right / truth.area > 0.3


@pytest.mark.parametrize("rule", ["otsu", "chi2:0.999", "statistic:20"])
def test_a_rule_on_the_statistic_makes_the_mask_from_the_statistic(rule: str, tmp_path: Path) -> None:
    result = run(*crop_sample(tmp_path), tmp_path / "out", detector="irmad", threshold=rule, report=False)
    threshold = result.record["threshold"]
    statistic, mask = _pixels(result.path("statistic.tif")), _pixels(result.path("mask.tif"))
    expected = np.where(np.isnan(statistic), 255, statistic >= np.float32(threshold["statistic"]))
    np.testing.assert_array_equal(mask, expected)
    assert threshold["decides"] == "statistic"
    assert f"--detector irmad --threshold {rule}" in command_of(result.record)
    with rasterio.open(result.path("mask.tif")) as dataset:
        assert float(dataset.tags()["STATISTIC_THRESHOLD"]) == pytest.approx(threshold["statistic"], rel=1e-5)
    np.testing.assert_allclose(result.changes["threshold"], threshold["probability"], rtol=1e-5)


def test_memory_makes_chips_and_chips_make_no_difference(tmp_path: Path) -> None:
    pair = SAMPLE / "before.tif", SAMPLE / "after.tif"
    whole = run(*pair, tmp_path / "whole", detector="pca-kmeans", report=False)
    tiled = run(*pair, tmp_path / "tiled", detector="pca-kmeans", max_memory=630_000_000, report=False)
    assert tiled.record["chips"]["chips"] > whole.record["chips"]["chips"] == 1
    for name in ("probability.tif", "mask.tif", "statistic.tif"):
        np.testing.assert_array_equal(_pixels(tiled.path(name)), _pixels(whole.path(name)))


def test_another_threshold_takes_the_statistic_over(tmp_path: Path) -> None:
    pair = crop_sample(tmp_path)
    run(*pair, tmp_path / "out", detector="irmad", report=False)
    computed = run(*pair, tmp_path / "anew", detector="irmad", report=False, threshold="otsu")
    reused = run(*pair, tmp_path / "out", detector="irmad", report=False, threshold="otsu", reuse=True)
    assert reused.record["times"]["reused"] is not None
    np.testing.assert_array_equal(_pixels(reused.path("mask.tif")), _pixels(computed.path("mask.tif")))
    np.testing.assert_array_equal(_pixels(reused.path("statistic.tif")), _pixels(computed.path("statistic.tif")))


def test_equal_dates_have_no_changes(tmp_path: Path) -> None:
    before, _ = crop_sample(tmp_path)
    for name in get_args(Detector):
        result = run(before, before, tmp_path / name, detector=name, report=False)
        assert (len(result.changes), result.record["areas"]["changed_m2"]) == (0, 0)
        if name != "urban":  # its threshold is a number
            assert "nothing is changed" in result.record["threshold"]["reason"]


def _without_names(folder: Path, bands: int = 2) -> tuple[Path, Path]:
    """Write two dates of int16 bands that no model knows, with nodata tagged at one date only."""
    rng = np.random.default_rng(0)
    before = np.stack([texture(80, 90, seed=seed) * 10_000 for seed in range(bands)])
    after = before * 0.9 + rng.normal(0, 100, before.shape)
    after[:, 20:40, 30:50] += 4000
    before[:, :10] = -999
    return (
        write_raster(folder / "b e.tif", before.astype(np.int16), nodata=-999),
        write_raster(folder / "after.tif", after.astype(np.int16)),
    )


def test_where_no_model_fits_the_error_offers_a_command_that_works(tmp_path: Path) -> None:
    result = call("run", *_without_names(tmp_path), "-o", tmp_path / "out")
    assert result.exit_code == 5
    offered = re.search(r"with no model at all: changedet (.*)", result.stderr)
    assert offered is not None, result.stderr
    assert call(*shlex.split(offered[1])).exit_code == 0
    mask = _pixels(tmp_path / "out" / "mask.tif")
    assert (mask[20:40, 30:50] == 1).mean() > 0.9
    assert (mask[:10] == 255).all()
    assert (mask[50:] == 1).mean() < 0.05


def test_where_not_even_the_bands_agree_nothing_is_offered(tmp_path: Path) -> None:
    before, _ = _without_names(tmp_path)
    other = write_raster(tmp_path / "other.tif", np.ones((3, 80, 90), np.int16))
    with pytest.raises(PairError) as caught:
        run(before, other, tmp_path / "out")
    assert "--detector" not in str(caught.value)


def test_where_no_model_is_free_the_error_offers_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paid = {name: path for name, path in shipped_models().items() if not read_card(path).commercial_use}
    monkeypatch.setattr(choose, "shipped_models", lambda: paid)
    with pytest.raises(ModelError, match=r"with no model at all: changedet run .* --detector irmad"):
        run(*crop_sample(tmp_path), tmp_path / "out", free_only=True)


def test_deep_says_which_encoder_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the shipped models the one that learned without labels."""
    pair = crop_sample(tmp_path)
    shipped = run(*pair, tmp_path / "shipped", detector="deep", report=False)
    assert shipped.record["model"]["encoder"] == "s2-urban-rgbn-free"
    assert shipped.record["model"]["commercial_use"] is True
    paid = run(*pair, tmp_path / "paid", detector="deep", model="s2-urban-rgbn", report=False)
    assert paid.record["model"]["commercial_use"] is False
    monkeypatch.setattr(choose, "shipped_models", dict)
    none = run(*pair, tmp_path / "none", detector="deep", free_only=True, report=False)
    assert any("random weights" in warning for warning in none.record["warnings"])
    assert none.record["model"]["commercial_use"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": "cva", "model": "s2-urban"}, "cva needs no model"),
        ({"detector": "cva", "device": "cuda"}, "--device cuda with --detector cva"),
        ({"detector": "cva", "threshold": "chi2:0.9"}, "no chi-square distribution"),
        ({"detector": "mad", "threshold": "chi2:1"}, "between 0 and 1"),
        ({"threshold": "otsu"}, "--threshold otsu with a network"),
        ({"detector": "mad", "threshold": "triangle"}, "threshold: .*otsu, mixture, chi2:0.99 or statistic:NUMBER"),
        ({"detector": "mud"}, "detector"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run(*crop_sample(tmp_path), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def _pairs_of(folder: str) -> list[tuple[Path, Path]]:
    """Return the consecutive pairs of a folder of the real data."""
    return list(pairwise(sorted((DATA / folder).glob("*.*tif"))))


def _named(pair: tuple[Path, Path]) -> str:
    return "-".join(path.stem for path in pair)


def _assert_mapped(pair: tuple[Path, Path], out: Path) -> None:
    result = run(*pair, out, detector="irmad")
    assert names_in(result.out) == RESULTS
    mask, statistic = _pixels(result.path("mask.tif")), _pixels(result.path("statistic.tif"))
    np.testing.assert_array_equal(np.isnan(statistic), mask == 255)
    assert 0 < (mask == 1).sum() / (mask != 255).sum() < 0.5


QUICK = [*_pairs_of("landsat7_chiapas"), *_pairs_of("forest_guiana"), *_pairs_of("landsat_ucayali")[-1:]]
LONG = [*_pairs_of("landsat_ucayali")[:-1], *_pairs_of("naip_prairie")]


@pytest.mark.skipif(not QUICK, reason=f"no real pairs in {DATA} (CHANGEDET_DATA)")
@pytest.mark.parametrize("pair", QUICK, ids=_named)
def test_irmad_maps_signed_integers_with_nodata_small_images_and_alpha(pair: tuple[Path, Path], tmp_path: Path) -> None:
    _assert_mapped(pair, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not LONG, reason=f"no real pairs in {DATA} (CHANGEDET_DATA)")
@pytest.mark.parametrize("pair", LONG, ids=_named)
def test_irmad_maps_every_other_real_pair(pair: tuple[Path, Path], tmp_path: Path) -> None:
    _assert_mapped(pair, tmp_path / "out")


@pytest.mark.skipif(not (DATA / "oscd").is_dir(), reason=f"no folder oscd in {DATA} (CHANGEDET_DATA)")
@pytest.mark.parametrize("detector", ["irmad", "pca-kmeans"])
def test_a_city_of_oscd_is_mapped_with_all_its_bands(detector: str, tmp_path: Path) -> None:
    (folder,) = (DATA / "oscd").glob("*Images/bercy")
    result = run(folder / "imgs_1", folder / "imgs_2", tmp_path / "out", detector=detector, coregister=True)
    assert len(result.record["model"]["bands"]) == 13
    assert len(result.changes) > 0
