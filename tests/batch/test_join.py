"""Tiles joined are the whole: pixels, polygons, attributes and ids."""

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox

from changedet.batch.join import Part, join_polygons, write_mosaics
from changedet.batch.manifest import Mosaic
from changedet.batch.outcome import Outcomes
from changedet.config import PolygonConfig, RunConfig
from changedet.detect.imagery import imagery_of
from changedet.detect.run import RunResult, run
from changedet.detect.scenes import open_scenes, reading_options
from changedet.grid import Window
from changedet.grid.window import blocks
from changedet.read.pair import Correction
from changedet.vectorize import Findings, Labels
from tests.batch.manifests import manifest_of
from tests.batch.tiles import layouts_of, outcomes_of, read_whole, write_tiles
from tests.data import geobox
from tests.pairs import SAMPLE
from tests.vectorize.tables import Tables, tables

GRID = geobox(24, 24)
MASKS = arrays(np.uint8, GRID.shape, elements=st.sampled_from([0, 0, 1, 1, 255]))
LABELS = Labels("2018-03-28", "2020-04-02", "tiny", 0.5)


def joined(out: Path, outcomes: Outcomes, parts: list[Part], **options: Any) -> tuple[Tables, Findings]:
    sink = Tables()
    work = out / "work"
    work.mkdir()
    findings = join_polygons(
        out, work, outcomes, parts, layouts_of(outcomes.manifest.geobox), sink=sink, config=PolygonConfig(**options)
    )
    return sink, findings


def vars_of(labels: Labels) -> dict[str, Any]:
    return {name: getattr(labels, name) for name in ("date_before", "date_after", "model", "threshold")}


