"""The losses of training, blind to invalid pixels, and their weighted sum.

Each loss sees the valid pixels alone, picked out of the batch. So whatever logits and target hold under an invalid
pixel, NaN included, no loss changes and the gradient there is exactly 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from changedet.config import LossConfig
from changedet.errors import ConfigError
from changedet.network.metric_losses import TripletLoss, contrastive

# Added to both sides of the Dice ratio (px): a batch without change then has a loss that falls with its false alarms.
_DICE_SMOOTHING = 1.0
METRIC_LOSSES = ("contrastive", "triplet")


@dataclass(frozen=True, slots=True)
class LossValue:
    """What a batch costs.

    Attributes:
        total: scalar with a gradient, the weighted sum.
        parts: name of each loss → its value before weighting, and what mining did; scalars for the log.
    """

    total: Tensor
    parts: dict[str, Tensor]


class ChangeLoss:
    """The weighted sum of losses that a configuration names.

    Args:
        config: weights and settings.
        distance_of: recovers a network's distance from its logits; None where the network has no distance.

    Raises:
        ConfigError: a loss on distances for a network that has none.
    """

    def __init__(self, config: LossConfig, distance_of: Callable[[Tensor], Tensor] | None = None) -> None:
        on_distances = [name for name in METRIC_LOSSES if name in config.weights]
        if on_distances and distance_of is None:
            raise ConfigError(
                f"the loss {on_distances[0]} for an architecture that gives no distance", expected="siamese_metric"
            )
        self._config = config
        self._distance_of = distance_of
        self._triplet = TripletLoss(config.margin, config.mining) if "triplet" in on_distances else None

    @property
    def names(self) -> tuple[str, ...]:
        """The keys of `LossValue.parts`, for the head of a log."""
        config = self._config
        mined = ("hard_negative_from",) if config.hard_negatives < 1 else ()
        return (*config.weights, *mined, *(("mined_share",) if self._triplet else ()))

    def __call__(self, logits: Tensor, target: Tensor, valid: Tensor) -> LossValue:
        """Return the loss over the valid pixels of the whole batch; 0 where there is none.

        Args:
            logits: (N, K, H, W), float; half precision is summed in float32.
            target: the shape of logits, any dtype; 1 changed, 0 unchanged.
            valid: bool (N, 1, H, W), True = valid.
        """
        target, valid = treat_border(target, valid, self._config)
        flat, truth = pick_valid(logits, target, valid)
        if not flat.numel():
            return LossValue(flat.sum(), dict.fromkeys(self.names, flat.detach().sum()))
        values = dict(self._values(flat, truth))
        weighted = [values[name] * weight for name, weight in self._config.weights.items()]
        return LossValue(torch.stack(weighted).sum(), {name: value.detach() for name, value in values.items()})

    def _values(self, logits: Tensor, target: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of each loss, logits and target being (K, P)."""
        config = self._config
        for name in config.weights:
            match name:
                case "bce":
                    entropy, kept_from = cross_entropy(logits, target, config.positive_weight, config.hard_negatives)
                    yield name, entropy
                    if config.hard_negatives < 1:
                        yield "hard_negative_from", kept_from
                case "dice":
                    yield name, dice(logits, target)
                case "focal" | "lovasz" | "tversky":
                    yield name, _by_smp(name, config, logits, target)
                case "contrastive":
                    yield name, contrastive(self._distance(logits), target[0], config.margin)
                case "triplet" if self._triplet:
                    value, share = self._triplet(self._distance(logits), target[0])
                    yield name, value
                    yield "mined_share", share

    def _distance(self, logits: Tensor) -> Tensor:
        assert self._distance_of is not None  # noqa: S101 - the constructor saw to it
        return self._distance_of(logits)[0]


