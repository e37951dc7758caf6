import pytest

from changedet.batch.paths import absolute, relative


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("a.tif", "/data/a.tif"),
        ("../b/a.tif", "/b/a.tif"),
        ("/x/a.tif", "/x/a.tif"),
        ("a.tif,deep/b.tif", "/data/a.tif,/data/deep/b.tif"),
        (",".join(["a_long_name.tif"] * 20), ",".join(["/data/a_long_name.tif"] * 20)),
        ("stac:item.json", "stac:/data/item.json"),
        ("GTI:index.gpkg", "GTI:/data/index.gpkg"),
        ("stac:https://host/item.json", "stac:https://host/item.json"),
        ("https://host/a,b.tif", "https://host/a,b.tif"),
        ("/vsis3/bucket/a.tif", "/vsis3/bucket/a.tif"),
        ("s3://bucket/a.tif", "s3://bucket/a.tif"),
    ],
)
def test_local_paths_become_absolute(name, full):
    assert absolute(name, "/data") == full


def test_paths_below_the_folder_become_relative_and_come_back():
    for full in ("/data/a.tif", "/data/a.tif,/data/deep/b.tif", "stac:/data/item.json", "/x/a.tif", "https://h/a"):
        assert absolute(relative(full, "/data"), "/data") == full
    assert relative("stac:/data/item.json", "/data") == "stac:item.json"
