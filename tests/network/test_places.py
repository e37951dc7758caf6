import pytest
import torch
from pytorch_metric_learning import distances, losses, miners

from changedet.config import LossConfig, PlacesConfig
from changedet.errors import ConfigError
from changedet.network.fc_siam import FCEF
from changedet.network.losses import ChangeLoss
from changedet.network.places import PlaceLearner, PlaceLoss, PlaceOutput
from changedet.network.siamese import SiameseSMP

_STRIDE = 8


def _loss(**config: float) -> PlaceLoss:
    settings = PlacesConfig.model_validate({"samples": 200, "apart_px": _STRIDE, **config})
    return PlaceLoss(ChangeLoss(LossConfig(bce=1)), settings, mapped=True)


def _output(before: torch.Tensor, after: torch.Tensor) -> PlaceOutput:
    count, _, height, width = before.shape
    return PlaceOutput(torch.zeros(count, 1, height * _STRIDE, width * _STRIDE), before, after)


def _nothing_changed(output: PlaceOutput) -> torch.Tensor:
    return torch.zeros_like(output.change, dtype=torch.bool)


def test_places_that_keep_their_features_and_differ_from_each_other_cost_nothing() -> None:
    """One unit vector a place, the same at both dates."""
    features = torch.eye(18).reshape(2, 3, 3, 18).movedim(-1, 1)
    output = _output(features, features)
    near, far = _loss(margin=1.0, triplet_margin=0.5).place_losses(output, _nothing_changed(output))
    assert float(near) < 1e-5
    assert float(far) == 0


def test_the_nearest_other_place_is_the_negative() -> None:
    """Against pytorch-metric-learning's miner and loss, anchors being the places before and the others those after."""
    torch.manual_seed(0)
    before, after = torch.randn(2, 16, 3, 4), torch.randn(2, 16, 3, 4)
    output = _output(before, after)
    _, triplet = _loss(triplet_margin=0.4).place_losses(output, _nothing_changed(output))
    first, last = (date.movedim(1, -1).reshape(-1, 16) for date in (before, after))
    # Not the same object: pytorch-metric-learning would take both dates for one.
    label, again = torch.arange(len(first)), torch.arange(len(first))
    euclid = distances.LpDistance(normalize_embeddings=True)
    mined = miners.BatchHardMiner(distance=euclid)(first, label, last, again)
    expected = losses.TripletMarginLoss(margin=0.4, distance=euclid, swap=False)(first, label, mined, last, again)
    # pytorch-metric-learning takes the mean over the triplets that cost something.
    positive = euclid(torch.nn.functional.normalize(first), torch.nn.functional.normalize(last)).diagonal()
    costing = int(((positive - euclid(first, last)[mined[0], mined[2]] + 0.4) > 0).sum())
    assert float(triplet) == pytest.approx(float(expected) * costing / len(first), rel=1e-4)


def test_what_changed_is_neither_anchor_nor_other_place() -> None:
    """However it is embedded, the loss stays."""
    torch.manual_seed(0)
    before, after = torch.randn(2, 16, 4, 4), torch.randn(2, 16, 4, 4)
    changed = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    changed[0, 0, 9, 20] = True  # one pixel of the cell in row 1, column 2
    one = _loss().place_losses(_output(before, after), changed)
    after[0, :, 1, 2] = before[1, :, 0, 0]
    other = _loss().place_losses(_output(before, after), changed)
    assert sorted(map(float, one)) == pytest.approx(sorted(map(float, other)), rel=1e-5)


def test_places_close_by_are_no_other_places() -> None:
    """Neighbours alike, and nothing else in the batch: there is no negative."""
    features = torch.ones(1, 4, 2, 2)
    output = _output(features, features)
    near, far = _loss(apart_px=2 * _STRIDE).place_losses(output, _nothing_changed(output))
    assert (float(near), float(far)) == (pytest.approx(0, abs=1e-5), 0)
    near, far = _loss(apart_px=_STRIDE).place_losses(output, _nothing_changed(output))
    assert float(far) > 0


def test_a_map_that_is_not_learned_leaves_the_decoder_alone() -> None:
    torch.manual_seed(0)
    network = SiameseSMP("resnet18", in_channels=3, encoder_depth=2, decoder_channels=[8, 8])
    output = PlaceLearner(network)(torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32))
    settings = PlacesConfig(apart_px=4)
    target = torch.zeros(2, 1, 32, 32)
    value = PlaceLoss(ChangeLoss(LossConfig(bce=1)), settings, mapped=False)(output, target, target == 0)
    value.total.backward()
    grads = {name: p.grad.abs().max() for name, p in network.named_parameters() if p.grad is not None}
    assert max(grad for name, grad in grads.items() if name.startswith("encoder")) > 0
    assert max(grad for name, grad in grads.items() if not name.startswith("encoder")) == 0
    assert set(value.parts) == {"bce", "place_contrastive", "place_triplet"}


def test_the_logits_are_the_networks_own() -> None:
    torch.manual_seed(0)
    network = SiameseSMP("resnet18", in_channels=3, encoder_depth=3, decoder_channels=[8, 8, 8]).eval()
    before, after = torch.randn(1, 3, 50, 61), torch.randn(1, 3, 50, 61)
    assert torch.equal(PlaceLearner(network)(before, after).change, network(before, after))


def test_a_network_that_sees_both_dates_as_one_has_no_places() -> None:
    with pytest.raises(ConfigError, match="encodes the dates apart"):
        PlaceLearner(FCEF(3, width=4))
