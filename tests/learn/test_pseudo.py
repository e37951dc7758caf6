from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from changedet.config import AugmentConfig, Candidate, PretrainConfig, PseudoConfig
from changedet.grid import Window
from changedet.learn.augment import augment
from changedet.learn.datasets import LabelledScene
from changedet.learn.datasets.labels import NOT_KNOWN
from changedet.learn.pseudo import PseudoScene, pseudo_labelled
from changedet.learn.sample import ChipSampler
from changedet.learn.scene_term import fit_scene_term

BANDS = ("B02", "B03", "B04", "B08")
MakeScene = Callable[..., LabelledScene]
_SURE = PseudoConfig(changed_from=2.0, unchanged_to=1.2)


def _noisy(make_scene: MakeScene) -> LabelledScene:
    scene = make_scene(128)
    rng = np.random.default_rng(1)
    noise = 0.01 * rng.standard_normal((2, *scene.before.shape))
    valid = scene.valid.copy()
    valid[:, 100:] = False
    before, after = (
        date + part for date, part in zip((scene.before, scene.after), noise.astype(np.float16), strict=True)
    )
    return replace(scene, before=before, after=after, valid=valid)


def test_labels_are_what_the_statistic_is_sure_of_where_both_dates_are_valid(make_scene: MakeScene) -> None:
    scene = _noisy(make_scene)
    term = fit_scene_term(scene, BANDS, 1.0)
    labels = pseudo_labelled(term, _SURE).labels
    statistic, valid = term.values(Window(0, 0, 128, 128))
    assert set(np.unique(labels)) == {0, 1, NOT_KNOWN}
    np.testing.assert_array_equal(labels == 1, valid & (statistic >= 2.0))
    np.testing.assert_array_equal(labels == 0, valid & (statistic <= 1.2))
    assert (labels[:, 100:] == NOT_KNOWN).all()
    # They are right: the square that is new, and nothing far from it.
    assert scene.changed[labels == 1].mean() > 0.6
    assert not scene.changed[labels == 0].any()


def test_the_scenes_own_truth_is_not_looked_at(make_scene: MakeScene) -> None:
    scene = _noisy(make_scene)
    other = replace(scene, truth=np.ones_like(scene.truth))
    first, second = (pseudo_labelled(fit_scene_term(each, BANDS, 1.0), _SURE) for each in (scene, other))
    np.testing.assert_array_equal(first.labels, second.labels)
    window = Window(10, 20, 30, 40)
    for one, two in zip(first.read(window), second.read(window), strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_is_not_sure_is_seen_and_not_learned_from(make_scene: MakeScene) -> None:
    """The imagery stays; no label there changes the loss."""
    scene = replace(_noisy(make_scene), valid=np.ones((128, 128), np.bool_))
    labels = pseudo_labelled(fit_scene_term(scene, BANDS, 1.0), _SURE).labels
    chips = ChipSampler([PseudoScene(scene, labels)], size=64, batch=4, changed_share=0.5, seed=0).draw(0)
    plain = ChipSampler([scene], size=64, batch=4, changed_share=0.5, seed=0)
    assert (chips.target == NOT_KNOWN).any()
    assert (chips.target == 1).any()
    still = {"warp_share": 0, "gain": 0, "band_gain": 0, "haze": 0, "noise": 0, "crop_px": 64, "swap": 0}
    out = augment(chips, BANDS, AugmentConfig.model_validate(still), 0, 0)
    unsure = out.target == NOT_KNOWN
    assert out.valid[unsure].any()
    assert (out.before[(unsure & out.valid).expand_as(out.before)] != 0.1).any()
    assert plain.draw(0).before.shape == chips.before.shape
    assert torch.isfinite(out.before).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pseudo": {"changed_from": 2.0, "unchanged_to": 3.0}}, r"unchanged_to 3\.0 lies not below"),
        ({"made": None, "pseudo": None, "places": None}, "nothing to learn"),
        ({"augment": {"paste": 0.5}}, r"augment\.paste needs labels"),
        ({"early_stop": {"scenes": ["a"]}}, "early_stop needs labels"),
        ({"data": {"kind": "folders", "root": "nowhere", "classes": ["a", "b"]}}, r"data\.classes and .* need labels"),
    ],
)
def test_recipes_that_need_labels_or_teach_nothing_are_refused(changes: dict[str, object], message: str) -> None:
    fields = {
        "data": "nowhere",
        "out": "nowhere",
        "models": {"m": {"summary": "", "bands": BANDS}},
        "network": Candidate(architecture="fc_siam_diff"),
        "licence": "",
        "licence_note": "",
        "description": "",
    }
    assert PretrainConfig.model_validate(fields).pseudo == PseudoConfig()
    with pytest.raises(ValueError, match=message):
        PretrainConfig.model_validate({**fields, **changes})
