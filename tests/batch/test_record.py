"""run.json of a batch."""

import json
from pathlib import Path

import pytest

from changedet.batch.record import notes_of
from tests.batch.whole import NASTY, joined_batch


def test_what_mosaics_share_is_said_once_and_what_differs_with_each(tmp_path: Path) -> None:
    joined_batch(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["model"]["name"] == "tiny"
    assert [mosaic["inputs"]["before"]["path"] for mosaic in record["mosaics"]] == ["top", "bottom"]
    assert "inputs" not in record
    assert not any("model" in mosaic for mosaic in record["mosaics"])
    assert record["parameters"]["min_area"] == 5


def test_it_counts_tiles_and_areas_and_says_what_is_missing(tmp_path: Path) -> None:
    record = joined_batch(tmp_path).record
    assert record["tiles"] == {"total": 12, "done": 11, "skipped": 0, "failed": 1, "left": 0}
    assert record["areas"]["polygons"] == 2  # one a mosaic: across tiles they join, across mosaics they do not
    assert record["areas"]["unknown_m2"] == pytest.approx(20 * 20 * 100, rel=0.01)
    assert record["warnings"] == ["1 of 12 tiles failed and are unknown here: failures.csv", "a <b>warning</b>", NASTY]


@pytest.mark.parametrize(
    ("mosaics", "told"),
    [
        ({"a": ["x"], "b": ["x"]}, ["x"]),
        ({"a": ["x", "y"], "b": ["x"]}, ["x", "a: y"]),
        ({**{name: ["y"] for name in "abcde"}, "f": []}, ["a, b, c and 2 more: y"]),
    ],
)
def test_a_note_says_which_mosaics_it_is_of(mosaics: dict[str, list[str]], told: list[str]) -> None:
    assert notes_of({name: {"notes": notes} for name, notes in mosaics.items()}) == told


def test_equal_batches_differ_in_their_times_alone(tmp_path: Path) -> None:
    one, other = (joined_batch(tmp_path / name).record for name in "ab")
    assert one["times"] != other["times"]
    assert {**one, "times": None} == {**other, "times": None}


def test_credentials_are_not_written_down(tmp_path: Path) -> None:
    joined_batch(tmp_path)
    assert "secret" not in (tmp_path / "run.json").read_text()
