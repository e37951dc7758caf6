"""The report in a real browser, opened from disk, as whoever gets it opens it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image

from changedet.detect.run import RunResult, run
from changedet.report import draw_pictures, write_report
from changedet.report.words import area
from tests.layers import write_tables
from tests.pairs import SAMPLE
from tests.system.conftest import PHONE

pytestmark = pytest.mark.system

NASTY = "<script>alert(1)<!-- & <img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The main job on copies of the sample pair whose names are markup."""
    folder = tmp_path_factory.mktemp("sample")
    before, after = folder / f"{NASTY}.tif", folder / "after & after.tif"
    shutil.copy(SAMPLE / "before.tif", before)
    shutil.copy(SAMPLE / "after.tif", after)
    return run(before, after, folder / "out")


@pytest.fixture(scope="module")
def changes(sample: RunResult) -> gpd.GeoDataFrame:
    """The polygons in px of the grid, by falling area."""
    layer = gpd.read_file(sample.path("changes.gpkg"), layer="changes")
    with rasterio.open(sample.path("mask.tif")) as mask:
        inverse = ~mask.transform
    matrix = [inverse.a, inverse.b, inverse.d, inverse.e, inverse.c, inverse.f]
    return layer.set_geometry(layer.affine_transform(matrix)).sort_values("area_m2", ascending=False, kind="stable")


@pytest.fixture
def page(watched: Any, sample: RunResult) -> Any:
    return watched(reduced_motion="reduce").goto(sample.path("report.html"))


def place_of(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return where column x and row y of the grid are on the screen, by the picture, which covers 448 x 512 of them."""
    box = page.locator("#picture-before, #picture-after").locator("visible=true").first.bounding_box()
    return box["x"] + x / 512 * box["width"], box["y"] + y / 448 * box["height"]


def click_at(page: Any, x: float, y: float) -> None:
    page.mouse.click(*place_of(page, x, y))
    page.wait_for_timeout(100)


def popup(page: Any) -> dict[str, str]:
    """Return the attributes in the popup, by label."""
    names, values = (page.locator(f".attributes {tag}").all_text_contents() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def areas_listed(page: Any) -> list[str]:
    return page.locator("#changes tbody td.area").all_text_contents()


def right_edge(page: Any) -> float:
    """Return up to where the picture of the first date is seen, as a share of the map's width."""
    clip = page.locator("#map .leaflet-before-pane").evaluate("pane => pane.style.clipPath")
    xs = [float(x) for x in re.findall(r"(-?[\d.]+)px -?[\d.]+px", clip)]
    start = page.evaluate("() => document.querySelector('.leaflet-map-pane').getBoundingClientRect().x")
    box = page.locator("#map").bounding_box()
    return (start + max(xs) - box["x"]) / box["width"]


def test_names_of_files_are_texts(page: Any) -> None:
    assert NASTY in page.locator(".where").inner_text()
    assert page.locator("img").count() == 3
    assert "after & after.tif" in page.title()


def test_the_divider_follows_the_pointer_and_shows_the_dates_on_its_sides(page: Any) -> None:
    box = page.locator("#map").bounding_box()
    handle = page.locator("#divider span").bounding_box()
    assert right_edge(page) == pytest.approx(0.5, abs=0.01)
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 200, steps=4)
    page.mouse.up()
    assert right_edge(page) == pytest.approx(0.25, abs=0.01)
    assert page.locator("#divider").get_attribute("aria-valuenow") == "25"


def test_the_divider_follows_the_keyboard_and_stays_where_it_is_while_the_map_moves(page: Any) -> None:
    divider = page.locator("#divider")
    divider.focus()
    for key, expected in (("ArrowRight", 52), ("PageDown", 42), ("Home", 0), ("ArrowLeft", 0), ("PageUp", 10)):
        page.keyboard.press(key)
        assert divider.get_attribute("aria-valuenow") == str(expected)
    assert right_edge(page) == pytest.approx(0.1, abs=0.01)
    page.locator("#map").focus()
    page.keyboard.press("+")
    page.wait_for_timeout(400)
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(400)
    assert right_edge(page) == pytest.approx(0.1, abs=0.01)


