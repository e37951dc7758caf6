"""The overview of a batch in a real browser, opened from disk."""

from pathlib import Path
from typing import Any

import pytest

from changedet.batch.join import seen_mosaic
from changedet.batch.overview import NAME, write_overview
from tests.batch.tiles import layouts_of
from tests.batch.whole import GRID, joined_batch
from tests.system.conftest import PHONE

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole = joined_batch(tmp_path_factory.mktemp("batch"))
    layout = layouts_of(GRID)["probability.tif"]
    seen = seen_mosaic(whole.out / "seen.vrt", whole.out, whole.outcomes.with_files(), "probability.tif", layout)
    write_overview(whole.out, seen, whole.outcomes, "manifest.parquet")
    return whole.out / NAME


def seen_share(page: Any, name: str) -> tuple[bool, str]:
    pane = page.locator(f"#map .leaflet-{name}-pane")
    return pane.evaluate("pane => [pane.hidden, pane.style.clipPath]")


def test_tiles_are_left_of_the_divider_and_the_probability_right(watched: Any, path: Path) -> None:
    page = watched(reduced_motion="reduce").goto(path)
    assert page.locator("#map .side.left").inner_text() == "Tiles"
    assert page.locator("#map .side.right").inner_text() == "Probability"
    page.locator(".views label", has_text="Tiles").click()
    assert seen_share(page, "probability")[0]
    assert not seen_share(page, "tiles")[0]
    page.locator(".views label", has_text="Probability").click()
    assert seen_share(page, "tiles")[0]


def test_the_list_takes_the_map_to_a_change(watched: Any, path: Path) -> None:
    page = watched(reduced_motion="reduce").goto(path)
    assert page.locator("#changes tbody tr").count() == 2
    page.locator(".go").first.click()
    page.wait_for_timeout(300)
    assert page.locator(".attributes h3").inner_text() == "Change 1"


@pytest.mark.parametrize("options", [PHONE, {"color_scheme": "dark"}])
def test_nothing_is_cut_off_on_a_phone_and_nothing_glares_in_the_dark(
    watched: Any, path: Path, options: dict[str, Any]
) -> None:
    page = watched(**options).goto(path)
    width = page.viewport_size["width"]
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in ground[4:-1].split(",")) < 120) == ("color_scheme" in options)
