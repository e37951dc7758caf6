"""The overview of a batch, as text; tests/system has it in a browser."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from changedet.batch.join import seen_mosaic
from changedet.batch.overview import NAME, tiles_picture, write_overview
from changedet.grid.window import blocks
from tests.batch.manifests import manifest_of
from tests.batch.tiles import layouts_of, outcomes_of
from tests.batch.whole import GRID, Whole, joined_batch


def overview(whole: Whole) -> str:
    tiles = whole.outcomes.with_files()
    seen = seen_mosaic(whole.out / "seen.vrt", whole.out, tiles, "probability.tif", layouts_of(GRID)["probability.tif"])
    write_overview(whole.out, seen, whole.outcomes, "manifest.parquet")
    return (whole.out / NAME).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return overview(joined_batch(tmp_path_factory.mktemp("batch")))


def test_it_tells_figures_failures_and_mosaics(page: str) -> None:
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "What changed from 28 March 2018 to 2 April 2020" in words
    assert "12 tiles of 2 mosaics" in words
    assert "11 done 0 skipped 1 failed 0 left" in words
    assert "r0c40 SceneError damaged, =1+1 try: another" in words
    assert "bottom b1.tif b2.tif" in words


def test_what_others_named_is_text_and_secrets_are_not_there(page: str) -> None:
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "<b>warning" not in page
    assert "secret" not in page


def test_the_command_does_the_batch_again_whoever_shares_the_work(page: str) -> None:
    (command,) = re.findall(r"<code>(changedet batch run .*?)</code>", page)
    assert command == "changedet batch run --model tiny --min-area 5.0 --threshold 0.5 -o again -- manifest.parquet"


def test_equal_batches_give_equal_pages(tmp_path: Path) -> None:
    pages = [overview(joined_batch(tmp_path / name / "batch")) for name in "ab"]
    assert pages[0] == pages[1]


def test_a_batch_of_no_tile_is_told_too(tmp_path: Path) -> None:
    every = tuple(f"r{row}c{col}" for row in (0, 20, 40) for col in (0, 20, 40, 60))
    assert "No change was found" in overview(joined_batch(tmp_path, failed=every))


def test_tiles_are_where_they_are_and_in_the_colour_of_their_state() -> None:
    outcomes = outcomes_of(manifest_of(GRID, blocks(60, 80, 20)), failed=["r20c40"])
    encoded = tiles_picture(outcomes).uri.removeprefix("data:image/webp;base64,")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    assert pixels.shape[:2] == (60, 80)
    assert np.abs(pixels[30, 50, :3].astype(int) - (213, 60, 0)).max() < 30
    assert np.abs(pixels[30, 10, :3].astype(int) - (0, 114, 178)).max() < 30