def test_what_is_seen_left_is_before_and_right_is_after(page: Any, sample: RunResult) -> None:
    """A place that turned bright: dark when the divider lies right of it, bright when left."""
    with rasterio.open(SAMPLE / "before.tif") as before, rasterio.open(SAMPLE / "after.tif") as after:
        first, second = before.read(1).astype(float), after.read(1).astype(float)
    box = gpd.read_file(SAMPLE / "labels.gpkg", layer="changes")
    with rasterio.open(SAMPLE / "after.tif") as after:
        rows, cols = rasterio.transform.rowcol(after.transform, *box.representative_point().get_coordinates().T.values)
    brighter = max(zip(rows, cols, strict=True), key=lambda at: second[at] - first[at])
    page.locator("#outlines").uncheck()
    shades = []
    for view in ("Before", "After"):
        page.locator(".views label", has_text=view).click()
        x, y = place_of(page, brighter[1] + 0.5, brighter[0] + 0.5)
        shot = page.screenshot(clip={"x": round(x), "y": round(y), "width": 1, "height": 1})
        (sample.out.parent / "shot.png").write_bytes(shot)
        shades.append(np.asarray(Image.open(sample.out.parent / "shot.png").convert("L")).item())
    assert shades[1] > shades[0] + 60


def test_a_click_on_a_polygon_shows_its_attributes(page: Any, changes: gpd.GeoDataFrame) -> None:
    for rank in (0, 3, 7):
        row = changes.iloc[rank]
        inside = row.geometry.representative_point()
        click_at(page, inside.x, inside.y)
        shown = popup(page)
        assert page.locator(".attributes h3").inner_text() == f"Change {rank + 1}"
        assert (shown["Id"], shown["Area"]) == (row.id, area(row.area_m2))
        assert shown["Mean probability"] == f"{row.probability_mean:.2f}"
        assert shown["Date before"] == "2017-06-17"
        assert page.locator("#changes tr[aria-current]").get_attribute("data-index") == str(rank)
        page.keyboard.press("Escape")
        page.wait_for_timeout(300)
        assert page.locator(".attributes").count() == 0


def test_outlines_lie_on_the_pixels_exactly(page: Any, changes: gpd.GeoDataFrame) -> None:
    """Close up, a click just within reach of an edge meets the polygon, one just beyond does not, on all four sides."""
    page.locator(".views label", has_text="After").click()  # without the divider, which takes clicks
    page.locator(".go").nth(11).click()
    page.wait_for_timeout(200)
    shape = changes.geometry.iloc[11]
    reach = 6.0  # half of the line's width and Leaflet's tolerance, in px of the screen
    scale = page.locator("#picture-after").bounding_box()["width"] / 512
    assert 2 / scale <= 0.5, "a slip of half a pixel would be seen"
    points = shapely.get_coordinates(shape)
    for axis, side in ((0, -1), (0, 1), (1, -1), (1, 1)):
        x, y = points[np.argmax(side * points[:, axis])]
        along = shapely.intersection(shape.boundary, shapely.box(x - 0.01, y - 0.01, x + 0.01, y + 0.01)).centroid
        for off, is_met in ((reach - 2, True), (reach + 2, False)):
            page.keyboard.press("Escape")
            page.wait_for_timeout(280)
            step = side * off / scale
            click_at(page, along.x + step * (axis == 0), along.y + step * (axis == 1))
            assert (page.locator(".attributes").count() > 0) == is_met, (axis, side, off)


def test_the_list_sorts_by_any_column_both_ways(page: Any, changes: gpd.GeoDataFrame) -> None:
    falling = [area(value) for value in changes.area_m2]
    assert areas_listed(page) == falling
    page.locator("#changes th", has_text="Area").get_by_role("button").click()
    assert areas_listed(page) == falling[::-1]
    heading = page.locator("#changes th", has_text="Area")
    assert heading.get_attribute("aria-sort") == "ascending"
    page.locator("#changes th", has_text="Probability").get_by_role("button").click()
    shown = page.locator("#changes tbody td.probability").all_text_contents()
    assert shown == [f"{value:.2f}" for value in sorted(changes.probability_mean, reverse=True)]
    assert heading.get_attribute("aria-sort") == "none"


def test_the_list_takes_the_map_to_a_change_by_mouse_and_by_keyboard(page: Any, changes: gpd.GeoDataFrame) -> None:
    before = page.locator("#picture-after").bounding_box()["width"]
    page.locator(".go").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert popup(page)["Area"] == area(changes.area_m2.iloc[2])
    assert page.locator("#picture-after").bounding_box()["width"] > 1.5 * before
    box = page.locator("#map").bounding_box()
    centre = changes.geometry.iloc[2].envelope.centroid
    x, y = place_of(page, centre.x, centre.y)
    assert x == pytest.approx(box["x"] + box["width"] / 2, abs=4)
    assert box["y"] < y < box["y"] + box["height"]
    page.get_by_role("button", name="Whole area").click()
    page.wait_for_timeout(300)
    assert page.locator("#picture-after").bounding_box()["width"] == pytest.approx(before, abs=1)


