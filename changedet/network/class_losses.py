"""Losses for classes of change that exclude each other, and for two dates' land cover beside their change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from changedet.config import LossConfig
from changedet.errors import ConfigError
from changedet.network.losses import LossValue, dice_of, pick_valid, treat_border
from changedet.network.places import PlaceOutput


class SemanticLogits(NamedTuple):
    """What a semantic change network says of a pair.

    Attributes:
        change: (N, 1, H, W), whether anything changed.
        before: (N, S, H, W), the land cover of the earlier date.
        after: (N, S, H, W), that of the later date.
    """

    change: Tensor
    before: Tensor
    after: Tensor


def class_cross_entropy(
    logits: Tensor, target: Tensor, valid: Tensor, weights: tuple[float, ...] | None = None
) -> Tensor:
    """Return the mean cross-entropy over valid pixels of "unchanged" and K kinds of change; 0 where there is none.

    The logit of "unchanged" is 0, so with one kind of change this is the binary cross-entropy.

    Args:
        logits: (N, K, H, W), float; half precision is summed in float32.
        target: integers (N, 1, H, W): 0 unchanged, 1..K the kind of change; what lies under invalid pixels is ignored.
        valid: bool (N, 1, H, W), True = valid.
        weights: of unchanged and of each kind, K + 1 numbers; None for equal ones.
    """
    full = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
    return _masked(full, target, valid, weights)


def semantic_loss(
    logits: SemanticLogits, changed: Tensor, before: Tensor, after: Tensor, valid: Tensor, share: float = 0.5
) -> Tensor:
    """Return the loss of a semantic change network: of its change mask and of both land covers.

    The two parts are weighed as strategy 4 of Caye Daudt et al., "Multitask Learning for Large-scale Semantic Change
    Detection" (CVIU 2019, arXiv 1810.08452) trains them together.

    Args:
        logits: of a batch.
        changed: (N, 1, H, W), 1 changed, 0 unchanged.
        before: integers (N, 1, H, W), 0..S - 1 the land cover, below 0 where it is not known.
        after: likewise, of the later date.
        valid: bool (N, 1, H, W), True = valid.
        share: of the land covers in the loss, 0..1; the change has the rest.
    """
    change = class_cross_entropy(logits.change, changed, valid)
    covers = [
        _masked(cover, target, valid & (target >= 0), None)
        for cover, target in ((logits.before, before), (logits.after, after))
    ]
    return (1 - share) * change + share * (covers[0] + covers[1]) / 2


def _masked(logits: Tensor, target: Tensor, valid: Tensor, weights: tuple[float, ...] | None) -> Tensor:
    chosen = valid[:, 0]
    flat = logits.movedim(1, -1)[chosen].to(torch.promote_types(logits.dtype, torch.float32))
    if not flat.numel():
        return flat.sum()
    weight = None if weights is None else flat.new_tensor(weights)
    return functional.cross_entropy(flat, target[:, 0][chosen].long(), weight=weight)


# Losses of `LossConfig` that are known for several kinds of change.
_KNOWN = ("bce", "dice")


class ClassLoss:
    """The weighted sum of losses for K kinds of change that a configuration names.

    `bce` is the cross-entropy over "unchanged" and the kinds, each weighed by `positive_weight`; `dice` the mean over
    the kinds. Of a semantic network `bce` is `semantic_loss`, and `dice` that of its change mask.

    Args:
        config: weights and settings.
        pairs: land cover before and after, 0..S - 1, of each kind 1..K, where the kinds are transitions.

    Raises:
        ConfigError: a loss or a setting that is known for change or no change only.
    """

    def __init__(self, config: LossConfig, pairs: Sequence[tuple[int, int]] = ()) -> None:
        strange = [name for name in config.weights if name not in _KNOWN]
        strange += ["hard_negatives"] if config.hard_negatives < 1 else []
        strange += ["border: soft"] if config.border == "soft" else []
        if strange:
            raise ConfigError(
                f"loss {strange[0]} for several kinds of change",
                expected=f"{' and '.join(_KNOWN)}, with border: exact or ignore",
            )
        self._config = config
        # Unchanged pixels say nothing of the land cover.
        self._covers = torch.tensor([(-1, -1), *pairs])

    @property
    def names(self) -> tuple[str, ...]:
        """The keys of `LossValue.parts`, for the head of a log."""
        return tuple(self._config.weights)

    def __call__(self, output: Tensor | SemanticLogits, target: Tensor, valid: Tensor) -> LossValue:
        """Return the loss over the valid pixels of the whole batch; 0 where there is none.

        Args:
            output: logits (N, K, H, W), float; or what a semantic network says.
            target: (N, 1, H, W), 0 unchanged, 1..K the kind of change.
            valid: bool (N, 1, H, W), True = valid.
        """
        target, valid = treat_border(target, valid, self._config)
        parts = self._semantic if isinstance(output, SemanticLogits) else self._plain
        values = parts(output, target, valid)  # type: ignore[arg-type]  # either takes its own kind of output
        weighted = [values[name] * weight for name, weight in self._config.weights.items()]
        return LossValue(torch.stack(weighted).sum(), {name: values[name].detach() for name in self.names})

    def _plain(self, logits: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        kinds = logits.shape[1]
        weights = (1.0, *(self._config.positive_weight,) * kinds)
        values = {"bce": class_cross_entropy(logits, target, valid, weights)}
        if self._config.dice:
            values["dice"] = class_dice(logits, target, valid)
        return values

    def _semantic(self, logits: SemanticLogits, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        covers = self._covers.to(target.device)[target.long()]
        changed = (target > 0).to(target.dtype)
        share = self._config.cover_share
        values = {"bce": semantic_loss(logits, changed, covers[..., 0], covers[..., 1], valid, share)}
        if self._config.dice:
            values["dice"] = class_dice(logits.change, changed, valid)
        return values


def class_dice(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return the Dice loss of each kind's probability beside "unchanged", over valid pixels; the mean over the kinds.

    Args:
        logits: (N, K, H, W).
        target: (N, 1, H, W), 0 unchanged, 1..K the kind of change.
        valid: bool (N, 1, H, W), True = valid.
    """
    kinds = torch.arange(1, logits.shape[1] + 1, device=target.device).view(1, -1, 1, 1)
    flat, truth = pick_valid(logits, (target == kinds).float(), valid)
    unchanged = torch.zeros_like(flat[:1])
    return dice_of(torch.cat([unchanged, flat]).softmax(dim=0)[1:], truth)


def change_logits(output: Tensor | SemanticLogits | PlaceOutput) -> Tensor:
    """Return the logit of change of any kind, (N, 1, H, W): its probability is the sum of the kinds'."""
    return output.logsumexp(dim=1, keepdim=True) if isinstance(output, Tensor) else output.change
