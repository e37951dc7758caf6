"""Encoders of segmentation-models-pytorch with pretrained weights, for any number of bands.

How training begins is said in one argument, `encoder_weights`:

- None: random weights.
- "imagenet", or another name that smp has for the encoder (for timm's encoders, whose names name their weights, any):
  those weights, downloaded once and kept in the cache of Hugging Face Hub. The first convolution is adapted to the
  number of bands: one takes the sum over the three it was trained with, more take them in turn, scaled by 3 / bands. A
  machine that cannot fetch the weights gets a ModelError.
- "imagenet or random": likewise, but a machine that cannot fetch them begins with random weights, and a warning and the
  network's `initial_weights` say so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from torch import nn

from changedet.errors import ModelError

WeightsName: TypeAlias = str | None
_OR_RANDOM = " or random"
_Built = TypeVar("_Built")


def with_weights(build: Callable[[str | None], _Built], wanted: WeightsName, encoder_name: str) -> tuple[_Built, str]:
    """Build with the weights that are wanted.

    Args:
        build: takes smp's name of the weights, None for random ones.
        wanted: as the module's docstring has it.
        encoder_name: for the message.

    Returns:
        What was built, and the name of the weights it has: "random" or smp's.

    Raises:
        ModelError: the weights cannot be fetched, or there are none of that name, and random ones were not allowed.
    """
    if wanted is None:
        return build(None), "random"
    name = wanted.removesuffix(_OR_RANDOM)
    try:
        return build(name), name
    except Exception as error:
        if not is_unreachable(error):
            raise
        if name == wanted:
            raise ModelError(
                f"the weights {name!r} of {encoder_name} cannot be fetched: {_reason(error)}",
                expected="a network connection, or the weights in the cache of Hugging Face Hub",
                remedy=f"encoder_weights: null to begin with random weights, or {name + _OR_RANDOM!r} to allow both",
            ) from error
        warnings.warn(
            f"the weights {name!r} of {encoder_name} cannot be fetched, so the encoder begins with random ones",
            stacklevel=3,
        )
    return build(None), "random"


def is_unreachable(error: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, is that of a failed download rather than of a wrong name."""
    while error is not None:
        # huggingface_hub's, requests' and urllib's errors of connection all descend from OSError.
        if isinstance(error, OSError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def resnet_encoder(
    name: str, in_channels: int, depth: int, weights: WeightsName, *, keep_size_from: int | None = None
) -> tuple[Any, str]:
    """Build an smp ResNet of `depth` halvings, without what lies deeper, and say what weights it has.

    Args:
        name: of an smp ResNet.
        in_channels: bands of one date.
        depth: 2 to 5; the stem halves twice, the second and later stages once each.
        weights: see `with_weights`.
        keep_size_from: number of the first stage (1 to 4) that no longer halves; None for a plain ResNet.

    Raises:
        ModelError: smp has no such ResNet or no such weights for it, or the depth is out of range.
    """
    # Importing smp takes seconds, and the FC-Siam networks do without.
    from segmentation_models_pytorch.encoders import get_encoder

    if not 2 <= depth <= 5 or not name.startswith(("resnet", "resnext")):
        raise ModelError(f"encoder {name!r} of depth {depth}", expected="a ResNet of smp, of depth 2 to 5")

    def build(weights_name: str | None) -> Any:
        return get_encoder(name, in_channels=in_channels, depth=depth, weights=weights_name)

    try:
        encoder, initial = with_weights(build, weights, name)
    except KeyError as error:
        raise ModelError(f"encoder {name!r} with weights {weights!r}: {error.args[0]}") from error
    for stage in range(depth, 5):
        delattr(encoder, f"layer{stage}")
    for stage in range(keep_size_from or 5, depth):
        _keep_size(getattr(encoder, f"layer{stage}"))
    return encoder, initial


def _keep_size(stage: nn.Module) -> None:
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
