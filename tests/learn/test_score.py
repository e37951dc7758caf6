from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from changedet.detect import budget
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.datasets import SceneSource, dataset_of, load_scene, open_dataset
from changedet.learn.score import score_scene
from tests.data import write_raster

MakeOscd = Callable[..., Path]


class _Brighter:
    """A detector without a network: the probability is three times what the first band gained."""

    bands = ("B02", "B08")
    classes, stride, halo, field, tiling = 1, 16, 16, 16, "exact"
    base_bytes, bytes_per_px, chip_px = 0, 100.0, None

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        return (3 * (after - before))[:, :1].clip(0, 1)


@pytest.fixture
def source(tmp_path: Path, make_oscd: MakeOscd) -> SceneSource:
    return open_dataset(dataset_of(str(make_oscd(tmp_path, ("a",), 80)))).scenes[0]


def _whole(source: SceneSource) -> ProbabilityHistogram:
    scene = load_scene(source, _Brighter.bands)
    images = (image.astype(np.float32)[None] for image in (scene.before, scene.after))
    stored = np.rint(_Brighter().predict(*images)[0, 0] * 254).astype(np.uint8)
    return ProbabilityHistogram.of(stored, scene.changed, scene.valid)


def test_a_scene_scored_in_chips_is_the_scene_scored_whole(
    source: SceneSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_LARGEST_CHIP", 48)
    seen: list[int] = []
    score = score_scene(
        source, _Brighter(), threshold=0.5, max_memory=10**9, progress=lambda _, __, total: seen.append(total)
    )
    assert seen[-1] > 4
    expected = _whole(source)
    assert score.pixels.counts(0.5) == expected.counts(0.5)
    assert np.abs(score.pixels.changed.cumsum() - expected.changed.cumsum()).max() <= 2  # read as float16 there
    assert score.name == "a"


def test_objects_are_those_of_the_mask(source: SceneSource) -> None:
    objects = score_scene(source, _Brighter(), threshold=0.5, max_memory=10**9).objects.figures()["all"]
    assert (objects["true"], objects["called"]) == (1, 1)
    assert objects["iou_0.5"] == {"precision": 1.0, "recall": 1.0}


def test_all_pixels_of_the_labels_count_where_the_protocol_says_so(tmp_path: Path, source: SceneSource) -> None:
    """The after scene covers two thirds of the grid, and some of it is nodata: unmapped pixels are mapped unchanged."""
    with source.open(_Brighter.bands) as opened:
        changed, unchanged = opened.labels.totals()
        box = opened.pair.geobox
    folder = source.after  # type: ignore[attr-defined]
    for file in folder.iterdir():
        cut = np.full((54, 80), 1500, np.uint16)
        cut[:10] = 0
        write_raster(file, cut, crs="EPSG:4326", transform=box.affine)
    valid = score_scene(source, _Brighter(), threshold=0.5, max_memory=10**9).pixels
    every = score_scene(source, _Brighter(), threshold=0.5, max_memory=10**9, all_pixels=True).pixels
    assert (every.changed.sum(), every.unchanged.sum()) == (changed, unchanged)
    assert valid.changed.sum() + valid.unchanged.sum() < 54 * 80
    assert np.array_equal(every.changed[1:], valid.changed[1:])
