import copy
import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.errors import ModelError, NotFoundError, OutputError
from changedet.network.base import ChangeNetwork
from changedet.network.card import Card
from changedet.network.fc_siam import FCEF, FCSiamDiff
from changedet.network.package import (
    ARCHITECTURES,
    ChangeModel,
    build_network,
    load_model,
    save_model,
    shipped_models,
)
from changedet.network.shipped import CARD_KEY
from changedet.network.siamese import SiameseSMP

MakeCard = Callable[..., Card]


@pytest.fixture
def file(tmp_path: Path, network: FCSiamDiff, make_card: MakeCard) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(path, network, make_card(network))
    return path


def _rounded(network: ChangeNetwork) -> ChangeNetwork:
    return copy.deepcopy(network).half().float().eval()


def _rewrite(path: Path, card: Card, tensors: Mapping[str, torch.Tensor] | None = None, drop: str = "") -> None:
    """Save the tensors of the file again with others among them and another card."""
    kept = {name: tensor for name, tensor in load_file(path).items() if name != drop}
    save_file({**kept, **(tensors or {})}, path, {CARD_KEY: card.model_dump_json()})


def _trained(network: ChangeNetwork) -> None:
    """Let batch norm learn figures that are not those it begins with."""
    channels = next(parameter.shape[1] for parameter in network.parameters())
    network.train()(torch.rand(2, channels, 32, 32), torch.rand(2, channels, 32, 32))


def test_saved_and_loaded_gives_the_same_logits(tmp_path: Path, network: FCSiamDiff, make_card: MakeCard) -> None:
    _trained(network)
    path = tmp_path / "tiny.safetensors"
    save_model(path, network, make_card(network))
    model = load_model(path)
    before, after = torch.rand(1, 2, 20, 36), torch.rand(1, 2, 20, 36)
    assert torch.equal(model(before, after), ChangeModel(_rounded(network), make_card(network))(before, after))
    assert model.card == make_card(network)
    assert model.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16, torch.int64}


def test_saving_a_loaded_model_gives_the_same_bytes(file: Path) -> None:
    model = load_model(file)
    save_model(file.with_name("again.safetensors"), model.network, model.card)
    assert file.with_name("again.safetensors").read_bytes() == file.read_bytes()
    assert sorted(path.name for path in file.parent.iterdir()) == ["again.safetensors", "tiny.safetensors"]


def test_channels_last_weights_are_saved(tmp_path: Path, network: FCSiamDiff, make_card: MakeCard) -> None:
    network.to(memory_format=torch.channels_last)
    save_model(tmp_path / "tiny.safetensors", network, make_card(network))
    loaded = load_model(tmp_path / "tiny.safetensors").network.state_dict()
    for name, tensor in _rounded(network).state_dict().items():
        assert torch.equal(tensor, loaded[name])