def test_flying_ends_at_the_change(watched: Any, sample: RunResult, changes: gpd.GeoDataFrame) -> None:
    page = watched().goto(sample.path("report.html"))
    page.locator("#changes tbody tr").nth(4).click()
    page.wait_for_timeout(1600)
    box = page.locator("#map").bounding_box()
    centre = changes.geometry.iloc[4].envelope.centroid
    assert place_of(page, centre.x, centre.y)[0] == pytest.approx(box["x"] + box["width"] / 2, abs=4)


def test_the_pointer_tells_longitude_and_latitude(page: Any) -> None:
    page.mouse.move(*place_of(page, 256, 224))
    with rasterio.open(SAMPLE / "before.tif") as before:
        (lon,), (lat,) = rasterio.warp.transform(
            before.crs, 4326, *([value] for value in before.transform @ (256, 224))
        )
    said_lat, said_lon = map(float, re.findall(r"([\d.]+)°", page.locator("#pointer").inner_text()))
    assert (said_lat, said_lon) == pytest.approx((lat, lon), abs=2e-4)


def test_tab_reaches_everything_in_order(page: Any) -> None:
    seen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "() => document.activeElement.id || document.activeElement.className || document.activeElement.name"
            )
        )
    order = [seen.index(name) for name in ("view", "outlines", "whole", "map", "divider", "go")]
    assert order == sorted(order)


def test_it_is_dark_where_the_reader_wants_it_dark(watched: Any, sample: RunResult) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        page = watched(color_scheme=scheme).goto(sample.path("report.html"))
        colours = page.evaluate(
            "() => [document.body, document.querySelector('h1'), document.querySelector('#changes th')]"
            ".map((e) => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color])"
        )
        shades[scheme] = [[np.mean(list(map(int, re.findall(r"\d+", c)[:3]))) for c in pair] for pair in colours]
    assert shades["light"][0][0] > 240
    assert shades["dark"][0][0] < 40
    for (ground, _), (_, heading), _ in shades.values():
        assert abs(ground - heading) > 150


def test_on_a_phone_nothing_is_cut_off_and_a_tap_works(
    watched: Any, sample: RunResult, changes: gpd.GeoDataFrame
) -> None:
    page = watched(**PHONE, reduced_motion="reduce").goto(sample.path("report.html"))
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert page.locator("#map").bounding_box()["width"] > 330
    page.locator(".go").nth(1).tap()
    page.wait_for_timeout(300)
    assert popup(page)["Area"] == area(changes.area_m2.iloc[1])
    box, shown = page.locator("#map").bounding_box(), page.locator(".leaflet-popup-content-wrapper").bounding_box()
    assert box["x"] <= shown["x"]
    assert shown["x"] + shown["width"] <= box["x"] + box["width"]
    assert shown["y"] >= box["y"]


def test_five_thousand_polygons_are_drawn_and_listed_in_parts(watched: Any, sample: RunResult, tmp_path: Path) -> None:
    count = 6000
    random = np.random.default_rng(7)
    with rasterio.open(sample.path("mask.tif")) as mask:
        left, top = mask.transform.c, mask.transform.f
    x, y = left + 10 * random.integers(0, 500, count), top - 10 * random.integers(5, 440, count)
    boxes = shapely.multipolygons(shapely.box(x, y, x + 20, y + 30), indices=np.arange(count))
    there = gpd.read_file(sample.path("changes.gpkg"), layer="changes")
    columns = {name: np.resize(there[name], count) for name in there.columns if name != "geometry"}
    many = gpd.GeoDataFrame({**columns, "area_m2": 600.0 + np.arange(count)}, geometry=boxes, crs=there.crs)
    shutil.copytree(sample.out, tmp_path / "out")
    write_tables(tmp_path / "out" / "changes.gpkg", {"changes": many})
    pictures = draw_pictures(tmp_path / "out" / "probability.tif", {}, None)
    write_report(tmp_path / "report.html", tmp_path / "out", pictures, notes=[json.dumps(NASTY)])
    page = watched().goto(tmp_path / "report.html")
    assert "the largest 5,000 of 6,000" in page.locator(".list").inner_text()
    assert page.locator("#changes tbody tr").count() == 100
    page.locator("#more").click()
    assert page.locator("#changes tbody tr").count() == 200
    assert areas_listed(page)[0] == area(600 + count - 1)
