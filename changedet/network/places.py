"""Metric learning without labels: a place is near itself at the other date, and far from other places.

The embeddings are the encoder's coarsest features, of unit length, a vector a cell. For each place that did not change
the nearest of the other places is its hard negative (Hermans, Beyer and Leibe, arXiv 1703.07737).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from changedet.config import PlacesConfig
from changedet.errors import ConfigError
from changedet.network.base import ChangeNetwork, SiameseNetwork, pad_to_stride
from changedet.network.losses import ChangeLoss, LossValue
from changedet.network.metric_losses import contrastive

# Of squared distances, whose root has no slope at 0.
_LEAST = 1e-6


class PlaceOutput(NamedTuple):
    """What a network says of a pair, and what it made of each date.

    Attributes:
        change: logits (N, K, H, W).
        before: features (N, E, h, w).
        after: likewise.
    """

    change: Tensor
    before: Tensor
    after: Tensor


class PlaceLearner(nn.Module):
    """A Siamese network whose `forward` gives the coarsest features of each date beside the logits.

    Raises:
        ConfigError: the network does not encode the dates apart.
    """

    def __init__(self, network: ChangeNetwork) -> None:
        super().__init__()
        if not isinstance(network, SiameseNetwork):
            raise ConfigError(
                f"places with {type(network).__name__}", expected="a network that encodes the dates apart"
            )
        self.network = network

    def forward(self, before: Tensor, after: Tensor) -> PlaceOutput:
        """Compare two scaled images (N, C, H, W), any H and W."""
        height, width = before.shape[-2:]
        dates = torch.cat([pad_to_stride(date, self.network.stride) for date in (before, after)])
        first, last = zip(*(level.chunk(2) for level in self.network.features(dates)), strict=True)
        return PlaceOutput(self.network.compare(first, last)[..., :height, :width], first[-1], last[-1])


class PlaceLoss:
    """The loss of the map, if there is anything to map, and those of the embeddings.

    Args:
        change: of the map.
        config: of the embeddings.
        mapped: False leaves the map out.
    """

    def __init__(self, change: ChangeLoss, config: PlacesConfig, *, mapped: bool) -> None:
        self._change, self._config, self._mapped = change, config, mapped

    @property
    def names(self) -> tuple[str, ...]:
        """The keys of `LossValue.parts`."""
        return (*self._change.names, "place_contrastive", "place_triplet")

    def __call__(self, output: PlaceOutput, target: Tensor, valid: Tensor) -> LossValue:
        """Return the loss of a batch.

        Args:
            output: of a `PlaceLearner`.
            target: (N, 1, H, W), 1 changed.
            valid: bool (N, 1, H, W), True = valid and known.
        """
        change = self._change(output.change, target, valid)
        near, far = self.place_losses(output, (target > 0) | ~valid)
        total = self._config.weight * (near + far) + (change.total if self._mapped else 0 * change.total)
        return LossValue(total, {**change.parts, "place_contrastive": near.detach(), "place_triplet": far.detach()})

    def place_losses(self, output: PlaceOutput, changed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the contrastive and the triplet loss over places drawn with torch's own generator.

        Args:
            output: of a `PlaceLearner`.
            changed: bool (N, 1, H, W), True where the place is not known to be the same at both dates.
        """
        config, stride = self._config, changed.shape[-1] / output.before.shape[-1]
        same = functional.adaptive_max_pool2d(changed.float(), output.before.shape[-2:])[:, 0] == 0
        places = same.nonzero()
        places = places[torch.randperm(len(places))[: config.samples].to(places.device)]
        if len(places) < 2:
            return 0 * output.before.sum(), 0 * output.after.sum()
        before, after = (_embedded(features, places) for features in (output.before, output.after))
        distance = (2 - 2 * before @ after.T).clamp(min=_LEAST).sqrt()
        apart = (places[:, None] - places[None]).abs()
        elsewhere = (apart[..., 0] > 0) | (apart[..., 1:].amax(dim=-1) * stride >= config.apart_px)
        negative = distance.masked_fill(~elsewhere, 2.0).amin(dim=1)
        positive = distance.diagonal()
        pairs, truth = (
            torch.cat([positive, negative]),
            torch.cat([torch.zeros_like(positive), torch.ones_like(negative)]),
        )
        triplet = (positive - negative + config.triplet_margin).clamp(min=0).mean()
        return contrastive(pairs, truth, config.margin), triplet


def _embedded(features: Tensor, places: Tensor) -> Tensor:
    """Return the unit vectors (S, E), float32 at least, of features (N, E, h, w) at S places: chip, row, column."""
    chosen = features[places[:, 0], :, places[:, 1], places[:, 2]]
    return functional.normalize(chosen.to(torch.promote_types(chosen.dtype, torch.float32)), dim=1)
