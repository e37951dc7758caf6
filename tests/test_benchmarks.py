"""What the benchmarks stand on."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy.ndimage import label

import benchmarks.__main__ as command
from benchmarks.finetuning import CHOSEN_ON, summary
from benchmarks.pairs import make_pair, make_specks, repeat_as_vrt
from benchmarks.probe import STAGES
from changedet.detect import finish


def test_the_stages_that_are_timed_are_those_of_a_run() -> None:
    assert [name for name in STAGES if not callable(getattr(finish, name, None))] == []


def test_the_tables_of_both_precisions_go_between_the_marks_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "performance.md"
    page.write_text(command.PAGE.read_text())
    head, tail = page.read_text().split(command.MARKS[0])[0], page.read_text().split(command.MARKS[1])[1]
    monkeypatch.setattr(command, "PAGE", page)
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    conditions = {
        "date": "2026-01-02",
        "processor": "P",
        "cores": 2,
        "load_before": 0.0,
        "versions": {"openvino": "2026.4"},
    }
    for precision, chip, figure in (("float32", 3, 0.31), ("bfloat16", 4, 0.2), ("bfloat16", 2, 0.2)):
        path = tmp_path / f"performance-{precision}.json"
        measured = {"first_chip": {"first": [9.0], "second": [chip, chip + 2, 1]}, "help_seconds": figure}
        command.keep(path, "start", {"conditions": conditions, "measured": measured})
        speckled = {"conditions": conditions | {"load_before": 1.5}, "measured": {"specks": SPECKS}}
        command.keep(path, "specks", speckled)
        command.write_page()
    text = page.read_text()
    assert (text.startswith(head), text.endswith(tail)) == (True, True)
    chips = [line.split("|")[-2].strip() for line in text.splitlines() if "from the second run on" in line]
    assert chips == ["2.0 s (1.0 to 4.0)", "3.0 s (1.0 to 5.0)"]
    assert text.count("| a million polygons: vectorize | <= 300 s | 82 s |") == 2
    assert "**bfloat16**, 2026-01-02, P, 2 cores, load before a part at most 1.50" in text
    assert text.index("**bfloat16**") < text.index("**float32**")


SPECKS = {"seconds": 82.4, "peak_bytes": 7e8}


def test_cities_on_which_settings_were_chosen_are_told_apart_from_the_others() -> None:
    rows = [
        {"city": city, "before": 0.2, "after": after, "f1_before": 0.3, "f1_after": 0.4}
        for city, after in ((CHOSEN_ON[0], 0.6), ("paris", 0.1), ("beirut", 0.4))
    ]
    figures = summary(rows)
    assert (figures["all"]["measured"], figures["all"]["gained"]) == (3, 2)
    assert (figures["not_chosen_on"]["before"], figures["not_chosen_on"]["after"]) == (0.2, 0.25)


def test_pairs_are_tiled_and_a_vrt_repeats_them(tmp_path: Path) -> None:
    before, after = make_pair(tmp_path, 600, "rgb")
    with rasterio.open(before) as scene, rasterio.open(repeat_as_vrt(before, 2)) as repeated:
        assert (scene.dtypes, scene.descriptions) == (("uint8",) * 3, ("B04", "B03", "B02"))
        assert (repeated.shape, repeated.descriptions) == ((1200, 1200), scene.descriptions)
        assert (repeated.transform, repeated.nodata) == (scene.transform, 0)
        np.testing.assert_array_equal(repeated.read(), np.tile(scene.read(), (1, 2, 2)))
    with rasterio.open(after) as scene:
        assert (scene.profile["compress"], scene.block_shapes[0]) == ("deflate", (512, 512))


def test_specks_do_not_touch(tmp_path: Path) -> None:
    with rasterio.open(make_specks(tmp_path, 900)) as mask:
        _, regions = label(mask.read(1), structure=np.ones((3, 3)))
    assert regions == 900
