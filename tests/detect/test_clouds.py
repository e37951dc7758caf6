"""The step that yields a cloud mask, with OmniCloudMask's place taken by a rule: bright is cloud."""

import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio
import torch

from changedet.detect.clouds import mask_clouds
from changedet.errors import ConfigError, ModelError, PairError
from changedet.grid import Window
from changedet.read import open_pair
from tests.commands import call
from tests.data import texture, write_raster

CLOUD = np.zeros((80, 70), bool)
CLOUD[20:40, 10:30] = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module whose network finds 1 where red is above 0.8, as OmniCloudMask's answers are: (1, H, W)."""
    module = ModuleType("omnicloudmask")
    module.predict_from_array = lambda image: (image[:1] > 0.8).astype(np.uint8)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "omnicloudmask", module)
    return module


def _scene(folder: Path) -> Path:
    image = np.where(CLOUD, 0.95, np.stack([texture(80, 70, seed=seed) for seed in range(3)]))
    image[:, :5] = 0
    return write_raster(folder / "scene.tif", (image * 10_000).astype(np.uint16), names=["red", "green", "nir"])


def test_the_mask_hides_clouds_and_nodata_in_a_run(tmp_path: Path, fake: ModuleType) -> None:
    scene, mask = _scene(tmp_path), tmp_path / "clear.tif"
    share = mask_clouds(scene, mask)
    expected = ~CLOUD
    expected[:5] = False
    with rasterio.open(mask) as dataset:
        assert np.array_equal(dataset.read(1) == 1, expected)
    assert share == pytest.approx(expected.mean())
    with open_pair(scene, scene, valid_mask=(str(mask), "none")) as pair:
        assert np.array_equal(pair.read(Window(0, 0, 80, 70)).valid, expected)


def test_the_command_says_how_much_is_clear(tmp_path: Path, fake: ModuleType) -> None:
    result = call("clouds", _scene(tmp_path), "-o", tmp_path / "clear.tif")
    assert result.exit_code == 0, result.output
    assert "86.6% clear" in result.stdout


def test_without_the_library_or_its_weights_or_the_bands_it_is_refused(
    tmp_path: Path, fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(image: object) -> None:
        raise ValueError("no network")  # as huggingface_hub 2.4 does

    bare = write_raster(tmp_path / "bare.tif", texture(9, 9), names=["red"])
    with pytest.raises(PairError, match="missing: B03"):
        mask_clouds(bare, tmp_path / "clear.tif")
    monkeypatch.setattr(fake, "predict_from_array", offline)
    with pytest.raises(ModelError, match="weights cannot be loaded"):
        mask_clouds(_scene(tmp_path), tmp_path / "clear.tif")
    monkeypatch.setitem(sys.modules, "omnicloudmask", None)
    with pytest.raises(ConfigError, match="not installed"):
        mask_clouds(_scene(tmp_path), tmp_path / "clear.tif")
    assert not (tmp_path / "clear.tif").exists()


def test_the_library_itself_is_called_as_it_wants_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OmniCloudMask as it is installed, with a rule in place of its weights, which have to be fetched."""
    library = pytest.importorskip("omnicloudmask", reason="the extra changedet[clouds] is not installed")

    class Bright(torch.nn.Module):
        """Calls cloud (1) what is far brighter than the patch's mean, which the library makes 0; else clear (0)."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            cloud = images[:, :1] - 1
            return torch.cat([-cloud, cloud, *[torch.full_like(cloud, -9)] * 2], dim=1)

    monkeypatch.setattr(library, "predict_from_array", partial(library.predict_from_array, custom_models=Bright()))
    share = mask_clouds(_scene(tmp_path), tmp_path / "clear.tif")
    with rasterio.open(tmp_path / "clear.tif") as dataset:
        clear = dataset.read(1) == 1
    expected = ~CLOUD
    expected[:5] = False
    assert np.array_equal(clear, expected)
    assert share == pytest.approx(expected.mean())