def test_an_smp_model_comes_back_without_a_download(
    tmp_path: Path, make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    import segmentation_models_pytorch.encoders as encoders

    def _refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(encoders, "hf_hub_download", _refuse)
    arguments: dict[str, Any] = {
        "in_channels": 2,
        "encoder_depth": 3,
        "decoder_channels": (16, 8, 8),
        "stem_pool": False,
    }
    network = SiameseSMP(**arguments)
    card = make_card(network, architecture="siamese_smp", arguments={**arguments, "encoder_weights": "imagenet"})
    save_model(tmp_path / "smp.safetensors", network, card)
    dates = torch.rand(1, 2, 32, 32), torch.rand(1, 2, 32, 32)
    expected = ChangeModel(_rounded(network), card).probability(*dates)
    assert torch.equal(load_model(tmp_path / "smp.safetensors").probability(*dates), expected)


def test_probability_is_of_absolute_reflectance(file: Path) -> None:
    model = load_model(file)
    before, after = torch.rand(2, 2, 16, 16), torch.rand(2, 2, 16, 16)
    probability = model.probability(before, after)
    assert torch.equal(probability, torch.sigmoid(model.network(model.normalise(before), model.normalise(after))))
    assert not probability.requires_grad
    neutral = torch.full_like(before, NEUTRAL_REFLECTANCE)
    assert torch.equal(model.probability(neutral, neutral), model.probability(before, before))


def test_features_of_each_date_compared_are_the_probability_of_the_pair(file: Path) -> None:
    model = load_model(file)
    before, after = torch.rand(2, 1, 2, 32, 48)
    compared = model.compared(model.features(before), model.features(after))
    torch.testing.assert_close(compared, model.probability(before, after), rtol=1e-5, atol=1e-6)


def test_a_network_that_is_not_siamese_has_no_features_of_one_date(make_card: MakeCard) -> None:
    network = FCEF(2, width=2)
    model = ChangeModel(network.eval(), make_card(network, architecture="fc_ef"))
    with pytest.raises(ModelError, match="does not encode the dates apart"):
        model.features(torch.rand(1, 2, 16, 16))


def test_every_architecture_is_built_by_name() -> None:
    for name, kind in ARCHITECTURES.items():
        assert type(build_network(name, {"in_channels": 2})) is kind


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("fc_siam_sum", {"in_channels": 2}, "unknown architecture 'fc_siam_sum'.*fc_siam_diff"),
        ("fc_ef", {"in_channels": 2, "depth": 3}, "'fc_ef' cannot be built.*depth"),
        ("fc_ef", {"in_channels": "two"}, "'fc_ef' cannot be built"),
        ("fc_ef", {"in_channels": -2}, "'fc_ef' cannot be built"),
        ("siamese_smp", {"decoder_name": "dpt"}, "nested"),
    ],
)
def test_networks_that_cannot_be_built(architecture: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=f"(?s){message}"):
        build_network(architecture, arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 8}, "says stride 8"),
        ({"directional": True}, "says directional True"),
        ({"bands": ("B04",)}, "says in_channels 1"),
        ({"parameters": 3}, "says parameters 3"),
        ({"architecture": "fc_ef"}, "says architecture fc_ef"),
    ],
)
def test_a_card_of_another_network_is_refused(
    tmp_path: Path, network: FCSiamDiff, make_card: MakeCard, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        save_model(tmp_path / "tiny.safetensors", network, make_card(network, **changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [65_520.0, -1e6, float("nan"), float("inf")])
def test_weights_beyond_float16_are_refused(
    tmp_path: Path, network: FCSiamDiff, make_card: MakeCard, value: float
) -> None:
    network.get_buffer("encoder.stages.0.1.running_var")[0] = value
    with pytest.raises(ModelError, match=r"encoder.stages.0.1.running_var does not fit into float16"):
        save_model(tmp_path / "tiny.safetensors", network, make_card(network))
    assert list(tmp_path.iterdir()) == []


def test_missing_file() -> None:
    with pytest.raises(NotFoundError, match=r"no model 'nowhere\.safetensors'"):
        load_model("nowhere.safetensors")


def test_truncated_file(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelError, match="truncated"):
        load_model(file)


def test_header_that_only_safetensors_finds_bad(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(ModelError, match="is damaged"):
        load_model(file)


def test_file_without_a_card(file: Path) -> None:
    save_file(load_file(file), file)
    with pytest.raises(ModelError, match="no model card"):
        load_model(file)


def test_unknown_architecture(file: Path, network: FCSiamDiff, make_card: MakeCard) -> None:
    _rewrite(file, make_card(network, architecture="fc_siam_sum"))
    with pytest.raises(ModelError, match="unknown architecture"):
        load_model(file)


@pytest.mark.parametrize("change", ["shape", "missing", "other"])
def test_weights_that_do_not_fit(file: Path, network: FCSiamDiff, make_card: MakeCard, change: str) -> None:
    if change == "missing":
        _rewrite(file, make_card(network), drop="decoder.head.bias")
    else:
        name = "decoder.head.bias" if change == "shape" else "decoder.tail.bias"
        _rewrite(file, make_card(network), {name: torch.zeros(2)})
    with pytest.raises(ModelError, match="do not fit the architecture"):
        load_model(file)


def test_weights_that_are_not_finite(file: Path, network: FCSiamDiff, make_card: MakeCard) -> None:
    _rewrite(file, make_card(network), {"decoder.head.bias": torch.full((1,), float("nan"))})
    with pytest.raises(ModelError, match=r"not finite: decoder\.head\.bias"):
        load_model(file)


def test_another_architecture_with_the_card_of_this(file: Path, make_card: MakeCard) -> None:
    other = FCEF(2, width=2)
    _rewrite(file, make_card(other, architecture="fc_ef"))
    with pytest.raises(ModelError, match="do not fit the architecture"):
        load_model(file)


def test_full_disk_keeps_the_old_file(
    file: Path, network: FCSiamDiff, make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def _full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    old = file.read_bytes()
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(OutputError, match="No space left"):
        save_model(file, FCSiamDiff(2, width=2), make_card(network))
    assert file.read_bytes() == old
    assert list(file.parent.iterdir()) == [file]


def test_shipped_models_load_and_are_small() -> None:
    for name, path in shipped_models().items():
        model = load_model(name)
        assert model.card.name == name
        assert model.card.tiling == "exact"
        assert path.stat().st_size < 7e6
