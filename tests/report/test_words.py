from pathlib import Path

import numpy as np
import pytest

from changedet.report import words
from tests.data import write_raster
from tests.vectorize.tables import tables


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.area(551_890.2), "551,890 m²"),
        (words.area(22_260_000), "22.26 km²"),
        (words.area(0.25), "0.25 m²"),
        (words.area(0), "0 m²"),
        (words.share(1, 8), "12.50 %"),
        (words.share(0, 0), "–"),
        (words.day("2018-10-05T10:11:12"), "5 October 2018"),
        (words.day(None), "date unknown"),
        (words.day("in spring"), "in spring"),
        (words.short_name("data/before.tif"), "before.tif"),
        (words.short_name("C:\\data\\before.tif"), "before.tif"),
        (words.short_name("oscd/beirut/imgs_1"), "beirut/imgs_1"),
        (words.pixel(10.0, 10.001), "10 m"),
        (words.pixel(10.97, 9.16), "10.97 × 9.16 m"),
        (words.point(-2.18768, 48.07293), "48.07293° N, 2.18768° W"),
        (words.short_number(2_500_000), "2.5 M"),
        (words.plain(None), "not set"),
        (words.plain({"COMPRESS": "ZSTD"}), "COMPRESS=ZSTD"),
        (words.plain(2_000_000_000), "2,000,000,000"),
        (words.attribute("height_m"), ("height_m", "length")),
        (words.attribute("area_m2"), ("Area", "area")),
    ],
)
def test_what_is_said(said: object, expected: object) -> None:
    assert said == expected


def test_every_column_of_the_polygons_has_a_label(tmp_path: Path) -> None:
    mask = write_raster(tmp_path / "mask.tif", np.eye(4, dtype=np.uint8))
    columns = set(tables(mask).changes.columns) - {"geometry"}
    assert columns <= set(words.ATTRIBUTES)
    assert not any("_" in label for label, _ in words.ATTRIBUTES.values())
