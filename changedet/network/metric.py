"""A Siamese network whose change map is a distance between the two dates' embeddings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from changedet.errors import ModelError
from changedet.network.base import SiameseNetwork
from changedet.network.siamese import SiameseSMP

Distance = Literal["euclidean", "manhattan", "cosine", "learned"]
# Until it is calibrated: the middle of the usual margin, and a slope that spans the probabilities within it.
_THRESHOLD, _SCALE = 0.5, 8.0


class MetricNetwork(SiameseNetwork):
    """A symmetric Siamese network whose logit is `scale * (distance - threshold)`, the distance that of two dates.

    So the probability is the logistic function of the distance: rising with it, one half at `threshold`. Both numbers
    are buffers, not learnt with the weights but set by calibration, and saved with them.
    """

    classes = 1
    directional = False
    scale: Tensor
    threshold: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(_SCALE))
        self.register_buffer("threshold", torch.tensor(_THRESHOLD))

    @abstractmethod
    def distance_between(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the distance (N, 1, H, W), at least 0, float32 at least, of two dates' features."""

    def compare(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, 1, H, W) of two dates' features."""
        return (self.distance_between(before, after) - self.threshold) * self.scale

    def distance_of(self, logits: Tensor) -> Tensor:
        """Return the distance that `compare` made logits of, float32 at least."""
        distance: Tensor = _precise(logits) / self.scale + self.threshold
        return distance

    def calibrate(self, *, scale: float, threshold: float) -> None:
        """Set the map from distance to probability, 1 / (1 + exp(-scale (distance - threshold)))."""
        self.scale.fill_(scale)
        self.threshold.fill_(threshold)


class SiameseMetric(MetricNetwork):
    """Embeds each date by one smp encoder and decoder, at full resolution, and measures how far apart they are.

    Exchanging the dates changes nothing, and two equal dates are at distance 0 whatever they show.

    Args:
        encoder_name: an smp encoder.
        decoder_name: an smp architecture in lower case.
        in_channels: bands of one date.
        embedding: channels of the embedding.
        distance: "euclidean", "manhattan" (sum of absolute differences), "cosine" (1 - cosine of the angle) or
            "learned" (Manhattan with a weight for each channel and pixel from a small network on both embeddings).
        encoder_depth: how many times the encoder halves the image.
        encoder_weights: see `changedet.network.encoders`.
        decoder_channels: widths of the decoder, see `SiameseSMP`.
        stem_pool: see `SiameseSMP`.

    Raises:
        ModelError: there is no such distance, or smp has no such encoder or decoder.
    """

    def __init__(
        self,
        encoder_name: str = "resnet18",
        decoder_name: str = "unet",
        in_channels: int = 3,
        *,
        embedding: int = 16,
        distance: Distance = "euclidean",
        encoder_depth: int = 4,
        encoder_weights: str | None = None,
        decoder_channels: Sequence[int] | int | None = None,
        stem_pool: bool = True,
    ) -> None:
        super().__init__()
        if distance not in get_args(Distance):
            raise ModelError(f"distance {distance!r}", expected=f"one of {', '.join(get_args(Distance))}")
        self.embed = SiameseSMP(
            encoder_name,
            decoder_name,
            in_channels,
            embedding,
            encoder_depth=encoder_depth,
            encoder_weights=encoder_weights,
            decoder_channels=decoder_channels,
            stem_pool=stem_pool,
        )
        self.stride, self.tiling = self.embed.stride, self.embed.tiling
        self.initial_weights = self.embed.initial_weights
        self.distance = LearnedDistance(embedding) if distance == "learned" else _FIXED[distance]()

    def features(self, image: Tensor) -> list[Tensor]:
        """Embed `image` (N, C, H, W), H and W multiples of the stride: one level (N, embedding, H, W)."""
        return [self.embed.head(self.embed.decoder(list(self.embed.encoder(image))))]

    def distance_between(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the distance (N, 1, H, W) of two dates' embeddings."""
        # Half precision is too coarse for the difference of two numbers that are nearly the same.
        distance: Tensor = self.distance(_precise(before[0]), _precise(after[0]))
        return distance


def _precise(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


class EuclideanDistance(nn.Module):
    """The root of the sum of squared differences, (N, E, H, W) twice to (N, 1, H, W)."""

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Compare pixel by pixel. torch gives the root at 0 the gradient 0."""
        distance: Tensor = torch.linalg.vector_norm(before - after, dim=1, keepdim=True)
        return distance


class ManhattanDistance(nn.Module):
    """The sum of absolute differences, (N, E, H, W) twice to (N, 1, H, W)."""

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Compare pixel by pixel."""
        return (before - after).abs().sum(dim=1, keepdim=True)


class CosineDistance(nn.Module):
    """1 less the cosine of the angle between the embeddings, 0 to 2, (N, E, H, W) twice to (N, 1, H, W)."""

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Compare pixel by pixel, as half the squared Euclidean distance of the unit vectors: exactly 0 for equals."""
        unit = (functional.normalize(date, dim=1) for date in (before, after))
        return (next(unit) - next(unit)).square().sum(dim=1, keepdim=True) / 2


class LearnedDistance(nn.Module):
    """Manhattan distance with a positive weight for each channel and pixel, which a small network gives.

    The network sees the sum and the absolute difference of the two embeddings, so the distance is symmetric; and as it
    only weighs differences, equals stay at distance 0.

    Args:
        embedding: channels.
    """

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Conv2d(2 * embedding, embedding, 1), nn.ReLU(), nn.Conv2d(embedding, embedding, 1), nn.Softplus()
        )

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Compare (N, E, H, W) twice, pixel by pixel: (N, 1, H, W)."""
        difference = (before - after).abs()
        weights = self.weigh(torch.cat([before + after, difference], dim=1))
        distance: Tensor = (weights * difference).sum(dim=1, keepdim=True)
        return distance


_FIXED: Final = {"euclidean": EuclideanDistance, "manhattan": ManhattanDistance, "cosine": CosineDistance}
