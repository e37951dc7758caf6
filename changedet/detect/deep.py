"""The label-free detector `deep`: what changed in the features of an encoder that was not trained on the pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from changedet.errors import ModelError
from changedet.network.base import SiameseNetwork
from changedet.network.features import RANDOM_BYTES_PER_PX, RANDOM_FIELD, feature_difference, random_encoder
from changedet.network.normalise import LogReflectance
from changedet.network.package import ChangeModel


class FeatureDifference:
    """A `Statistic` from an encoder.

    Args:
        network: in eval mode; takes scaled images.
        encoder: where its weights come from, for run.json.
        field: px that a feature sees around it, a multiple of the stride.
        bytes_per_px: peak memory for each px of a chip.
    """

    names = ("feature difference",)
    freedom = None
    rule = "mixture"

    def __init__(self, network: SiameseNetwork, encoder: dict[str, Any], *, field: int, bytes_per_px: float) -> None:
        self._network, self._encoder = network, encoder
        self._scale = LogReflectance()
        self.halo = field
        self.stride = network.stride
        self.bytes_per_px = bytes_per_px

    @classmethod
    def of_model(cls, model: ChangeModel) -> FeatureDifference:
        """Return the statistic of a model's encoder.

        Raises:
            ModelError: it has none that sees each date alone, or its field has no bound.
        """
        network, card = model.network, model.card
        if not isinstance(network, SiameseNetwork) or card.receptive_field_px is None:
            raise ModelError(
                f"--detector deep with the model {card.name}",
                expected="a Siamese network whose card says tiling: exact",
                remedy="another --model, or none",
            )
        field = -(-card.receptive_field_px // network.stride) * network.stride
        encoder = {"weights": card.name, "sha256": model.digest, "licence": card.licence}
        return cls(network, encoder, field=field, bytes_per_px=card.memory_bytes_per_px)

    @classmethod
    def of_random_weights(cls, bands: int) -> FeatureDifference:
        """Return the statistic of a seeded random encoder."""
        encoder = {"weights": "random (ResNet-18 to its second stage, seed 0)"}
        return cls(random_encoder(bands), encoder, field=RANDOM_FIELD, bytes_per_px=RANDOM_BYTES_PER_PX)

    def image(
        self, before: NDArray[np.float32], after: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """See `Statistic`."""
        del valid  # invalid pixels are neutral at both dates: no difference
        first, second = (self._scale(torch.from_numpy(image)[None]) for image in (before, after))
        difference: NDArray[np.float32] = feature_difference(self._network, first, second).numpy()
        return difference

    def squares(self, statistic: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Statistic`."""
        return statistic

    def from_square(self, square: float) -> float:
        """See `Statistic`."""
        return square

    def as_json(self) -> dict[str, Any]:
        """See `Statistic`."""
        return {"encoder": self._encoder}
