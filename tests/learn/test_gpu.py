"""Training and detection on a CUDA GPU."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

from changedet.config import Candidate, TrainConfig
from changedet.detect.run import run
from changedet.detect.torch_detector import TorchDetector
from changedet.grid import Window
from changedet.learn.datasets import LabelledScene
from changedet.learn.evaluate import evaluate_scene
from changedet.learn.train import train
from changedet.network.base import ChangeNetwork
from changedet.network.package import load_model
from changedet.read.pair import open_pair
from tests.pairs import SAMPLE, crop_sample

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here"),
]
BANDS = ("B02", "B03", "B04", "B08")
MakeScene = Callable[..., LabelledScene]
MakeConfig = Callable[..., TrainConfig]
_RESNET = {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}


class _InterruptedError(Exception):
    pass


def _trained(scene: LabelledScene, config: TrainConfig, folder: Path, last: int | None = None) -> ChangeNetwork:
    def progress(step: int, loss: float) -> None:
        assert np.isfinite(loss)
        if step == last:
            raise _InterruptedError

    return train([scene], BANDS, config.candidates["it"], config, folder, progress)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_network_learns_a_chip_in_every_precision(
    precision: str, tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig
) -> None:
    still = dict.fromkeys(("warp_share", "gain", "band_gain", "haze", "noise"), 0) | {"crop_px": 48}
    config = make_config(
        device="cuda",
        precision=precision,
        steps=60,
        batch=4,
        changed_share=1,
        learning_rate=0.01,
        ema=0.5,
        candidates={"it": Candidate(architecture="siamese_smp", arguments=_RESNET)},
        augment=still,
    )
    network = _trained(make_scene(), config, tmp_path)
    assert next(network.parameters()).device.type == "cpu"
    histogram = evaluate_scene(network, make_scene())
    assert histogram.counts(histogram.best_threshold()).f1 > 0.9


@pytest.mark.parametrize("changes", [{}, {"precision": "float16", "accumulate": 2, "hard_share": 0.5}])
def test_resumed_is_uninterrupted_to_the_bit(
    changes: dict[str, Any], tmp_path: Path, make_scene: MakeScene, make_config: MakeConfig
) -> None:
    candidates = {"it": Candidate(architecture="fc_siam_diff", arguments={"width": 4})}
    config = make_config(device="cuda", deterministic=True, candidates=candidates, **changes)
    whole = _trained(make_scene(), config, tmp_path / "whole").state_dict()
    with pytest.raises(_InterruptedError):
        _trained(make_scene(), config, tmp_path / "resumed", last=3)
    resumed = _trained(make_scene(), config, tmp_path / "resumed").state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_map_is_that_of_the_processor() -> None:
    dates = np.random.default_rng(0).uniform(0.02, 0.4, (2, 1, 4, 128, 160)).astype(np.float32)
    there, here = (
        TorchDetector(load_model("s2-urban-rgbn"), device, precision="float32").predict(*dates)
        for device in ("cuda", "cpu")
    )
    # cuDNN computes convolutions in TF32, which keeps ten bits.
    np.testing.assert_allclose(there, here, atol=0.02)


def test_a_run_on_the_gpu_gives_the_mask_of_the_processor(tmp_path: Path) -> None:
    pair = crop_sample(tmp_path)
    masks = []
    for device in ("cuda", "cpu"):
        options = {"backend": "torch", "device": device, "precision": "float32", "report": False}
        result = run(*pair, tmp_path / device, model="s2-urban-rgbn", **options)
        with rasterio.open(result.path("mask.tif")) as dataset:
            masks.append(dataset.read(1))
    assert (masks[0] != masks[1]).mean() < 0.002


def test_half_precision_on_the_gpu_stays_within_the_cards_tolerance() -> None:
    model, plain = (load_model("s2-urban-rgbn") for _ in range(2))
    with open_pair(SAMPLE / "before.tif", SAMPLE / "after.tif", bands=model.card.bands) as pair:
        chip = pair.read(Window(row=0, col=0, height=256, width=256))
    dates = chip.before[None], chip.after[None]
    there = TorchDetector(model, "cuda")
    assert (there.precision, there.in_flight) == ("bfloat16", 2)
    answer = there.predict(*dates)
    assert model.card.tolerance.allows(answer, TorchDetector(plain, "cpu", precision="float32").predict(*dates))
    # Its memory on the way is used again, and what was answered before stays.
    kept = answer.copy()
    there.predict(dates[1], dates[0, :, :, ::-1])
    np.testing.assert_array_equal(answer, kept)


def test_threads_with_a_stream_each_get_their_own_answers() -> None:
    chips = np.random.default_rng(0).uniform(0.02, 0.4, (8, 2, 1, 4, 128, 128)).astype(np.float32)
    detector = TorchDetector(load_model("s2-urban-rgbn"), "cuda", precision="float32")
    alone = [detector.predict(*chip) for chip in chips]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda chip: detector.predict(*chip), chips))
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)
