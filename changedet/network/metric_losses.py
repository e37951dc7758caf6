"""Losses on the distance between the two dates' embeddings: small where nothing changed, large where something did."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# How many pixels of each kind a batch gives, and with how many of them an anchor is compared. More would let a few
# wrong labels, which are the hardest of all, decide every triplet. Where an anchor has one triplet alone, more than
# four, as Hermans et al. take, are too many: with 32 on OSCD all distances collapsed to 0.
PIXELS = 512
SAMPLES = {"hard": 32, "semi_hard": 32, "batch_hard": 4}


def contrastive(distance: Tensor, target: Tensor, margin: float) -> Tensor:
    """Return half the mean of d² over unchanged pixels plus half the mean of max(0, margin - d)² over changed ones.

    Hadsell, Chopra and LeCun, CVPR 2006; each kind of pixel by its own mean ("batch-balanced"), as in Chen and Shi,
    Remote Sensing 2020, 12(10), 1662, since unchanged pixels are fifty times as many. A soft label belongs to both.

    Args:
        distance: (P,), at least 0.
        target: (P,), 0..1, 1 changed.
        margin: from which distance on a changed pixel is far enough.
    """
    near = distance.square() * (1 - target)
    far = (margin - distance).clamp(min=0).square() * target
    unchanged, changed = ((share.sum()).clamp(min=1) for share in (1 - target, target))
    return (near.sum() / unchanged + far.sum() / changed) / 2


class TripletLoss:
    """The mean of max(0, d(anchor, positive) - d(anchor, negative) + margin) over mined triplets.

    After Schroff, Kalenichenko and Philbin, CVPR 2015, and for batch-hard Hermans, Beyer and Leibe, arXiv 1703.07737.
    The anchor is the before date; the after date is a positive where nothing changed and a negative where something
    did. A map only knows distances between the dates at one place, so these are the distances that are ranked: each
    anchor gets a random group of unchanged and of changed pixels, and the triplets are mined among their distances.

    pytorch-metric-learning mines and sums: the anchor lies at 0 of a line, and each pixel at its distance on it.

    Args:
        margin: by how much a changed pixel shall be farther than an unchanged one.
        mining: "hard", "semi_hard" or "batch_hard".
    """

    def __init__(self, margin: float, mining: str) -> None:
        # Importing it takes seconds, and the other losses do without.
        from pytorch_metric_learning import distances, losses, miners

        self._samples = SAMPLES[mining]
        line = distances.LpDistance(normalize_embeddings=False, p=1)
        self._loss = losses.TripletMarginLoss(margin=margin, distance=line)
        kinds = {"hard": "hard", "semi_hard": "semihard"}
        self._miner: Any = (
            miners.TripletMarginMiner(margin=margin, type_of_triplets=kinds[mining], distance=line)
            if mining in kinds
            else miners.BatchHardMiner(distance=line)
        )

    def __call__(self, distance: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss over the random groups of a batch, and the mined share of their triplets.

        Pixels with a soft label are left out. Drawn with torch's own generator.

        Args:
            distance: (P,), at least 0.
            target: (P,), 0..1, 1 changed.
        """
        unchanged, changed = distance[target <= 0], distance[target >= 1]
        if not (unchanged.numel() and changed.numel()):
            return 0 * distance.sum(), distance.new_zeros(())
        many = self._samples
        groups = [torch.cat([_drawn(unchanged, many), _drawn(changed, many)]) for _ in range(PIXELS // many)]
        mined = [self.of_group(group, many) for group in groups]
        count = sum(len(triplets[0]) for _, triplets in mined)
        share = distance.new_tensor(count / (len(groups) * many**2))
        # Where no group has a triplet, their losses of 0 have no gradient, and a step needs one.
        return torch.stack([loss for loss, _ in mined]).mean() + 0 * distance.sum(), share

    def of_group(self, distance: Tensor, unchanged: int) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return the loss of one anchor, and its triplets as indices: anchors (all 0), positives, negatives.

        Args:
            distance: (S,), the pixels without change first.
            unchanged: how many these are.
        """
        anchor, of_anchor = distance.new_zeros(1, 1), torch.zeros(1, dtype=torch.long, device=distance.device)
        pixels, kind = distance[:, None], (torch.arange(len(distance), device=distance.device) >= unchanged).long()
        triplets = self._miner(anchor, of_anchor, pixels, kind)
        return self._loss(anchor, of_anchor, triplets, pixels, kind), triplets


def _drawn(distance: Tensor, many: int) -> Tensor:
    return distance[torch.randint(len(distance), (many,), device=distance.device)]
