"""The model package: one .safetensors file with the weights in float16 and the card in its metadata."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from changedet.errors import ModelError, OutputError
from changedet.network.base import ChangeNetwork, SiameseNetwork
from changedet.network.bit import BIT
from changedet.network.calibration import probability_of
from changedet.network.card import Card
from changedet.network.changeformer import ChangeFormer
from changedet.network.fc_siam import FCEF, FCSiamConc, FCSiamDiff
from changedet.network.metric import SiameseMetric
from changedet.network.normalise import LogReflectance
from changedet.network.semantic import SemanticSMP
from changedet.network.shipped import CARD_KEY, read_card, resolve_model, shipped_models
from changedet.network.siamese import SiameseSMP
from changedet.network.stanet import STANet
from changedet.network.tinycd import TinyCD

__all__ = [
    "ARCHITECTURES",
    "ChangeModel",
    "architecture_of",
    "build_network",
    "load_model",
    "read_card",
    "save_model",
    "shipped_models",
]

ARCHITECTURES: Final[Mapping[str, Callable[..., ChangeNetwork]]] = {
    "fc_ef": FCEF,
    "fc_siam_conc": FCSiamConc,
    "fc_siam_diff": FCSiamDiff,
    "siamese_metric": SiameseMetric,
    "siamese_smp": SiameseSMP,
    "semantic_smp": SemanticSMP,
    "stanet": STANet,
    "bit": BIT,
    "changeformer": ChangeFormer,
    "tinycd": TinyCD,
}


class ChangeModel(nn.Module):
    """A network with its card, from reflectance to the probability of change.

    Args:
        network: takes scaled images.
        card: describes it.
        digest: SHA-256 of the file it came from, in hexadecimal; empty where it came from none.

    Raises:
        ModelError: the card does not describe this network.
    """

    def __init__(self, network: ChangeNetwork, card: Card, digest: str = "") -> None:
        super().__init__()
        _check_card(network, card)
        self.normalise = LogReflectance()
        self.network = network
        self.card = card
        self.digest = digest

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the logits (N, K, H, W) of two dates (N, C, H, W), reflectance 0..1, bands in the card's order."""
        logits: Tensor = self.network(self.normalise(before), self.normalise(after))
        return logits

    def probability(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the probability of each kind of change, calibrated as the card has it, float32 (N, K, H, W) in 0..1.

        Args:
            before: reflectance (N, C, H, W), float32, 0..1 physical, bands in the card's order.
            after: the same place later.
        """
        with torch.inference_mode():
            logits: Tensor = self(before, after)
            return probability_of(logits.float(), self.card.calibration)

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the features of one date (N, C, H, W), reflectance; H and W are multiples of the stride.

        Raises:
            ModelError: the network does not encode the dates apart.
        """
        with torch.inference_mode():
            return self._siamese().features(self.normalise(image))

    def compared(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return what `probability` would, from the features of each date."""
        with torch.inference_mode():
            logits = self._siamese().compare(before, after)
            return probability_of(logits.float(), self.card.calibration)

    def _siamese(self) -> SiameseNetwork:
        if not isinstance(self.network, SiameseNetwork):
            raise ModelError(f"{self.card.architecture} does not encode the dates apart", expected="a Siamese network")
        return self.network


def build_network(architecture: str, arguments: Mapping[str, Any]) -> ChangeNetwork:
    """Build a network with random weights.

    Raises:
        ModelError: there is no such architecture, or it takes no such arguments.
    """
    if architecture not in ARCHITECTURES:
        raise ModelError(f"unknown architecture {architecture!r}", expected=f"one of {', '.join(ARCHITECTURES)}")
    try:
        return ARCHITECTURES[architecture](**arguments)
    except ModelError:
        raise
    # What torch raises for a negative width, or for a string in place of a number.
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"architecture {architecture!r} cannot be built from {dict(arguments)}: {error}") from error


def save_model(path: str | Path, network: ChangeNetwork, card: Card) -> None:
    """Write a model file; it appears complete or not at all.

    Raises:
        ModelError: the card does not describe the network, or a weight does not fit into float16.
        OutputError: the file cannot be written.
    """
    _check_card(network, card)
    tensors = {name: _half(name, tensor) for name, tensor in network.state_dict().items()}
    _write_atomically(Path(path), save(tensors, metadata={CARD_KEY: card.model_dump_json()}))


def load_model(path_or_name: str | Path) -> ChangeModel:
    """Load a model file, or a shipped model by its name: on the CPU, float32, in eval mode.

    Raises:
        NotFoundError: there is no such file and no such shipped model.
        ModelError: the file is not a safetensors file or is truncated, its card is missing or bad, its architecture is
            unknown, or its weights do not fit.
    """
    path = resolve_model(path_or_name)
    card = read_card(path)
    data = path.read_bytes()
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged: {error}", remedy="fetch or save it again") from error
    # The training began with pretrained weights, perhaps; here they would be fetched only to be overwritten.
    arguments = {name: value for name, value in card.arguments.items() if name != "encoder_weights"}
    network = build_network(card.architecture, arguments)
    _fill(network, tensors, path)
    return ChangeModel(network, card, hashlib.sha256(data).hexdigest()).eval()


def _fill(network: ChangeNetwork, tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(tensors)  # float16 becomes float32 here
    except RuntimeError as error:
        raise ModelError(f"the weights in {path} do not fit the architecture on its card: {error}") from error
    bad = [name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()]
    if bad:
        raise ModelError(f"the weights in {path} are not finite: {bad[0]}", remedy="fetch or save it again")


def _check_card(network: ChangeNetwork, card: Card) -> None:
    parameters = sum(parameter.numel() for parameter in network.parameters())
    pairs = {
        "architecture": (card.architecture, architecture_of(network)),
        "in_channels": (len(card.bands), card.arguments.get("in_channels")),
        "classes": (len(card.classes), network.classes),
        "stride": (card.stride, network.stride),
        "directional": (card.directional, network.directional),
        "parameters": (card.parameters, parameters),
    }
    for name, (said, true) in pairs.items():
        if said != true:
            raise ModelError(f"the card of {card.name!r} says {name} {said}", expected=f"{true}, as the network has it")


def architecture_of(network: ChangeNetwork) -> str:
    """Return the key of a network's class in `ARCHITECTURES`."""
    return next((name for name, kind in ARCHITECTURES.items() if type(network) is kind), type(network).__name__)


def _half(name: str, tensor: Tensor) -> Tensor:
    """Return `tensor` in float16 (integers as they are), on the CPU and contiguous, as safetensors wants it."""
    if not tensor.is_floating_point():
        return tensor.cpu().contiguous()
    half = tensor.detach().to("cpu", torch.float16).contiguous()
    if not half.isfinite().all():
        raise ModelError(f"a value of {name} does not fit into float16", expected="finite values within 65504")
    return half


def _write_atomically(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write the model {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
