from collections.abc import Callable

import numpy as np
import pytest
import torch

from changedet.errors import ModelError
from changedet.learn.datasets import LabelledScene
from changedet.learn.distance import calibrate_distance, distance_figures, fit_logistic
from changedet.learn.evaluate import evaluate_scene
from changedet.network.calibration import probability_of
from changedet.network.card import Calibration
from changedet.network.metric import MetricNetwork, SiameseMetric
from changedet.network.stanet import STANet


def test_finds_the_logistic_function_that_the_labels_were_drawn_by() -> None:
    rng = np.random.default_rng(2)
    distances = rng.gamma(2.0, 0.4, 400_000).astype(np.float32)
    changed = rng.random(len(distances)) < 1 / (1 + np.exp(-5 * (distances - 1.5)))
    scale, threshold = fit_logistic(distances, changed)
    assert scale == pytest.approx(5, rel=0.03)
    assert threshold == pytest.approx(1.5, rel=0.01)


def test_does_not_depend_on_the_unit_of_the_distance() -> None:
    rng = np.random.default_rng(3)
    distances = rng.random(50_000).astype(np.float32)
    changed = rng.random(len(distances)) < distances**2
    scale, threshold = fit_logistic(distances, changed)
    thousandfold = fit_logistic(1000 * distances, changed)
    assert thousandfold == pytest.approx((scale / 1000, threshold * 1000), rel=1e-3)


@pytest.mark.parametrize(
    ("distances", "changed"),
    [
        ([0.1, 0.2, 0.9, 1.0], [False, False, True, True]),  # parted wholly: no finite slope is the likeliest
        ([0.1, 0.2, 0.9, 1.0], [True, True, False, False]),  # the wrong way round: the map still rises
        ([0.0, 0.0, 0.0, 0.0], [True, False, False, False]),
        ([0.1, 0.2, 0.9, 1.0], [False, False, False, False]),
    ],
)
def test_the_map_rises_and_is_finite_whatever_the_distances(distances: list[float], changed: list[bool]) -> None:
    scale, threshold = fit_logistic(np.array(distances, np.float32), np.array(changed))
    assert np.isfinite([scale, threshold]).all()
    assert scale > 0


@pytest.mark.parametrize(
    ("build", "chip"),
    [
        (lambda: SiameseMetric(in_channels=4, encoder_depth=2, decoder_channels=[8, 8], embedding=4), None),
        # Attention over the whole chip: the distances that count are those of its own chips.
        (lambda: STANet(4, encoder_depth=3, level_width=8, pyramid_width=8, embedding=8, regions=(1,)), 32),
    ],
    ids=["any chip", "chips of its own"],
)
def test_a_calibrated_network_states_the_share_of_change_and_its_distance(
    build: Callable[[], MetricNetwork], chip: int | None, make_scene: Callable[..., LabelledScene]
) -> None:
    torch.manual_seed(0)
    network = build().eval()
    scenes = [make_scene(seed=seed) for seed in range(2)]
    calibrate_distance(network, scenes, chip)
    histogram = evaluate_scene(network, scenes[0], chip) + evaluate_scene(network, scenes[1], chip)
    total = histogram.changed + histogram.unchanged
    mean = (total * np.arange(255) / 254).sum() / total.sum()
    assert mean == pytest.approx(histogram.changed.sum() / total.sum(), abs=0.004)
    figures = distance_figures(network, None, 0.2)
    logit = (figures["changed_from"] - figures["threshold"]) * figures["scale"]
    assert 1 / (1 + np.exp(-logit)) == pytest.approx(0.2)


def test_a_network_that_tells_nothing_apart_is_refused(make_scene: Callable[..., LabelledScene]) -> None:
    """As one becomes whose triplets are too hard."""
    network = SiameseMetric(in_channels=4, encoder_depth=2, decoder_channels=[8, 8], embedding=4).eval()
    network.embed.head[0].weight.data.zero_()
    with pytest.raises(ModelError, match="every pixel is at the distance 0: the network has collapsed"):
        calibrate_distance(network, [make_scene()])


def test_a_calibration_is_another_scale_and_threshold_of_the_distance() -> None:
    network = SiameseMetric(in_channels=4, encoder_depth=2, decoder_channels=[8, 8], embedding=4).eval()
    network.calibrate(scale=3.0, threshold=0.7)
    calibration = Calibration(method="platt", slope=0.6, offset=-1.5, data="drawn")
    figures = distance_figures(network, calibration, 0.2)
    logits = torch.tensor(3.0 * (figures["changed_from"] - 0.7)).view(1, 1, 1, 1)
    assert float(probability_of(logits, calibration)) == pytest.approx(0.2)
    again = (figures["changed_from"] - figures["threshold"]) * figures["scale"]
    assert 1 / (1 + np.exp(-again)) == pytest.approx(0.2)


def test_the_distance_of_the_highest_probability_is_finite() -> None:
    network = SiameseMetric(in_channels=4, encoder_depth=2, decoder_channels=[8, 8], embedding=4).eval()
    figures = distance_figures(network, None, 1.0)
    probability = 1 / (1 + np.exp(-figures["scale"] * (figures["changed_from"] - figures["threshold"])))
    assert probability == pytest.approx(253.5 / 254)
