"""sample_data is what its README says, and its script makes it again."""

import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.features import rasterize

FOLDER = Path(__file__).parents[1] / "sample_data"
DATES = ("before", "after")


def pixels(name: str, folder: Path = FOLDER) -> NDArray[np.uint16]:
    with rasterio.open(folder / f"{name}.tif") as scene:
        read: NDArray[np.uint16] = scene.read()
        return read


@pytest.fixture(scope="module")
def labels() -> geopandas.GeoDataFrame:
    return geopandas.read_file(FOLDER / "labels.gpkg", layer="changes")


@pytest.fixture(scope="module")
def truth(labels: geopandas.GeoDataFrame) -> NDArray[np.bool_]:
    """True = changed."""
    with rasterio.open(FOLDER / "before.tif") as scene:
        burnt: NDArray[np.uint8] = rasterize(labels.geometry, scene.shape, transform=scene.transform, dtype="uint8")
    return burnt.astype(bool)


@pytest.fixture(scope="module")
def uncovered() -> NDArray[np.bool_]:
    """True = nodata in the second image."""
    nothing: NDArray[np.bool_] = (pixels("after") == 0).all(axis=0)
    return nothing


def test_all_files_together_stay_under_4_mb() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 4_000_000


def test_both_dates_have_one_grid() -> None:
    with rasterio.open(FOLDER / "before.tif") as before, rasterio.open(FOLDER / "after.tif") as after:
        assert (before.crs, before.transform, before.shape) == (after.crs, after.transform, after.shape)


@pytest.mark.parametrize("name", DATES)
def test_format_is_as_the_readme_says(name: str) -> None:
    with rasterio.open(FOLDER / f"{name}.tif") as scene:
        assert scene.crs.to_epsg() == 32631
        assert scene.res == (10.0, 10.0)
        assert scene.shape == (448, 512)
        assert scene.dtypes == ("uint16",) * 4
        assert scene.nodatavals == (0.0,) * 4
        assert scene.descriptions == ("B04", "B03", "B02", "B08")
        assert scene.block_shapes == [(128, 128)] * 4


def test_only_the_second_date_leaves_a_corner_uncovered(uncovered: NDArray[np.bool_]) -> None:
    assert (pixels("before") > 0).all()
    assert ((pixels("after") == 0).any(axis=0) == uncovered).all(), "nodata in some bands only"
    assert 0.02 < uncovered.mean() < 0.04
    assert uncovered[-1, -1]
    # Slanted: it gets wider from row to row, and begins below the top.
    widths = uncovered.sum(axis=1)
    assert widths[0] == 0
    assert (np.diff(widths) >= 0).all()
    assert len(np.unique(widths)) > 50


def test_values_are_reflectances(uncovered: NDArray[np.bool_]) -> None:
    for name in DATES:
        seen = pixels(name)[:, ~uncovered] / 10_000
        assert (seen > 0.02).all()
        assert (seen < 0.6).all()
        # The air is brightest in the blue: so the darkest pixels are ordered.
        red, green, blue, _ = np.quantile(seen, 0.01, axis=1)
        assert red < green < blue


def test_labels_are_valid_plots_on_the_pixels_of_the_scene(labels: geopandas.GeoDataFrame) -> None:
    with rasterio.open(FOLDER / "before.tif") as scene:
        assert labels.crs == scene.crs
        left, bottom, right, top = labels.total_bounds
        bounds, transform = scene.bounds, scene.transform
    assert left >= bounds.left
    assert bottom >= bounds.bottom
    assert right <= bounds.right
    assert top <= bounds.top
    assert labels.geometry.is_valid.all()
    assert (labels.geom_type == "Polygon").all()
    assert 10 <= len(labels) <= 16
    assert labels["id"].is_unique
    assert labels["kind"].notna().all()
    assert (labels.area >= 1_500).all()
    columns, rows = ~transform @ labels.get_coordinates().to_numpy().T
    assert (columns == columns.round()).all()
    assert (rows == rows.round()).all()


def test_labels_are_disjoint_and_of_some_weight(labels: geopandas.GeoDataFrame, truth: NDArray[np.bool_]) -> None:
    assert labels.area.sum() == truth.sum() * 100
    assert 0.02 < truth.mean() < 0.04


def test_labels_lie_where_both_dates_are_seen(truth: NDArray[np.bool_], uncovered: NDArray[np.bool_]) -> None:
    assert not (truth & uncovered).any()


def test_what_was_built_stands_out_from_the_season(
    labels: geopandas.GeoDataFrame, truth: NDArray[np.bool_], uncovered: NDArray[np.bool_]
) -> None:
    """Each plot, not only their sum: brighter than the fields became, or darker where the field had been bright."""
    before, after = (pixels(name) / 10_000 for name in DATES)
    change = after - before
    with rasterio.open(FOLDER / "before.tif") as scene:
        transform = scene.transform
    usual = np.median(change[:, ~truth & ~uncovered], axis=1)
    for plot in labels.itertuples():
        inside = rasterize([plot.geometry], truth.shape, transform=transform, dtype="uint8").astype(bool)
        assert np.abs(np.median(change[:, inside], axis=1) - usual).max() > 0.03, plot.kind


@pytest.mark.slow
def test_the_script_makes_the_same_place_again(tmp_path: Path, labels: geopandas.GeoDataFrame) -> None:
    subprocess.run([sys.executable, FOLDER / "make_sample_data.py", tmp_path], check=True)
    for name in DATES:
        # Not all pixels: the order in which GEOS returns the parts of a cut differs between its releases, and with it
        # which roof a house in town has (2 % of the pixels between shapely 2.1 and 2.2).
        assert (pixels(name, tmp_path) == pixels(name)).all(axis=0).mean() > 0.97
    again = geopandas.read_file(tmp_path / "labels.gpkg", layer="changes")
    assert again[["id", "kind"]].equals(labels[["id", "kind"]])
    assert again.geometry.geom_equals(labels.geometry).all()
