from types import SimpleNamespace

import pytest

from changedet.errors import SceneError
from changedet.vectorize.source import nodata_value, opened


@pytest.mark.parametrize(
    ("declared", "value"), [(None, None), (255.0, 255), (0.0, 0), (-9999.0, None), (float("nan"), None)]
)
def test_a_nodata_value_that_no_pixel_can_take_is_none(declared, value):
    assert nodata_value(SimpleNamespace(nodata=declared)) == value


def test_remote_paths_are_not_looked_for_on_the_disk():
    with pytest.raises(SceneError, match=r"absent\.tif cannot be read"), opened("/vsimem/absent.tif"):
        pass
