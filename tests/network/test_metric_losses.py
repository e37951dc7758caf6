import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss, TripletMarginLoss
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from changedet.network import metric_losses
from changedet.network.metric import CosineDistance, EuclideanDistance, ManhattanDistance
from changedet.network.metric_losses import TripletLoss, contrastive

# Embeddings of one place at two dates, two channels, whose distances can be read off: 3, 1, 4 where nothing changed, 2
# and 3.5 where something did.
_BEFORE = torch.tensor([[0.0, 0.0], [5.0, 5.0], [2.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
_AFTER = _BEFORE + torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, -4.0], [2.0, 0.0], [0.0, 3.5]])
_UNCHANGED = 3


def _distances() -> Tensor:
    before, after = (date.T[None, :, None] for date in (_BEFORE, _AFTER))
    distance: Tensor = EuclideanDistance()(before, after)
    return distance.flatten()


@pytest.mark.parametrize(
    ("mining", "expected"),
    [
        # Unchanged pixels 0 (3), 1 (1) and 2 (4); changed pixels 3 (2) and 4 (3.5); margin 1.
        ("hard", {(0, 3), (2, 3), (2, 4)}),  # the changed one is closer: 2 < 3, 2 < 4, 3.5 < 4
        ("semi_hard", {(0, 4), (1, 3)}),  # farther by 0.5 and, on the very margin, by 1
        ("batch_hard", {(2, 3)}),  # the farthest unchanged one with the closest changed one
    ],
)
def test_mined_triplets_are_those_worked_out_by_hand(mining: str, expected: set[tuple[int, int]]) -> None:
    loss, (anchors, positives, negatives) = TripletLoss(1.0, mining).of_group(_distances(), _UNCHANGED)
    assert set(zip(positives.tolist(), negatives.tolist(), strict=True)) == expected
    assert anchors.eq(0).all()
    d = _distances().tolist()
    costs = [max(0, d[p] - d[n] + 1) for p, n in expected]
    # Triplets that cost nothing do not thin out the others.
    assert loss.item() == pytest.approx(sum(costs) / max(1, sum(cost > 0 for cost in costs)))


def test_triplet_loss_agrees_with_plain_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """With groups of all pixels, drawn in order."""
    rng = np.random.default_rng(1)
    unchanged, changed = rng.random(9), 0.3 + rng.random(9)
    monkeypatch.setattr(metric_losses, "SAMPLES", dict.fromkeys(metric_losses.SAMPLES, 9))
    monkeypatch.setattr(metric_losses, "_drawn", lambda distance, many: distance)
    every = torch.tensor(np.concatenate([changed, unchanged]))
    target = torch.tensor([1.0] * 9 + [0.0] * 9)
    for mining in ("hard", "semi_hard", "batch_hard"):
        gap = changed[None] - unchanged[:, None]
        picked = {
            "hard": gap <= 0,
            "semi_hard": (gap > 0) & (gap <= 0.4),
            "batch_hard": gap == gap.min(),
        }[mining]
        costs = np.maximum(0, 0.4 - gap[picked])
        loss, share = TripletLoss(0.4, mining)(every, target)
        assert loss.item() == pytest.approx(costs[costs > 0].mean())
        assert share.item() == pytest.approx(picked.sum() / 81)


@pytest.mark.parametrize(("ours", "power"), [(EuclideanDistance(), 2), (ManhattanDistance(), 1)])
def test_batch_hard_triplets_agree_with_the_library_on_embeddings(ours: torch.nn.Module, power: int) -> None:
    """Distances between the dates are those of their difference from the origin, the anchor there."""
    torch.manual_seed(5)
    before, after = torch.randn(40, 6), torch.randn(40, 6)
    kind = (torch.arange(40) >= 25).long()
    distance = ours(*(date.T[None, :, None] for date in (before, after))).flatten()
    loss, triplets = TripletLoss(0.5, "batch_hard").of_group(distance, 25)
    line = LpDistance(normalize_embeddings=False, p=power)
    origin, of_origin = torch.zeros(1, 6), torch.zeros(1, dtype=torch.long)
    from pytorch_metric_learning.miners import BatchHardMiner

    theirs = BatchHardMiner(distance=line)(origin, of_origin, after - before, kind)
    assert [t.tolist() for t in triplets] == [t.tolist() for t in theirs]
    expected = TripletMarginLoss(margin=0.5, distance=line)(origin, of_origin, theirs, after - before, kind)
    torch.testing.assert_close(loss, expected)