def rows(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return a layer with its rows in an order that the way of making it has no part in."""
    return table.set_geometry(table.geometry.normalize()).sort_values("id", ignore_index=True)


def assert_same(found: gpd.GeoDataFrame, expected: gpd.GeoDataFrame) -> None:
    found, expected = rows(found), rows(expected)
    assert found.crs == expected.crs
    assert shapely.equals_exact(found.geometry.array, expected.geometry.array, tolerance=0).all()
    pd.testing.assert_frame_equal(
        pd.DataFrame(found.drop(columns="geometry")),
        pd.DataFrame(expected.drop(columns="geometry")),
        check_dtype=False,
        rtol=1e-9,
    )


@st.composite
def grids(draw: st.DrawFn) -> list[Window]:
    """A partition of the grid into rectangles of any size."""
    rows_at, cols_at = (sorted({0, *draw(st.sets(st.integers(1, 23), max_size=4)), 24}) for _ in range(2))
    return [
        Window(row, col, stop_row - row, stop_col - col)
        for row, stop_row in pairwise(rows_at)
        for col, stop_col in pairwise(cols_at)
    ]


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(mask=MASKS, windows=grids(), connectivity=st.sampled_from([4, 8]), seed=st.integers(0, 99))
def test_any_grid_of_tiles_joins_to_the_polygons_of_the_whole(
    mask: np.ndarray, windows: list[Window], connectivity: int, seed: int
) -> None:
    probability = np.random.default_rng(seed).integers(0, 255, mask.shape, dtype=np.uint8)
    wholes = {"mask.tif": mask, "probability.tif": np.where(mask == 255, 255, probability).astype(np.uint8)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        outcomes = outcomes_of(manifest_of(GRID, windows))
        write_tiles(out, outcomes, wholes)
        found, findings = joined(out, outcomes, [Part("all", LABELS, None)], connectivity=connectivity)
        one = outcomes_of(manifest_of(GRID, [Window(0, 0, 24, 24)], ids=["whole"]))
        write_tiles(out, one, wholes)
        whole = out / "tiles" / "whole"
        expected = tables(whole / "mask.tif", whole / "probability.tif", connectivity=connectivity, **vars_of(LABELS))
        for layer in ("changes", "unknown", "footprint"):
            assert_same(found.joined(layer), getattr(expected, layer))
        assert findings.polygons == expected.findings.polygons


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """One run over the sample pair, with directions."""
    return run(SAMPLE / "before.tif", SAMPLE / "after.tif", tmp_path_factory.mktemp("whole") / "out", min_area=300)


def part_of(before: Path, after: Path, whole: RunResult) -> Part:
    """Return what a batch knows of a mosaic, as its run knew it."""
    config = RunConfig()
    scenes = open_scenes(before, after, config)
    with rasterio.open(whole.path("mask.tif")) as mask:
        labels = Labels.of_tags(mask.tags())
    return Part("all", labels, imagery_of(scenes, reading_options(config), Correction()))


def cut(out: Path, whole: RunResult, windows: list[Window], failed: tuple[str, ...] = ()) -> Outcomes:
    with rasterio.open(whole.path("mask.tif")) as mask:
        grid = GeoBox.from_rio(mask)
    outcomes = outcomes_of(manifest_of(grid, windows), failed)
    write_tiles(out, outcomes, {name: read_whole(whole.path(name)) for name in ("mask.tif", "probability.tif")})
    return outcomes


@pytest.mark.parametrize("size", [200, 512])
def test_tiles_of_a_run_join_to_its_pixels_and_polygons(tmp_path: Path, whole: RunResult, size: int) -> None:
    windows = blocks(448, 512, size)
    outcomes = cut(tmp_path, whole, windows)
    part = part_of(SAMPLE / "before.tif", SAMPLE / "after.tif", whole)

    found, findings = joined(tmp_path, outcomes, [part], min_area=300)
    names = write_mosaics(tmp_path, tmp_path / "work", outcomes, layouts_of(outcomes.manifest.geobox))

    assert_same(found.joined("changes"), whole.changes)
    assert findings.changed_m2 == pytest.approx(whole.record["areas"]["changed_m2"], abs=0.1)
    assert findings.comparable_m2 == pytest.approx(whole.record["areas"]["comparable_m2"], abs=0.1)
    assert names == ["mask.vrt", "probability.vrt"]
    for name in names:
        (tmp_path / "work" / name).replace(tmp_path / name)
        assert np.array_equal(read_whole(tmp_path / name), read_whole(whole.path(name.replace("vrt", "tif"))))


def test_a_tile_that_failed_is_unknown_and_its_neighbours_end_at_it(tmp_path: Path) -> None:
    mask = np.zeros(GRID.shape, np.uint8)
    mask[5, 2:20] = 1  # across the edge of two tiles
    windows = blocks(24, 24, 12)
    outcomes = outcomes_of(manifest_of(GRID, windows), failed=["r0c12"])
    write_tiles(tmp_path, outcomes, {"mask.tif": mask, "probability.tif": mask * 200})

    found, findings = joined(tmp_path, outcomes, [Part("all", LABELS, None)])

    (change,) = found.joined("changes").itertuples()
    assert (change.geometry.area, change.touches_edge) == (1000.0, True)
    assert found.joined("unknown").geometry.area.tolist() == [12 * 12 * 100]
    assert found.joined("footprint").geometry.area.tolist() == [3 * 12 * 12 * 100]
    assert findings.comparable_m2 == pytest.approx(3 * findings.unknown_m2, rel=1e-4)


def test_ground_between_tiles_is_neither_comparable_nor_unknown(tmp_path: Path) -> None:
    mask = np.ones(GRID.shape, np.uint8)
    windows = [Window(0, 0, 4, 4), Window(4, 4, 4, 4), Window(16, 20, 8, 4)]
    outcomes = outcomes_of(manifest_of(GRID, windows))
    write_tiles(tmp_path, outcomes, {"mask.tif": mask, "probability.tif": mask * 200})

    found, _ = joined(tmp_path, outcomes, [Part("all", LABELS, None)])

    assert sorted(found.joined("changes").geometry.area) == [3200, 3200]  # two of them meet at a corner
    assert found.joined("changes").touches_edge.all()
    assert len(found.joined("unknown")) == 0
    assert found.joined("footprint").geometry.area.tolist() == [6400]


def test_polygons_of_two_mosaics_do_not_join(tmp_path: Path) -> None:
    mask = np.ones(GRID.shape, np.uint8)
    halves = {"a": Window(0, 0, 12, 24), "b": Window(12, 0, 12, 24)}
    mosaics = [Mosaic(name, f"{name}1.tif", f"{name}2.tif", window) for name, window in halves.items()]
    manifest = manifest_of(GRID, blocks(24, 24, 12), mosaics, names=["a", "a", "b", "b"])
    outcomes = outcomes_of(manifest)
    write_tiles(tmp_path, outcomes, {"mask.tif": mask, "probability.tif": mask * 200})
    other = Labels("2020-04-02", "2022-01-01", "tiny", 0.5)

    found, findings = joined(tmp_path, outcomes, [Part("a", LABELS, None), Part("b", other, None)], min_hole=10)

    changes = found.joined("changes").sort_values("date_before")
    assert changes.date_before.tolist() == ["2018-03-28", "2020-04-02"]
    assert changes.geometry.area.tolist() == [28800, 28800]
    for name, window in halves.items():
        alone = outcomes_of(manifest_of(GRID[window.slices], [Window(0, 0, 12, 24)], ids=[f"alone-{name}"]))
        write_tiles(tmp_path, alone, {"mask.tif": mask[:12], "probability.tif": mask[:12] * 200})
        labels = LABELS if name == "a" else other
        (expected,) = tables(tmp_path / "tiles" / f"alone-{name}" / "mask.tif", **vars_of(labels)).changes.id
        assert expected == changes.id.iloc["ab".index(name)]
    assert (findings.polygons, len(findings.largest)) == (2, 2)
    assert findings.changed_m2 == pytest.approx(findings.comparable_m2)
    assert findings.steps["min_hole"] == {"gained_m2": 0, "lost_m2": 0}


def test_a_mosaic_of_no_tile_is_written_all_the_same(tmp_path: Path) -> None:
    manifest = manifest_of(GRID, [Window(0, 0, 24, 24)])
    outcomes = outcomes_of(manifest, failed=["r0c0"])

    found, findings = joined(tmp_path, outcomes, [Part("all", LABELS, None)])
    write_mosaics(tmp_path, tmp_path / "work", outcomes, layouts_of(GRID))

    assert len(found.joined("changes")) == len(found.joined("footprint")) == findings.polygons == 0
    assert (read_whole(tmp_path / "work" / "mask.vrt") == 255).all()
