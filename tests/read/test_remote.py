"""Scenes behind URLs, from a server on the loopback that counts the bytes it sends."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.shutil import copy

from changedet.errors import NotFoundError, SceneError
from changedet.grid import Window
from changedet.read import open_pair, open_scene
from tests.data import texture, write_raster
from tests.server import serve

SIZE, TILE = 1536, 256
NAMES = ("before.tif", "after.tif")
# It reaches into four tiles of 36.
WINDOW = Window(row=700, col=700, height=200, width=200)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[NDArray[np.uint16]]]:
    """A folder with two COGs in a folder `bucket`, and what they hold: noise, which does not compress."""
    root = tmp_path_factory.mktemp("served")
    (root / "bucket").mkdir()
    images = []
    for seed, name in enumerate(NAMES):
        image = np.random.default_rng(seed).integers(1, 60_000, (SIZE, SIZE)).astype(np.uint16)
        write_raster(root / "plain.tif", image, names=["red"])
        copy(root / "plain.tif", root / "bucket" / name, driver="COG", blocksize=TILE, overviews="NONE")
        images.append(image)
    return root, images


@pytest.mark.parametrize("protocol", ["http", "s3"])
def test_a_window_of_a_cog_fetches_only_the_tiles_it_needs(
    bucket: tuple[Path, list[NDArray[np.uint16]]], protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, images = bucket
    with serve(root) as served:
        prefix = f"{served.url}/bucket"
        if protocol == "s3":
            monkeypatch.setenv("AWS_S3_ENDPOINT", served.url.removeprefix("http://"))
            monkeypatch.setenv("AWS_HTTPS", "NO")
            monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
            monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
            prefix = "s3://bucket"
        with open_pair(*(f"{prefix}/{name}" for name in NAMES)) as pair:
            chip = pair.read(WINDOW)
    for seen, image in zip((chip.before, chip.after), images, strict=True):
        np.testing.assert_allclose(seen[0], image[WINDOW.slices] / 10_000, rtol=1e-6)
    for name in NAMES:
        tiles = 4 * TILE * TILE * 2
        # Beside the tiles: the header, and what GDAL reads ahead, a half more; of a file nine times as large.
        assert tiles <= served.bytes_of(name) <= 1.5 * tiles
        asked = [place for place in served.ranges if place[0].endswith(name)]
        assert len(set(asked)) == len(asked)
    # No sidecar was asked for.
    assert {Path(path.split("?")[0]).name for path, _, _ in served.ranges} == set(NAMES)


def test_credentials_come_from_the_usual_variables(
    bucket: tuple[Path, list[NDArray[np.uint16]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, images = bucket
    for name, value in {"AWS_ACCESS_KEY_ID": "AKIAME", "AWS_SECRET_ACCESS_KEY": "geheim", "AWS_REGION": "eu"}.items():
        monkeypatch.setenv(name, value)
    with serve(root) as served:
        monkeypatch.setenv("AWS_S3_ENDPOINT", served.url.removeprefix("http://"))
        monkeypatch.setenv("AWS_HTTPS", "NO")
        monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
        with open_pair(*(f"s3://bucket/{name}" for name in NAMES)) as pair:
            chip = pair.read(WINDOW)
    np.testing.assert_allclose(chip.before[0], images[0][WINDOW.slices] / 10_000, rtol=1e-6)
    assert served.credentials
    assert all("Credential=AKIAME/" in told and "geheim" not in told for told in served.credentials)


def test_what_cannot_be_fetched_is_told_apart_from_what_is_no_raster(
    bucket: tuple[Path, list[NDArray[np.uint16]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    monkeypatch.setenv("AWS_CONFIG_FILE", "nothing")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "nothing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serve(bucket[0]) as served:
        served.forbids = True
        for address in (f"{served.url}/bucket/refused.tif", "http://127.0.0.1:9/unreachable.tif"):
            with pytest.raises(SceneError, match=r"cannot be fetched(.|\n)*credentials where it asks for them"):
                open_scene(address)


def test_what_a_server_does_not_have_is_missing(tmp_path: Path) -> None:
    with serve(tmp_path) as served, pytest.raises(NotFoundError, match="there is nothing at http"):
        open_scene(f"{served.url}/nothing.tif")


def test_a_mask_beside_a_file_on_disk_is_found(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "scene.tif", texture(40, 40))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        valid = np.ones((40, 40), bool)
        valid[:9] = False
        dataset.write_mask(valid)
    assert (tmp_path / "scene.tif.msk").exists()
    with open_pair(path, path) as pair:
        assert np.array_equal(pair.read(Window(0, 0, 40, 40)).valid, valid)
