"""The whole report: true to run.json, safe, small, and the same every time."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely

from changedet.detect.run import RunResult
from changedet.grid import Window
from changedet.read.opening import open_scene
from changedet.read.pair import PairOptions
from changedet.report import Inputs, Picture, draw_pictures, picture, polygons, words, write_report
from changedet.write.raster import RasterSink, probability_layout, to_cog
from tests.data import geobox, write_raster
from tests.layers import write_tables

NASTY = '<script>alert("x")</script><img src=x onerror=alert(1)>\u2028'
Change = Callable[[dict[str, Any]], None]


class Page(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, its text and its data."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open = ""
        self.feed(html)
        (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
        self.data = json.loads(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open not in ("script", "style"):
            self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def column(self, name: str) -> list[Any]:
        """Return an attribute of every polygon that is drawn."""
        (column,) = (column for column in self.data["columns"] if column["name"] == name)
        return column.get("values", [column.get("value")] * len(self.data["rings"]))


@pytest.fixture(scope="module")
def html(done: RunResult) -> str:
    return done.path("report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def _probability_alone(folder: Path) -> dict[str, Picture]:
    return draw_pictures(folder / "probability.tif", {}, None)


@pytest.fixture
def changed(done: RunResult, tmp_path: Path) -> Callable[[Change], Page]:
    """Return the report of the run after a change of its run.json."""
    folder = tmp_path / "changed"
    shutil.copytree(done.out, folder)

    def remake(change: Change) -> Page:
        record = json.loads((folder / "run.json").read_text())
        change(record)
        (folder / "run.json").write_text(json.dumps(record))
        write_report(folder / "report.html", folder, _probability_alone(folder))
        return Page((folder / "report.html").read_text(encoding="utf-8"))

    return remake


def test_the_figures_are_those_of_run_json(done: RunResult, page: Page) -> None:
    record = json.loads(done.path("run.json").read_text())
    areas = record["areas"]
    assert areas["polygons"] > 0
    expected = [
        f"{areas['polygons']:,}",
        words.area(areas["changed_m2"]),
        words.area(areas["comparable_m2"]),
        words.area(areas["unknown_m2"]),
        words.day(record["dates"]["before"]),
        record["model"]["sha256"],
        *record["pair"]["notes"],
    ]
    text = " ".join(page.texts)
    assert [said for said in expected if said.removeprefix("WARNING: ") not in text] == []
    assert [round(area, 1) for area in page.column("area_m2")[:10]] == pytest.approx(
        [row["area_m2"] for row in record["largest"]], abs=0.1
    )
    assert page.column("id")[:10] == [row["id"] for row in record["largest"]]


def test_there_are_pictures_of_both_dates_and_each_has_an_alternative_text(page: Page) -> None:
    alternatives = [image["alt"] or "" for image in page.named("img")]
    assert [text.split(",")[0] for text in alternatives] == ["Before", "After", "probability of change"]
    assert all(image["src"].startswith("data:image/webp;base64,") for image in page.named("img") if image["src"])
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.named("svg"))


def test_nothing_in_the_page_points_elsewhere(html: str, page: Page) -> None:
    links = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "action", "srcset", "data", "poster") and value
    ]
    assert [link for link in links if not link.startswith("data:")] == []
    assert not re.search(r"url\((?!data:)", html)
    # An inline style or handler would be stopped by the page's own policy.
    assert not [name for _, attributes in page.elements for name in attributes if name == "style" or name[:2] == "on"]


def test_equal_inputs_give_equal_bytes(done: RunResult, html: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    scenes = [open_scene(path) for path in pair]
    pictures = draw_pictures(done.path("probability.tif"), done.record, Inputs(*scenes, PairOptions()))
    write_report(tmp_path / "again.html", done.out, pictures)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == html


def test_texts_of_others_are_escaped_wherever_they_stand(
    done: RunResult, page: Page, changed: Callable[[Change], Page]
) -> None:
    def spoil(record: dict[str, Any]) -> None:
        for role in ("before", "after"):
            record["inputs"][role]["path"] = f"{NASTY}.tif"
            record["pair"][role].update(path=f"{NASTY}.tif", nodata=NASTY, crs=NASTY, bands=[NASTY])
        record["model"].update(name=NASTY, licence=NASTY, commercial_use=False)
        record["parameters"].update(bands=NASTY, co={NASTY: NASTY})
        record["pair"]["notes"] = record["warnings"] = [NASTY]
        record["dates"] = {"before": NASTY, "after": NASTY}
        record["device"] = record["versions"]["torch"] = NASTY

    spoilt = changed(spoil)
    for tag in ("script", "iframe", "style"):
        assert len(spoilt.named(tag)) == len(page.named(tag))
    assert {image["id"] for image in spoilt.named("img")} == {"picture-probability"}
    assert not [name for _, attributes in spoilt.elements for name in attributes if name[:2] == "on"]
    assert " ".join(spoilt.texts).count(NASTY) > 10


def test_attributes_of_polygons_are_data_and_not_markup(done: RunResult, page: Page, tmp_path: Path) -> None:
    shutil.copytree(done.out, tmp_path / "out")
    layers = {
        name: gpd.read_file(done.path("changes.gpkg"), layer=name) for name in ("changes", "footprint", "unknown")
    }
    layers["changes"]["model"] = NASTY
    write_tables(tmp_path / "out" / "changes.gpkg", layers)
    write_report(tmp_path / "report.html", tmp_path / "out", _probability_alone(tmp_path / "out"))
    spoilt = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert set(spoilt.column("model")) == {NASTY}
    assert len(spoilt.named("script")) == len(page.named("script"))


def test_without_the_inputs_the_probability_is_shown_and_the_reader_is_told(done: RunResult, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", done.out, _probability_alone(done.out), notes=["The inputs are gone."])
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [image["id"] for image in page.named("img")] == ["picture-probability"]
    assert [radio["value"] for radio in page.named("input") if radio["type"] == "radio"] == ["probability"]
    assert "The inputs are gone." in " ".join(page.texts)


def test_a_run_without_changes_has_a_report_that_says_so(done: RunResult, tmp_path: Path) -> None:
    shutil.copytree(done.out, tmp_path / "out")
    layers = {name: gpd.read_file(done.path("changes.gpkg"), layer=name) for name in ("footprint", "unknown")}
    nothing = gpd.read_file(done.path("changes.gpkg"), layer="changes").iloc[:0]
    write_tables(tmp_path / "out" / "changes.gpkg", {"changes": nothing, **layers})
    write_report(tmp_path / "report.html", tmp_path / "out", _probability_alone(tmp_path / "out"))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.data["rings"] == []
    assert any("No change was found" in text for text in page.texts)


@pytest.fixture(scope="module")
def large(done: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as of a run over 100,000 polygons and pixels of noise, which nothing compresses."""
    folder = tmp_path_factory.mktemp("large")
    random = np.random.default_rng(8)
    grid = geobox(1000, 1000)
    with RasterSink(folder / "stored.tif", probability_layout(grid)) as sink:
        sink.write(Window(0, 0, 1000, 1000), random.integers(0, 255, (1000, 1000), dtype=np.uint8))
    to_cog(folder / "stored.tif", folder / "probability.tif", overview_resampling="average")
    rows, cols = random.integers(0, 990, (2, 100_000))
    x, y = 500_000 + 10 * cols, 5_600_000 - 10 * rows
    boxes = shapely.multipolygons(
        shapely.box(x, y - 90, x + 10 * random.integers(1, 9, 100_000), y), np.arange(100_000)
    )
    there = gpd.read_file(done.path("changes.gpkg"), layer="changes")
    columns = {name: np.resize(there[name], 100_000) for name in there.columns if name != "geometry"}
    changes = gpd.GeoDataFrame({**columns, "area_m2": shapely.area(boxes)}, geometry=boxes, crs=there.crs)
    write_tables(folder / "changes.gpkg", {"changes": changes})
    shutil.copy(done.path("run.json"), folder)
    return folder


def test_a_large_noisy_run_still_fits_and_says_what_it_leaves_out(large: Path) -> None:
    noise = np.random.default_rng(9).integers(1, 10_000, (3, 1000, 1000), dtype=np.uint16)
    scene = open_scene(write_raster(large / "noise.tif", noise, names=("red", "green", "blue")))
    record = json.loads((large / "run.json").read_text())
    pictures = draw_pictures(large / "probability.tif", record, Inputs(scene, scene, PairOptions()))
    write_report(large / "report.html", large, pictures)
    assert (large / "report.html").stat().st_size < 10_000_000
    page = Page((large / "report.html").read_text(encoding="utf-8"))
    assert len(page.data["rings"]) == polygons.MOST
    assert re.search(r"the largest 5,000 of 100,000", " ".join(" ".join(page.texts).split()))


def test_the_parts_of_a_report_add_up_to_less_than_ten_megabytes() -> None:
    pictures = 2 * picture.MOST_BYTES + picture.MOST_BYTES_PROBABILITY
    assert pictures * 4 / 3 + polygons.MOST_BYTES + 500_000 < 10_000_000
