"""Land cover at both dates and the change between them: one encoder, a decoder for land cover, one for change.

Strategy 4 of Caye Daudt, Le Saux, Boulch and Gousseau, "Multitask Learning for Large-scale Semantic Change Detection"
(CVIU 2019, arXiv 1810.08452), on any encoder and decoder that `SiameseSMP` takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from changedet.network.base import SiameseNetwork, pad_to_stride
from changedet.network.class_losses import SemanticLogits
from changedet.network.encoders import WeightsName
from changedet.network.siamese import SiameseSMP


class SemanticSMP(SiameseNetwork):
    """A change mask and S land covers of each date, which together are S (S - 1) kinds of change, "from i to j".

    As a change network its logits are those of the transitions: the change's own logit plus the logarithm of the
    probability of i before and j after among all pairs of different covers. So what follows, from probabilities to
    polygons, is that of any network with classes of change, the probability of change being that of the change mask.
    `semantic` gives the parts, for the loss and for maps of land cover. Directional, of course; its change mask is not.

    Args:
        in_channels: bands of one date.
        covers: S, the number of land covers, from 2 on.
        encoder_name: see `SiameseSMP`, as the others.
        decoder_name: of both decoders.
        encoder_depth: how many times the encoder halves the image.
        decoder_channels: widths of both decoders.
        encoder_weights: see `changedet.network.encoders`.
    """

    directional = True

    def __init__(
        self,
        in_channels: int,
        covers: int = 2,
        *,
        encoder_name: str = "resnet18",
        decoder_name: str = "unet",
        encoder_depth: int = 4,
        decoder_channels: Sequence[int] | int | None = None,
        encoder_weights: WeightsName = None,
    ) -> None:
        super().__init__()
        if covers < 2:
            raise ValueError(f"{covers} land covers, between which nothing can change")
        parts = {"encoder_depth": encoder_depth, "decoder_channels": decoder_channels}
        self.change = SiameseSMP(
            encoder_name,
            decoder_name,
            in_channels,
            1,
            encoder_weights=encoder_weights,
            **parts,  # type: ignore[arg-type]  # of two types
        )
        # Built whole, for its decoder and head; the encoder is the change's.
        land_cover = SiameseSMP(encoder_name, decoder_name, in_channels, covers, **parts)  # type: ignore[arg-type]  # of two types
        self.cover_decoder, self.cover_head = land_cover.decoder, land_cover.head
        self.covers, self.classes = covers, covers * (covers - 1)
        self.stride, self.tiling = self.change.stride, self.change.tiling
        self.initial_weights = self.change.initial_weights

    def features(self, image: Tensor) -> list[Tensor]:
        """Encode `image` (N, C, H, W), H and W multiples of the stride; see `SiameseSMP`."""
        return self.change.features(image)

    def compare(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, S (S - 1), H, W) of the transitions, 0 to 1, 0 to 2, ... 1 to 0 ..., of two dates."""
        parts = self._parts(before, after)
        pairs = parts.before[:, :, None] + parts.after[:, None]  # (N, S, S, H, W), by row from and by column to
        differ = [index for index in range(self.covers**2) if index // self.covers != index % self.covers]
        return parts.change + pairs.flatten(1, 2)[:, differ].log_softmax(dim=1)

    def semantic(self, before: Tensor, after: Tensor) -> SemanticLogits:
        """Return change and land covers of two scaled images (N, C, H, W), any H and W."""
        height, width = before.shape[-2:]
        dates = (self.features(pad_to_stride(date, self.stride)) for date in (before, after))
        return SemanticLogits(*(part[..., :height, :width] for part in self._parts(*dates)))

    def _parts(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> SemanticLogits:
        covers = (self.cover_head(self.cover_decoder(list(date))) for date in (before, after))
        return SemanticLogits(self.change.compare(before, after), *covers)


class SemanticLearner(nn.Module):
    """A semantic network as its loss sees it: `forward` gives the parts, so that wrappers of modules hand them on."""

    def __init__(self, network: SemanticSMP) -> None:
        super().__init__()
        self.network = network

    def forward(self, before: Tensor, after: Tensor) -> SemanticLogits:
        """Return what `SemanticSMP.semantic` does."""
        return self.network.semantic(before, after)


def transitions(covers: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the classes of a `SemanticSMP`, in their order, from those of its land covers."""
    return tuple(f"{first} to {last}" for first in covers for last in covers if first != last)
