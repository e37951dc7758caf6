"""failures.csv, as a spreadsheet reads it."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest

from changedet.batch.failures import write_failures
from changedet.batch.outcome import FAILED, SCHEMA, Outcomes
from changedet.grid import Window
from tests.batch.manifests import manifest_of
from tests.data import geobox

MESSAGES = [
    ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
    ("+1", "'+1"),
    ("-1", "'-1"),
    ("@SUM(A1)", "'@SUM(A1)"),
    ("\t=1", "'=1"),
    ("＝1", "'＝1"),
    ('a, "b"\n  expected: c', 'a, "b" expected: c'),
    ("https://me:secret@host/a.tif is gone", "https://***@host/a.tif is gone"),
]


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
def test_a_message_is_one_text_and_never_a_formula(tmp_path: Path, message: str, expected: str) -> None:
    manifest = manifest_of(geobox(8, 8), [Window(0, 0, 8, 8)])
    row = {"state": FAILED, "error": "SceneError", "message": message, "attempts": 3, "seconds": 1.5}
    write_failures(tmp_path / "failures.csv", Outcomes(manifest, pa.Table.from_pylist([row], schema=SCHEMA)))
    with (tmp_path / "failures.csv").open(newline="", encoding="utf-8") as file:
        (found,) = csv.DictReader(file)
    assert found["message"] == expected
    assert (found["id"], found["error"], found["attempts"], found["seconds"]) == ("r0c0", "SceneError", "3", "1.5")


def test_without_failures_there_is_a_header(tmp_path: Path) -> None:
    manifest = manifest_of(geobox(8, 8), [Window(0, 0, 8, 8)])
    done = Outcomes(manifest, pa.Table.from_pylist([{"state": "done", "has_files": True}], schema=SCHEMA))
    write_failures(tmp_path / "failures.csv", done)
    assert (tmp_path / "failures.csv").read_text() == "id,mosaic,error,message,attempts,seconds\n"
