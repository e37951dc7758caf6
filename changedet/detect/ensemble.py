"""Several answers instead of one: the mean of models and of turned images, and how far they differ."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from changedet.config import RunConfig
from changedet.detect.backend import open_detector
from changedet.detect.choose import bands_for, check_free
from changedet.detect.detector import NetworkDetector
from changedet.errors import ModelError
from changedet.network.card import Card
from changedet.network.shipped import read_card
from changedet.read.scene import Scene

# The symmetries of the square: quarter turns, then mirrored or not.
_SYMMETRIES = tuple((quarter, mirrored) for mirrored in (False, True) for quarter in range(4))
# Mean, sum of squares and the answer at hand, float32 (bytes a px).
_KEPT_BYTES = 12


def open_detectors(model: str, scenes: Sequence[Scene], config: RunConfig) -> NetworkDetector:
    """Open a model, or as one detector the ensemble that the options ask for.

    Raises:
        NotFoundError, ModelError: a model cannot be used, or not with the others.
        ConfigError: the backend or the device is not there.
    """
    members = []
    for name in (model, *config.ensemble):
        card = read_card(name)
        check_free(card, config)
        members.append(open_detector(name, bands_for(card, scenes), config))
    return EnsembleDetector(members, turned=config.tta) if config.tta or config.ensemble else members[0]


class EnsembleDetector(NetworkDetector):
    """The mean of detectors, each on the image as it is or in all eight symmetries of the square, and the deviation.

    It is exact where its members are: turning an image whose sides are multiples of the stride takes stride cells to
    stride cells, and the largest halo and field of the members are its own.

    Args:
        members: they may see different bands; those of all are asked for.
        turned: average over the symmetries.

    Raises:
        ModelError: the members have different classes, or chips of different sizes belong to them.
    """

    def __init__(self, members: Sequence[NetworkDetector], *, turned: bool) -> None:
        card = _common_card([member.card for member in members])
        bands = tuple(band for band in card.bands if any(band in member.bands for member in members))
        digests = [member.digest for member in members]
        digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        self._members = tuple(members)
        self._symmetries = _SYMMETRIES if turned else _SYMMETRIES[:1]
        self.backend, self.device, self.precision = members[0].backend, members[0].device, members[0].precision
        missing = tuple(band for band in card.bands if band not in bands)
        super().__init__(card.model_copy(update={"optional_bands": missing}), digest, bands)

    @property
    def base_bytes(self) -> int:
        """See `ChangeDetector`; the libraries once, and the weights of all further members."""
        weights = 4 * sum(member.card.parameters for member in self._members[1:])
        return max(member.base_bytes for member in self._members) + weights

    @property
    def bytes_per_px(self) -> float:
        """See `ChangeDetector`; the members take turns."""
        return max(member.bytes_per_px for member in self._members) + _KEPT_BYTES * self.classes // 2

    def release(self) -> None:
        """See `NetworkDetector`."""
        for member in self._members:
            member.release()

    @property
    def cards(self) -> tuple[Card, ...]:
        """See `NetworkDetector`."""
        return tuple(member.card for member in self._members)

    @property
    def classes(self) -> int:
        """See `ChangeDetector`: the members' channels twice, probabilities and then their deviations."""
        return 2 * self._members[0].classes

    def predict(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return mean and standard deviation of the probabilities, float32 (N, 2 K, H, W), for (N, C, H, W).

        The deviation is that of all answers about their mean, at most 0.5. Summed as Welford does (Technometrics 1962),
        so that equal answers give exactly 0.
        """
        mean, squares = (np.zeros((1, 1, 1, 1), np.float32) for _ in range(2))
        for count, answer in enumerate(self._answers(before, after), start=1):
            step = answer - mean
            mean = mean + step / np.float32(count)
            squares = squares + step * (answer - mean)
        spread = np.sqrt(squares / np.float32(count))
        return np.concatenate([mean, spread], axis=1, dtype=np.float32)

    def _answers(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        for member in self._members:
            channels = [self._bands.index(band) for band in member.bands]
            dates = before[:, channels], after[:, channels]
            for quarter, mirrored in self._symmetries:
                turned = (np.ascontiguousarray(_turn(date, quarter, mirrored)) for date in dates)
                yield _turn_back(member.predict(*turned), quarter, mirrored)

    def _compute(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.predict(before, after)


def _turn(image: NDArray[np.float32], quarter: int, mirrored: bool) -> NDArray[np.float32]:
    image = np.rot90(image, quarter, (2, 3))
    return image[..., ::-1] if mirrored else image


def _turn_back(image: NDArray[np.float32], quarter: int, mirrored: bool) -> NDArray[np.float32]:
    return np.rot90(image[..., ::-1] if mirrored else image, -quarter, (2, 3))


def _common_card(cards: Sequence[Card]) -> Card:
    """Return what is true of the mean of several models: the card of the first, as far as the others agree."""
    first = cards[0]
    if len(cards) == 1:
        return first
    for card in cards[1:]:
        same: dict[str, list[object]] = {"classes": [first.classes, card.classes]}
        same |= {"tiling": [first.tiling, card.tiling], "chip_px": [first.chip_px, card.chip_px]}
        for name, (one, other) in same.items():
            if one != other:
                raise ModelError(
                    f"{first.name} has {name} {one}, {card.name} {other}", expected="the same, for a mean of both"
                )
    stride = math.lcm(*(card.stride for card in cards))
    fields = [card.receptive_field_px for card in cards if card.receptive_field_px is not None]
    changes = {
        "name": "+".join(card.name for card in cards),
        "bands": tuple(dict.fromkeys(band for card in cards for band in card.bands)),
        "threshold": sum(card.threshold for card in cards) / len(cards),
        "urban_weight": sum(card.urban_weight for card in cards) / len(cards),
        "neighbour_weight": sum(card.neighbour_weight for card in cards) / len(cards),
        "stride": stride,
        "halo_px": -(-max(card.halo_px for card in cards) // stride) * stride,
        "receptive_field_px": max(fields) if fields else None,
        "licence": " AND ".join(dict.fromkeys(card.licence for card in cards)),
        "commercial_use": all(card.commercial_use for card in cards),
    }
    return first.model_copy(update=changes)
