from collections.abc import Callable

import numpy as np
import pytest
import torch

from changedet.config import TrainConfig
from changedet.errors import PairError
from changedet.grid import Window
from changedet.learn.datasets import LabelledScene
from changedet.learn.scene_term import fit_scene_term
from changedet.stats.neighbourhood import RADIUS, reinforced
from changedet.stats.urban import joined
from tests.learn.conftest import BANDS


def test_a_window_is_joined_as_the_whole_is(make_scene: Callable[..., LabelledScene]) -> None:
    scene = make_scene(96)
    scene.valid[20:40, 50:70] = False
    term = fit_scene_term(scene, BANDS, 3.0, 1.5)
    whole = Window(0, 0, 96, 96)
    probability = np.random.default_rng(0).uniform(0.05, 0.9, (1, 96, 96)).astype(np.float32)
    statistic, valid = term.values(whole)
    both = joined(probability, statistic[None], 3.0)[0]
    expected = reinforced(both, scene.valid, 1.5)
    np.testing.assert_array_equal(valid, scene.valid)
    np.testing.assert_array_equal(term.join(probability, whole, whole)[0], expected)
    core = Window(30, 10, 40, 50)
    around = core.grown(term.margin).intersect(whole)
    assert around is not None
    part = term.join(probability[:, *around.slices], core, around)[0]
    seen = scene.valid[core.slices]
    np.testing.assert_allclose(part[seen], expected[core.slices][seen], rtol=1e-4)


def test_refuses_a_scene_without_a_valid_pixel_by_its_name(make_scene: Callable[..., LabelledScene]) -> None:
    scene = make_scene(64)
    scene.valid[:] = False
    with pytest.raises(PairError, match="no pixel of place0 is valid"):
        fit_scene_term(scene, BANDS, 3.0)


def test_without_what_is_around_there_is_no_margin(make_scene: Callable[..., LabelledScene]) -> None:
    scene, whole = make_scene(64), Window(0, 0, 64, 64)
    term, more = fit_scene_term(scene, BANDS, 3.0), fit_scene_term(scene, BANDS, 3.0, 1.0)
    assert (term.margin, more.margin) == (0, RADIUS)
    probability = torch.rand(1, 64, 64).numpy()
    np.testing.assert_array_equal(
        term.join(probability, whole, whole), joined(probability, term.values(whole)[0][None], 3.0)
    )


def test_a_recipe_says_at_once_what_its_card_would_say_in_the_end(make_config: Callable[..., TrainConfig]) -> None:
    assert make_config(urban_weight=2.0, neighbour_weight=1.0).neighbour_weight == 1.0
    with pytest.raises(ValueError, match="neighbour_weight goes with urban_weight"):
        make_config(neighbour_weight=1.0)
    with pytest.raises(ValueError, match="urban_weight goes with change or no change"):
        make_config(urban_weight=2.0, data={"kind": "folders", "root": "nowhere", "classes": ["built", "cleared"]})
    models = {"tiny": {"summary": "Twice red.", "bands": ["B04", "B04"]}}
    with pytest.raises(ValueError, match=r"models\.tiny\.bands names one twice"):
        make_config(models=models)
    lost = {"crop_px": 32, "band_dropout": 0.5, "optional_bands": ["B12", *BANDS]}
    with pytest.raises(ValueError, match=r"optional_bands holds all bands of models\.tiny"):
        make_config(augment=lost)
