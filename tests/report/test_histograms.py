"""Bars count what is there."""

from pathlib import Path

import numpy as np
import pytest

from changedet.grid.quantise import stored_threshold
from changedet.report.histograms import probability_chart, probability_counts, size_chart
from tests.data import write_raster


def test_every_area_is_counted_once() -> None:
    areas = np.random.default_rng(4).lognormal(8, 2, 500)
    chart = size_chart(areas)
    assert chart is not None
    assert sum(bar.count for bar in chart.bars) == 500
    for bar in chart.bars:
        assert bar.count == ((areas >= bar.start) & (areas < bar.stop)).sum()
    assert max(bar.height for bar in chart.bars) == 1
    assert all(0 < height <= 1 for height, _ in chart.levels)
    assert "500 areas" in chart.alt


@pytest.mark.parametrize("areas", [[100.0], [100.0, 100.0], [0.2, 3e9]])
def test_edge_cases_of_areas_have_bars_around_them(areas: list[float]) -> None:
    chart = size_chart(np.array(areas))
    assert chart is not None
    assert chart.bars[0].start <= min(areas) < chart.bars[0].stop
    assert chart.bars[-1].start <= max(areas) < chart.bars[-1].stop
    assert sum(bar.count for bar in chart.bars) == len(areas)


def test_without_polygons_there_is_no_chart_of_areas() -> None:
    assert size_chart(np.array([])) is None


def test_probabilities_are_counted_exactly_and_nodata_is_not(tmp_path: Path) -> None:
    stored = np.random.default_rng(5).integers(0, 256, (1100, 40), dtype=np.uint8)
    counts = probability_counts(write_raster(tmp_path / "probability.tif", stored, nodata=255))
    np.testing.assert_array_equal(counts, np.bincount(stored.ravel(), minlength=256)[:255])


def test_of_several_classes_the_highest_counts(tmp_path: Path) -> None:
    stored = np.array([[[10, 255]], [[30, 7]]], np.uint8)
    counts = probability_counts(write_raster(tmp_path / "probability.tif", stored, nodata=255))
    assert (counts[30], counts.sum()) == (1, 1)


def test_bars_are_marked_from_the_threshold_on() -> None:
    counts = np.arange(255)
    chart = probability_chart(counts, 0.53)
    assert sum(bar.count for bar in chart.bars) == counts.sum()
    marked = [bar.start for bar in chart.bars if bar.is_marked]
    assert marked[0] == pytest.approx(0.52)
    assert f"{counts[stored_threshold(0.53) :].sum():,} of them" in chart.alt


def test_no_pixel_at_all_is_a_chart_of_flat_bars() -> None:
    chart = probability_chart(np.zeros(255, np.int64), 0.5)
    assert {bar.height for bar in chart.bars} == {0}