def pick_valid(logits: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and target (K, P) of the P valid pixels, in float32 or better.

    Args:
        logits: (N, K, H, W).
        target: the shape of logits.
        valid: bool (N, 1, H, W), True = valid.
    """
    precise = torch.promote_types(logits.dtype, torch.float32)
    chosen = valid[:, 0]
    flat, truth = (values.movedim(1, 0)[:, chosen].to(precise) for values in (logits, target))
    return flat, truth


def treat_border(target: Tensor, valid: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """Return target and valid after what `config.border` says of pixels within `border_px` of another label.

    Args:
        target: (N, K, H, W), 1 changed; with `ignore` also (N, 1, H, W) of kinds 0..K.
        valid: bool (N, 1, H, W), True = valid; what target holds where it is False plays no part.
        config: of the loss.
    """
    if config.border == "exact":
        return target, valid
    side, around = 2 * config.border_px + 1, config.border_px
    target = target.float()
    known = target.masked_fill(~valid, 0)
    if config.border == "soft":
        total, count = (functional.avg_pool2d(x, side, 1, around) for x in (known, valid.float()))
        return torch.where(valid, total / count.clamp(min=1e-6), target), valid
    highest = functional.max_pool2d(known, side, 1, around)
    lowest = -functional.max_pool2d(-target.masked_fill(~valid, torch.inf), side, 1, around)
    return target, valid & (highest <= lowest).all(dim=1, keepdim=True)


def cross_entropy(
    logits: Tensor, target: Tensor, positive_weight: float = 1.0, hard_negatives: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the mean binary cross-entropy, and the loss from which on unchanged pixels took part.

    With `hard_negatives` below 1 only that share of the unchanged pixels takes part, those of highest loss, as in
    Shrivastava, Gupta and Girshick, "Training Region-based Object Detectors with Online Hard Example Mining", CVPR
    2016.

    Args:
        logits: (K, P).
        target: (K, P), 0..1.
        positive_weight: how many times a changed pixel counts.
        hard_negatives: share, above 0 to 1.
    """
    weight = logits.new_tensor(positive_weight)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    negative = entropy[target <= 0]
    if hard_negatives == 1 or not negative.numel():
        return entropy.mean(), entropy.new_zeros(())
    hardest = negative.topk(max(1, round(hard_negatives * negative.numel())), sorted=False).values
    return torch.cat([hardest, entropy[target > 0]]).mean(), hardest.detach().min()


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1), for each class over the batch, averaged over the classes.

    Milletari, Navab and Ahmadi, 3DV 2016, arXiv 1606.04797, there with squares below the line. Ours, as smp's counts a
    batch without change as 0 whatever its false alarms.

    Args:
        logits: (K, P).
        target: (K, P), 0..1.
    """
    return dice_of(logits.sigmoid(), target)


def dice_of(probability: Tensor, target: Tensor) -> Tensor:
    """Return the Dice loss of probabilities (K, P); see `dice`."""
    overlap, total = (x.sum(dim=1) for x in (probability * target, probability + target))
    return (1 - (2 * overlap + _DICE_SMOOTHING) / (total + _DICE_SMOOTHING)).mean()


def chip_losses(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return the mean cross-entropy of each chip's valid pixels, (N,), without a gradient; 0 for a chip of none."""
    logits, target = logits.detach().float().masked_fill(~valid, 0), target.float().masked_fill(~valid, 0)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").masked_fill(~valid, 0)
    return entropy.sum(dim=(1, 2, 3)) / (valid.sum(dim=(1, 2, 3)) * logits.shape[1]).clamp(min=1)


def _by_smp(name: str, config: LossConfig, logits: Tensor, target: Tensor) -> Tensor:
    """Return a loss of segmentation-models-pytorch, for each class over the batch, averaged over the classes."""
    loss = _smp_loss(name, config)
    values = [loss(one[None, None], truth[None, None]) for one, truth in zip(logits, target, strict=True)]
    return torch.stack(values).mean()


def _smp_loss(name: str, config: LossConfig) -> Any:
    # Importing smp takes seconds, and the other losses do without.
    from segmentation_models_pytorch import losses

    if name == "focal":  # Lin et al., ICCV 2017, arXiv 1708.02002
        return losses.FocalLoss("binary", alpha=config.focal_alpha, gamma=config.focal_gamma)
    if name == "lovasz":  # Berman, Rannen Triki and Blaschko, CVPR 2018, arXiv 1705.08790
        lovasz = losses.LovaszLoss("binary", per_image=False)
        # Its weights are float32 whatever it is given.
        return lambda logits, target: lovasz(logits.float(), target.float()).to(logits.dtype)
    # Salehi, Erdogmus and Gholipour, MLMI 2017, arXiv 1706.05721
    weights = {"alpha": config.false_alarm_weight, "beta": config.miss_weight}
    return losses.TverskyLoss("binary", smooth=_DICE_SMOOTHING, **weights)
