"""Any encoder and decoder of segmentation-models-pytorch as a Siamese change network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from changedet.errors import ModelError
from changedet.network.base import SiameseNetwork
from changedet.network.encoders import WeightsName, is_unreachable, with_weights
from changedet.network.pairing import paired

Fusion = Literal["absdiff", "diff", "concat", "learned", "learned_directional"]
# Exchanging the dates changes nothing.
_SYMMETRIC = ("absdiff", "learned")
# These decoders can be tiled exactly, if their encoder can; the others pool globally, attend, or enlarge by corners.
_TILEABLE = ("unet", "unetplusplus", "linknet")
# Widths of smp's own U-Net decoder from coarse to fine; a shallower encoder takes the finest of them.
_DECODER_CHANNELS = (256, 128, 64, 32, 16)
# These take one width a level; the others take one number or none.
_WIDTH_PER_LEVEL = ("unet", "unetplusplus", "manet")
# Side (px) of the image that `_drop_unused` sends through: a multiple of every stride in smp, and large enough for
# the pooling inside PAN.
_PROBE = 128


class SiameseSMP(SiameseNetwork):
    """One smp encoder for both dates, the features fused level by level, one smp decoder and head.

    Args:
        encoder_name: an smp encoder, "resnet18" or "tu-resnet10t" (timm's) for instance.
        decoder_name: an smp architecture in lower case, "unet" for instance. "dpt" is refused: its features are nested.
        in_channels: bands of one date.
        classes: channels of the logits; 1 for change or no change.
        encoder_depth: how many times the encoder halves the image; what lies deeper is removed.
        fusion: "absdiff" is |f1 - f2|; "learned" a small network on |f1 - f2| and f1 + f2: with these two, exchanging
            the dates changes nothing. Directional are "diff", which is f2 - f1, "concat", a linear mixture of f1 and
            f2, and "learned_directional", the small network on f1 and f2.
        encoder_weights: see `changedet.network.encoders`.
        decoder_channels: widths of the decoder: one a level from coarse to fine for unet, unetplusplus and manet, one
            number for those that take one; None for the usual.
        stem_pool: False leaves out the max pool after a ResNet's first convolution, so that every later level has twice
            the resolution and the field is half as wide; for the unet decoder only.

    Raises:
        ModelError: smp has no such encoder or decoder, or they do not go together.
    """

    def __init__(
        self,
        encoder_name: str = "resnet18",
        decoder_name: str = "unet",
        in_channels: int = 3,
        classes: int = 1,
        *,
        encoder_depth: int = 4,
        fusion: Fusion = "absdiff",
        encoder_weights: WeightsName = None,
        decoder_channels: Sequence[int] | int | None = None,
        stem_pool: bool = True,
    ) -> None:
        super().__init__()
        if fusion not in get_args(Fusion):
            raise ModelError(f"fusion {fusion!r}", expected=f"one of {', '.join(get_args(Fusion))}")
        if decoder_channels is None and decoder_name in _WIDTH_PER_LEVEL:
            decoder_channels = _DECODER_CHANNELS[-encoder_depth:]
        options = {} if decoder_channels is None else {"decoder_channels": decoder_channels}

        is_timm = encoder_name.startswith("tu-")

        def build(weights: str | None) -> Any:
            return _create(
                decoder_name,
                encoder_name=encoder_name,
                encoder_depth=encoder_depth,
                # timm's names of weights are part of its encoders' names.
                encoder_weights=(weights and True) if is_timm else weights,
                in_channels=in_channels,
                classes=classes,
                **options,
            )

        model, self.initial_weights = with_weights(build, encoder_weights, encoder_name)
        self.classes = classes
        self.fusion = fusion
        self.directional = fusion not in _SYMMETRIC
        self.tiling = "exact" if decoder_name in _TILEABLE else "fixed_chip"
        self.encoder, self.decoder, self.head = model.encoder, model.decoder, model.segmentation_head
        if not stem_pool:
            _remove_stem_pool(self.encoder, encoder_name, decoder_name)
        self.mix = _mixers(self.encoder.out_channels, fusion)
        self.stride = self._drop_unused(in_channels)

    def features(self, image: Tensor) -> list[Tensor]:
        """Encode `image` (N, C, H, W); smp's list begins with the image itself, which most decoders drop."""
        return list(self.encoder(image))

    def compare(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, H, W) of two dates' features."""
        pairs = zip(before, after, strict=True)
        logits: Tensor = self.head(self.decoder([self._fuse(level, f1, f2) for level, (f1, f2) in enumerate(pairs)]))
        return logits

    def _fuse(self, level: int, f1: Tensor, f2: Tensor) -> Tensor:
        if self.fusion == "absdiff":
            return (f1 - f2).abs()
        if str(level) in self.mix:
            mixed: Tensor = self.mix[str(level)](paired(f1, f2, directional=self.directional))
            return mixed
        # A level without channels.
        return f2 - f1

    def _drop_unused(self, in_channels: int) -> int:
        """Delete the layers that no logit depends on, and return the stride (px).

        smp builds an encoder whole, whatever its depth. A parameter the logits do not depend on gets no gradient
        at all, not even zero, so one backward pass finds them: of a copy without numbers, which computes shapes alone.
        """
        shapes = copy.deepcopy(self).to("meta")
        image = torch.zeros(1, in_channels, _PROBE, _PROBE, device="meta")
        with torch.enable_grad():
            features = shapes.eval().features(image)
            torch.autograd.backward(shapes.compare(features, features).sum())
        _delete(self, {name for name, parameter in shapes.named_parameters() if parameter.grad is None})
        return _PROBE // min(level.shape[-1] for level in features)


def _create(decoder_name: str, **options: Any) -> Any:
    """Build the smp model `decoder_name`, whose parts are taken from it."""
    # Importing smp takes seconds, and the FC-Siam networks do without.
    import segmentation_models_pytorch as smp

    known = sorted(set(smp.MODEL_ARCHITECTURES_MAPPING) - {"dpt"})
    if decoder_name not in known:
        reason = (
            " (its features are nested, so two dates cannot be fused level by level)" if decoder_name == "dpt" else ""
        )
        raise ModelError(f"decoder {decoder_name!r}{reason}", expected=f"one of {', '.join(known)}")
    try:
        return smp.create_model(decoder_name, **options)
    # smp and timm raise whatever their constructors meet: KeyError, ValueError, TypeError, RuntimeError.
    except Exception as error:
        if is_unreachable(error):
            raise
        raise ModelError(
            f"segmentation-models-pytorch cannot build {decoder_name!r} on {options['encoder_name']!r}: {error}",
            expected="an encoder and a decoder that go together, with widths for each level",
        ) from error


def _remove_stem_pool(encoder: Any, encoder_name: str, decoder_name: str) -> None:
    # timm's encoders keep the backbone one level down.
    backbone = getattr(encoder, "model", encoder)
    if decoder_name != "unet" or not isinstance(getattr(backbone, "maxpool", None), nn.MaxPool2d):
        raise ModelError(
            f"stem_pool=False for {decoder_name!r} on {encoder_name!r}",
            expected="the unet decoder, which enlarges to the size of each skip, on a ResNet with a max pool",
        )
    backbone.maxpool = nn.Identity()


def _mixers(channels: Sequence[int], fusion: Fusion) -> nn.ModuleDict:
    """Make one mixer a level, from two dates' channels back to one date's, which any decoder accepts."""
    if fusion in ("absdiff", "diff"):
        return nn.ModuleDict()
    # Level 0 is mostly the image; some encoders have an empty level.
    used = {str(level): count for level, count in enumerate(channels) if count}
    if fusion == "concat":
        return nn.ModuleDict({level: nn.Conv2d(2 * count, count, 1) for level, count in used.items()})
    return nn.ModuleDict({level: _matching(count) for level, count in used.items()})


def _matching(channels: int) -> nn.Sequential:
    """Make the matching network of a level: two dates' channels to few and those to one date's, pixel by pixel."""
    few = max(8, channels // 4)
    return nn.Sequential(
        nn.Conv2d(2 * channels, few, 1, bias=False),
        nn.BatchNorm2d(few),
        nn.ReLU(inplace=True),
        nn.Conv2d(few, channels, 1),
    )


def _delete(module: nn.Module, unused: AbstractSet[str]) -> None:
    """Delete the layers all of whose parameters are among the unused, given by their full names."""
    for name, child in list(module.named_children()):
        parameters = {f"{name}.{inner}" for inner, _ in child.named_parameters()}
        if parameters and parameters <= unused:
            delattr(module, name)
        else:
            _delete(child, {full.removeprefix(f"{name}.") for full in unused if full.startswith(f"{name}.")})
