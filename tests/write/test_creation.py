"""Creation options are tried before the work."""

import logging

import pytest

from changedet.errors import ConfigError
from changedet.write.creation import check_creation_options


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    "options", [{}, {"COMPRESS": "ZSTD"}, {"compress": "lzw", "PREDICTOR": "YES"}, {"BLOCKSIZE": "256"}]
)
def test_what_the_driver_takes_is_taken(options: dict[str, str], dtype: str) -> None:
    check_creation_options(options, dtype=dtype)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"COMPRESS": "FOO"}, "'FOO' is an unexpected value"),
        ({"NONSENSE": "1"}, "does not support creation option NONSENSE"),
        ({"BLOCKSIZE": "7"}, "should be >= 128"),
        ({"COMPRESS": "JPEG"}, "not supported with paletted image"),
        ({"COMPRESS": "LERC", "MAX_Z_ERROR": "5"}, "values would change"),
        ({"TILING_SCHEME": "GoogleMapsCompatible"}, "another grid than the polygons"),
    ],
)
def test_what_it_refuses_ignores_or_alters_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as told:
        check_creation_options(options)
    assert "gdalinfo --format COG" in str(told.value)


def test_what_the_command_line_logs_makes_no_difference(caplog: pytest.LogCaptureFixture) -> None:
    """It hears errors alone."""
    caplog.set_level(logging.ERROR)
    with pytest.raises(ConfigError, match="'FOO' is an unexpected value"):
        check_creation_options({"COMPRESS": "FOO"})
    assert not caplog.records
