"""A network's answer joined with the pair's own statistic: by the definition, in every chip, and as it is restored."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from changedet.detect.detector import NetworkDetector
from changedet.detect.fused import FusedDetector, PairTerm, fit_term
from changedet.detect.run import run
from changedet.detect.series import run_series
from changedet.detect.stitch import silent, stitch
from changedet.detect.torch_detector import TorchDetector
from changedet.grid import plan_chips
from changedet.grid.quantise import NODATA
from changedet.network.card import Card
from changedet.network.package import ChangeModel, load_model, save_model
from changedet.stats.neighbourhood import RADIUS, reinforced
from changedet.stats.urban import joined
from tests.data import texture
from tests.detect.test_stitch import ArrayPair, ArraySink
from tests.pairs import RGBN, crop_sample, tiny_model

Floats = NDArray[np.float32]
WEIGHT = 2.0


def _with_weight(path: Path, weight: float = WEIGHT, **more: object) -> Path:
    model = load_model(path)
    card = Card.model_validate({**model.card.model_dump(), "urban_weight": weight, "name": "joined", **more})
    joined = path.with_name("joined.safetensors")
    save_model(joined, model.network, card)
    return joined


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return _with_weight(tiny_model(tmp_path / "tiny.safetensors"))


class _Half(TorchDetector):
    """Holds everything for as likely changed as not, as far as the first band is bright."""

    def _compute(self, before: Floats, after: Floats) -> Floats:
        return (0.2 + before[:, :1] + after[:, :1]).clip(0.05, 0.9)


def _pair(height: int = 150, width: int = 170) -> ArrayPair:
    rng = np.random.default_rng(0)
    before = np.stack([texture(height, width, seed=seed) for seed in range(4)])
    after = 0.9 * before + rng.normal(0, 0.02, before.shape).astype(np.float32)
    after[:, 60:80, 90:120] += 0.3
    valid = rng.random((height, width)) > 0.05
    valid[:30, :20] = False
    return ArrayPair(before, after.astype(np.float32), valid, RGBN)


def _stored(pair: ArrayPair, detector: NetworkDetector, chip: int) -> NDArray[np.uint8]:
    height, width = pair.valid.shape
    sink = ArraySink((height, width))
    plan = plan_chips(height, width, chip=chip, halo=detector.halo, stride=detector.stride)
    stitch(pair, detector, plan, sink)
    return sink.stored[0]


def test_logits_add_up_in_every_chip_and_validity_counts(model: Path) -> None:
    pair = _pair()
    network = _Half(load_model(model), "cpu")
    fused = FusedDetector(network, fit_term(pair, silent))
    statistic = fused.term.statistic.image(pair.before, pair.after, pair.valid)[0]
    alone = network.predict(pair.before[None], pair.after[None])[0, 0]
    expected = np.rint(254 * expit(logit(alone.astype(float)) + WEIGHT * (statistic - 1.7)))
    for chip in (512, 160):
        stored = _stored(pair, fused, chip)
        np.testing.assert_array_equal(stored == NODATA, ~pair.valid)
        assert np.abs(stored.astype(float) - expected)[pair.valid].max() <= 1  # a float's last digit at a step's border
    assert (_stored(pair, fused, 160) == _stored(pair, fused, 512)).mean() > 0.999


def test_what_is_around_counts_in_every_chip_and_beyond_its_core(tmp_path: Path) -> None:
    calibration = {"method": "platt", "slope": 0.7, "offset": -0.4, "data": "some"}
    model = _with_weight(tiny_model(tmp_path / "tiny.safetensors"), neighbour_weight=1.4, calibration=calibration)
    pair = _pair()
    fused = FusedDetector(_Half(load_model(model), "cpu"), fit_term(pair, silent))
    statistic = fused.term.statistic.image(pair.before, pair.after, pair.valid)[0]
    alone = fused.network.predict(pair.before[None], pair.after[None])[0, 0]
    both = joined(alone, statistic, WEIGHT)
    expected = np.rint(254 * reinforced(both, pair.valid, 1.4, slope=0.7, offset=-0.4))
    assert fused.halo >= fused.term.statistic.halo + RADIUS
    assert fused.field >= fused.network.field + RADIUS
    for chip in (512, 160):
        assert np.abs(_stored(pair, fused, chip).astype(float) - expected)[pair.valid].max() <= 1
    everywhere = np.ones_like(pair.valid)
    both = joined(alone, fused.term.statistic.image(pair.before, pair.after, everywhere)[0], WEIGHT)
    predicted = fused.predict(pair.before[None], pair.after[None])[0, 0]
    np.testing.assert_allclose(predicted, reinforced(both, everywhere, 1.4, slope=0.7, offset=-0.4), rtol=1e-4)


def test_what_lies_under_nodata_counts_for_nothing(model: Path) -> None:
    pair, network = _pair(), _Half(load_model(model), "cpu")
    other = ArrayPair(pair.before.copy(), pair.after.copy(), pair.valid, RGBN)
    other.before[:, ~pair.valid], other.after[:, ~pair.valid] = 0.9, 0.05
    maps = [_stored(each, FusedDetector(network, fit_term(each, silent)), 160) for each in (pair, other)]
    np.testing.assert_array_equal(*maps)


def test_equal_dates_are_unchanged_and_the_order_of_dates_does_not_matter(model: Path) -> None:
    pair = _pair()
    network = TorchDetector(load_model(model), "cpu")
    equal = ArrayPair(pair.before, pair.before, pair.valid, RGBN)
    alone, joined = (_stored(equal, each, 512) for each in (network, FusedDetector(network, fit_term(equal, silent))))
    assert (joined[pair.valid] < alone[pair.valid]).all()
    swapped = ArrayPair(pair.after, pair.before, pair.valid, RGBN)
    first, second = (_stored(each, FusedDetector(network, fit_term(each, silent)), 512) for each in (pair, swapped))
    assert np.abs(first.astype(int) - second)[pair.valid].max() <= 1


def test_survives_json_to_the_bit(model: Path) -> None:
    pair, network = _pair(), _Half(load_model(model), "cpu")
    fused = FusedDetector(network, fit_term(pair, silent))
    again = FusedDetector(network, PairTerm.from_json(fused.term.as_json()))
    np.testing.assert_array_equal(_stored(pair, again, 160), _stored(pair, fused, 160))


def test_a_run_says_what_it_joined(model: Path, tmp_path: Path) -> None:
    pair = crop_sample(tmp_path)
    result = run(*pair, tmp_path / "out", model=str(model), report=False)
    joined = result.record["preparation"]["joined"]
    assert (joined["pixels"] > 0, joined["channels"]) == (True, [0, 1, 2, 3])
    alone = run(*pair, tmp_path / "alone", model=str(_with_weight(model, 0.0)), report=False)
    assert "joined" not in alone.record["preparation"]


def test_the_intervals_of_a_series_are_the_runs_of_their_dates(model: Path, tmp_path: Path) -> None:
    before, after = crop_sample(tmp_path)
    series = run_series([before, after, before], tmp_path / "series", model=str(model), report=False)
    for number, pair in enumerate(((before, after), (after, before))):
        single = run(*pair, tmp_path / f"run{number}", model=str(model), backend="torch", report=False)
        assert series.intervals[number].record["areas"]["changed_m2"] == pytest.approx(
            single.record["areas"]["changed_m2"]
        )


def test_an_ensemble_is_joined_once_and_its_spread_stays(model: Path, tmp_path: Path) -> None:
    pair = crop_sample(tmp_path)
    names = str(model), str(tiny_model(tmp_path / "other.safetensors"))
    result = run(*pair, tmp_path / "out", model=names[0], ensemble=(names[1],), report=False)
    assert result.path("uncertainty.tif").exists()
    assert "joined" in result.record["preparation"]


def test_a_card_refuses_what_cannot_be_joined(model: Path) -> None:
    card = load_model(model).card.model_dump()
    with pytest.raises(ValueError, match="one kind of change"):
        Card.model_validate({**card, "classes": ("field", "house")})
    table = {"method": "isotonic", "stated": (0.0, 1.0), "observed": (0.0, 0.9), "data": "some"}
    with pytest.raises(ValueError, match="isotonic"):
        Card.model_validate({**card, "calibration": table})
    with pytest.raises(ValueError, match="neighbour_weight goes with urban_weight"):
        Card.model_validate({**card, "urban_weight": 0.0, "neighbour_weight": 1.0})
    assert isinstance(load_model(model), ChangeModel)