def test_fixed_distances_are_those_of_the_library() -> None:
    torch.manual_seed(6)
    before, after = torch.randn(30, 5), torch.randn(30, 5)
    images = [date.T[None, :, None] for date in (before, after)]
    euclidean, manhattan = (LpDistance(normalize_embeddings=False, p=p).pairwise_distance for p in (2, 1))
    torch.testing.assert_close(EuclideanDistance()(*images).flatten(), euclidean(before, after))
    torch.testing.assert_close(ManhattanDistance()(*images).flatten(), manhattan(before, after))
    unit = [torch.nn.functional.normalize(date, dim=1) for date in (before, after)]
    similar = CosineSimilarity().pairwise_distance(*unit)
    torch.testing.assert_close(CosineDistance()(*images).flatten(), 1 - similar)


def test_contrastive_loss_agrees_with_plain_numpy() -> None:
    distance, target = torch.tensor([0.5, 1.0, 2.0, 0.25, 3.0]), torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0])
    expected = (np.mean([0.25, 1.0]) + np.mean([0.0, 1.25**2, 0.0])) / 2
    assert contrastive(distance, target, margin=1.5).item() == pytest.approx(expected)


def test_contrastive_loss_agrees_with_the_library() -> None:
    """Of pairs with one distance each, half squared by us, their mean is the library's with its mean squared."""
    pairs = 4
    unchanged, changed = 0.6, 0.8
    distance = torch.tensor([unchanged] * pairs + [changed] * pairs)
    target = torch.tensor([0.0] * pairs + [1.0] * pairs)
    embedding = distance[:, None]
    line = LpDistance(normalize_embeddings=False, p=1)
    library = ContrastiveLoss(pos_margin=0, neg_margin=2, distance=line, reducer=MeanReducer())
    origin, of_origin = torch.zeros(1, 1), torch.zeros(1, dtype=torch.long)

    def theirs(kind: int) -> float:
        own = target == kind
        return float(library(origin, of_origin, ref_emb=embedding[own], ref_labels=target[own].long()))

    expected = (theirs(0) ** 2 + theirs(1) ** 2) / 2
    assert contrastive(distance, target, margin=2).item() == pytest.approx(expected)


def test_each_kind_of_pixel_weighs_the_same_however_rare() -> None:
    few = contrastive(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0]), margin=1)
    many = contrastive(torch.tensor([0.5] * 100), torch.tensor([0.0] * 99 + [1.0]), margin=1)
    torch.testing.assert_close(few, many)


def test_no_triplets_without_both_kinds_of_pixels() -> None:
    distance = torch.rand(5, requires_grad=True)
    loss, share = TripletLoss(1.0, "hard")(distance, torch.zeros(5))
    loss.backward()
    assert loss.item() == share.item() == 0
    assert distance.grad is not None
    assert distance.grad.eq(0).all()


@pytest.mark.parametrize("mining", ["hard", "semi_hard"])
def test_a_batch_without_a_triplet_has_a_gradient_of_nothing(mining: str) -> None:
    """As once every changed pixel is farther than every unchanged one by the margin."""
    target = torch.tensor([0.0, 0.0, 1.0, 1.0])
    distance = (10 * target).requires_grad_()
    loss, share = TripletLoss(1.0, mining)(distance, target)
    torch.autograd.backward(loss)
    assert (loss.item(), share.item()) == (0, 0)
    assert distance.grad is not None
    assert not distance.grad.any()
