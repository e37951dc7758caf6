import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from changedet.errors import ModelError
from changedet.network.base import ChangeNetwork
from changedet.network.encoders import resnet_encoder, with_weights
from changedet.network.package import build_network
from changedet.network.siamese import SiameseSMP

_SMALL: dict[str, Any] = {"encoder_depth": 3, "decoder_channels": (8, 8, 8)}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import segmentation_models_pytorch.encoders as encoders

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(encoders, "hf_hub_download", unreachable)


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Weights of a ResNet-18 for three bands, as the hub would give them."""
    import segmentation_models_pytorch.encoders as encoders

    weights = encoders.get_encoder("resnet18", weights=None).state_dict()
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({}))
    monkeypatch.setattr(encoders, "hf_hub_download", lambda *_, filename, **__: str(tmp_path / filename))
    return weights


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("architecture", ["siamese_smp", "bit", "stanet"])
def test_weights_that_cannot_be_fetched_are_an_error_unless_random_ones_will_do(architecture: str) -> None:
    def kind(weights: str | None) -> ChangeNetwork:
        return build_network(architecture, {"in_channels": 4, "encoder_weights": weights})

    with pytest.raises(ModelError, match=r"(?s)cannot be fetched: no route.*try: .*null.*'imagenet or random'"):
        kind("imagenet")
    with pytest.warns(UserWarning, match="'imagenet' of resnet18 cannot be fetched, so the encoder begins with random"):
        network = kind("imagenet or random")
    assert network.initial_weights == "random"
    assert kind(None).initial_weights == "random"


@pytest.mark.parametrize("bands", [1, 3, 4, 12])
def test_weights_are_adapted_to_the_number_of_bands(stored: dict[str, torch.Tensor], bands: int) -> None:
    network = SiameseSMP("resnet18", "unet", bands, encoder_weights="imagenet", **_SMALL)
    assert network.initial_weights == "imagenet"
    first = network.encoder.conv1.weight
    assert first.shape[1] == bands
    trained = stored["conv1.weight"]
    in_turn = trained[:, [band % 3 for band in range(bands)]] * 3 / bands
    torch.testing.assert_close(first, trained.sum(dim=1, keepdim=True) if bands == 1 else in_turn)
    assert torch.equal(network.encoder.layer1[0].conv1.weight, stored["layer1.0.conv1.weight"])


def test_a_wrong_name_is_no_matter_of_the_network() -> None:
    with pytest.raises(ModelError, match="imagnet"):
        SiameseSMP(encoder_weights="imagnet or random")


def test_other_errors_pass() -> None:
    def build(_: str | None) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        with_weights(build, "imagenet or random", "none")


@pytest.mark.parametrize(("name", "depth"), [("vgg11", 4), ("resnet18", 1), ("resnet18", 6), ("resnet17", 4)])
def test_only_resnets_of_usual_depth(name: str, depth: int) -> None:
    with pytest.raises(ModelError, match=f"encoder '{name}'"):
        resnet_encoder(name, 3, depth, None)
