import enum
import json
import os
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from changedet.errors import NotFoundError
from changedet.write.provenance import fingerprint, redact, write_run_json

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:secret@host/a.tif", "https://***@host/a.tif"),
        ("https://me:p@ss@host/a.tif", "https://***@host/a.tif"),
        ("https://token@host/a.tif", "https://***@host/a.tif"),
        ("/vsicurl/https://me:p%40ss@host/a.tif", "/vsicurl/https://***@host/a.tif"),
        ("postgresql+psycopg://me:pa/ss@host:5432/db", "postgresql+psycopg://***@host:5432/db"),
        ("PG:host=h user=me password='my secret' dbname=d", "PG:host=h user=me password=*** dbname=d"),
        (
            "https://b.s3.amazonaws.com/k.tif?X-Amz-Credential=AKIA%2F1&X-Amz-Date=20200101&X-Amz-Signature=0f",
            "https://b.s3.amazonaws.com/k.tif?X-Amz-Credential=***&X-Amz-Date=20200101&X-Amz-Signature=***",
        ),
        ("https://h/k?X-Amz-Security-Token=abc/+=&v=1", "https://h/k?X-Amz-Security-Token=***&v=1"),
        (
            "https://h/k?AWSAccessKeyId=AK&Expires=1&Signature=a%3D",
            "https://h/k?AWSAccessKeyId=***&Expires=1&Signature=***",
        ),
        (
            "https://h.blob.core.windows.net/c?se=2020&sp=r&sig=a%2B",
            "https://h.blob.core.windows.net/c?se=2020&sp=r&sig=***",
        ),
        ("https://h/k?X-Goog-Signature=1#page", "https://h/k?X-Goog-Signature=***#page"),
        ("https://h/k?api_key=1&access_token=2&apikey=3", "https://h/k?api_key=***&access_token=***&apikey=***"),
        ("https://h/k?subscription-key=1&page=2", "https://h/k?subscription-key=***&page=2"),
        ("/vsicurl?header.Authorization=Bearer%20a&url=h", "/vsicurl?header.Authorization=***&url=h"),
        ("AWS_SECRET_ACCESS_KEY=abc AWS_REGION=eu", "AWS_SECRET_ACCESS_KEY=*** AWS_REGION=eu"),
        ("Authorization: Bearer ab.cd-ef", "Authorization: Bearer ***"),
        # These only look alike.
        ("s3://bucket/folder@2x/design=7.tif", "s3://bucket/folder@2x/design=7.tif"),
        ("https://host:8080/folder@2x/a.tif", "https://host:8080/folder@2x/a.tif"),
        ("C:\\data\\sigma=3.tif", "C:\\data\\sigma=3.tif"),
        ("https://host/a.tif?page=2", "https://host/a.tif?page=2"),
        ("someone@example.org", "someone@example.org"),
    ],
)
def test_redact(text, expected):
    assert redact(text) == expected
    assert redact(expected) == expected


def test_a_files_fingerprint_follows_its_ends_size_and_time(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(bytes(3 * MIB))
    os.utime(path, (0, 1_600_000_000))
    first = fingerprint(path)
    assert (first["path"], first["bytes"], first["mtime"]) == (str(path), 3 * MIB, "2020-09-13T12:26:40+00:00")

    prints = {first["sha256_ends"]}
    for place in (0, MIB - 1, 2 * MIB, 3 * MIB - 1):
        content = bytearray(3 * MIB)
        content[place] = 1
        path.write_bytes(content)
        prints.add(fingerprint(path)["sha256_ends"])
    path.write_bytes(bytes(3 * MIB + 1))
    prints.add(fingerprint(path)["sha256_ends"])
    assert len(prints) == 6


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB])
def test_every_byte_of_a_small_file_counts(tmp_path, size):
    path = tmp_path / "a.tif"
    content = bytearray(size)
    path.write_bytes(content)
    plain = fingerprint(path)["sha256_ends"]
    for place in {0, size // 2, size - 1} & set(range(size)):
        path.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
        assert fingerprint(path)["sha256_ends"] != plain


def test_a_folders_fingerprint_follows_its_files_and_their_names(tmp_path):
    folder = tmp_path / "scene"
    (folder / "sub").mkdir(parents=True)
    for name in ("B02.tif", "sub/B03.tif"):
        (folder / name).write_bytes(b"12345")
    first = fingerprint(folder)
    assert (first["files"], first["bytes"]) == (2, 10)

    (folder / "B02.tif").rename(folder / "B04.tif")

    assert fingerprint(folder)["sha256_ends"] != first["sha256_ends"]


def test_a_moved_folder_keeps_its_fingerprint(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "B02.tif").write_bytes(b"12345")
    first = fingerprint(tmp_path / "one")

    (tmp_path / "one").rename(tmp_path / "two")

    assert fingerprint(tmp_path / "two") == {**first, "path": str(tmp_path / "two")}


def test_remote_inputs_are_told_by_their_path_and_missing_ones_refused(tmp_path):
    assert fingerprint("https://me:secret@host/a.tif") == {"path": "https://***@host/a.tif"}
    with pytest.raises(NotFoundError, match="no file or folder"):
        fingerprint(tmp_path / "absent")


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Shift:
    rows: float
    cols: float


RECORD = {
    "times": {"started": datetime(2020, 1, 1, tzinfo=UTC), "seconds": 1.5},
    "zebra": [np.float32(0.5), np.int64(3), float("nan"), float("inf"), np.array([[1, 2]]), np.bool_(True), None],
    "apple": {"shift": Shift(1.0, float("nan")), "colour": Colour.RED, "day": date(2020, 1, 1), 7: {"b", "a"}},
    "path": Path("/data/é.tif"),
    "url": ("https://me:secret@host",),
}


def test_run_json_is_plain_sorted_and_without_secrets(tmp_path):
    write_run_json(tmp_path / "run.json", RECORD)

    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert list(content) == ["apple", "path", "url", "zebra", "times"]
    assert content["zebra"] == [0.5, 3, None, None, [[1, 2]], True, None]
    shift = {"cols": None, "rows": 1.0}
    assert content["apple"] == {"7": ["a", "b"], "colour": "red", "day": "2020-01-01", "shift": shift}
    assert content["times"] == {"seconds": 1.5, "started": "2020-01-01T00:00:00+00:00"}
    assert content["path"] == "/data/é.tif"
    assert content["url"] == ["https://***@host"]
    assert "é" in text


def test_equal_records_give_equal_bytes_whatever_their_order(tmp_path):
    write_run_json(tmp_path / "one.json", RECORD)
    write_run_json(tmp_path / "two.json", dict(reversed(RECORD.items())))

    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_what_json_cannot_say_is_refused(tmp_path):
    with pytest.raises(TypeError, match="no place"):
        write_run_json(tmp_path / "run.json", {"detector": object()})
    assert list(tmp_path.iterdir()) == []
