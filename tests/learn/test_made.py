from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from changedet.config import MadeConfig
from changedet.learn.datasets import LabelledScene
from changedet.learn.datasets.labels import NOT_KNOWN
from changedet.learn.hard import Centre
from changedet.learn.made import Light, Maker, built_up, lights_of, relit
from changedet.learn.sample import Batch, ChipSampler
from changedet.learn.scene_term import scene_moments

BANDS = ("B02", "B03", "B04", "B08")
MakeScene = Callable[..., LabelledScene]
_SIZE = 48


def _unchanged(make_scene: MakeScene, seed: int, *, noise: float = 0.0) -> LabelledScene:
    """A place whose after date is the before date in another light: half as bright, and hazy."""
    scene = make_scene(96, seed)
    rng = np.random.default_rng(seed)
    after = 0.5 * scene.before.astype(np.float32) + 0.1 + noise * rng.standard_normal(scene.before.shape)
    return LabelledScene(f"p{seed}", scene.before, after.astype(np.float16), np.zeros_like(scene.truth), scene.valid)


def _maker(scenes: list[LabelledScene], **config: Any) -> Maker:
    moments = [scene_moments(scene) for scene in scenes]
    lights = [lights_of(each.mean, each.deviation) for each in moments]
    return Maker(scenes, lights, BANDS, MadeConfig.model_validate({"largest_px": 20, **config}), 0)


def _chips(scenes: list[LabelledScene], count: int = 6) -> tuple[Batch, list[Centre]]:
    sampler = ChipSampler(scenes, size=_SIZE, batch=count, changed_share=0, seed=0)
    centres = [Centre(chip % len(scenes), 48, 48) for chip in range(count)]
    return sampler.cut(centres), centres


def _copy(batch: Batch) -> Batch:
    return Batch(*(part.clone() for part in (batch.before, batch.after, batch.target, batch.valid)))


def test_made_changes_are_labelled_where_the_after_date_moved_and_nowhere_else(make_scene: MakeScene) -> None:
    scenes = [_unchanged(make_scene, seed) for seed in range(3)]
    plain, centres = _chips(scenes)
    made = _maker(scenes, share=1.0, still=0.0)(_copy(plain), centres, 0)
    assert torch.equal(made.before, plain.before)
    assert torch.equal(made.valid, plain.valid)
    moved = (made.after - plain.after).abs().amax(dim=1, keepdim=True)
    changed = made.target == 1
    assert changed.flatten(1).any(dim=1).all()
    assert moved[changed].min() > 0
    # The feather is a few pixels beside the label: nothing moves far from it.
    near = torch.nn.functional.max_pool2d((made.target > 0).float(), 7, 1, 3) > 0
    assert moved[~near].max() == 0
    assert set(made.target.unique().tolist()) <= {0.0, 1.0, float(NOT_KNOWN)}


def test_a_change_that_nobody_could_see_is_not_known(make_scene: MakeScene) -> None:
    """The same grey everywhere: what is pasted is what was there."""
    scene = _unchanged(make_scene, 0)
    flat = LabelledScene(
        "flat", np.full_like(scene.before, 0.2), np.full_like(scene.after, 0.2), scene.truth, scene.valid
    )
    flat.before[:, :48] += 0.1  # varies, but not within the chip
    flat.after[:, :48] += 0.1
    maker = _maker([flat], share=1.0, still=0.0, built_up=0.0)
    batch, _ = _chips([flat], 1)
    batch.before[:], batch.after[:] = 0.2, 0.2
    made = [maker(_copy(batch), [Centre(0, 48, 48)], index) for index in range(20)]
    same = [one for one in made if torch.allclose(one.after, batch.after, atol=1e-3)]
    assert same
    assert all(set(one.target.unique().tolist()) == {0.0, float(NOT_KNOWN)} for one in same)


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_a_paste_of_unchanged_content_leaves_no_seam(make_scene: MakeScene, noise: float) -> None:
    """Of the place's own earlier content: no label, and pixels differ from the after date by no more than its noise."""
    scenes = [_unchanged(make_scene, seed, noise=noise) for seed in range(3)]
    plain, centres = _chips(scenes, 12)
    maker = _maker(scenes, share=0.0, still=1.0)
    pasted = maker(_copy(plain), centres, 0)
    own = [chip for chip in range(12) if torch.equal(pasted.before[chip], plain.before[chip])]
    both = [chip for chip in range(12) if chip not in own]
    assert own
    assert both
    assert not pasted.target.any()
    moved = (pasted.after - plain.after)[own]
    assert moved.abs().max() < 5 * noise + 2e-3  # float16, in which scenes are held
    if noise:
        assert moved.abs().max() > 0


def test_content_of_both_dates_of_another_place_stays_a_pair_without_change(make_scene: MakeScene) -> None:
    """The after date is a line of the before date, in the pasted pixels too."""
    scenes = [_unchanged(make_scene, seed) for seed in range(3)]
    plain, centres = _chips(scenes, 12)
    pasted = _maker(scenes, share=0.0, still=1.0)(_copy(plain), centres, 0)
    assert not torch.equal(pasted.before, plain.before)
    assert (pasted.after - (0.5 * pasted.before + 0.1)).abs().max() < 4e-3
    assert not pasted.target.any()


def test_it_is_a_function_of_seed_and_number_of_the_batch(make_scene: MakeScene) -> None:
    scenes = [_unchanged(make_scene, seed) for seed in range(3)]
    plain, centres = _chips(scenes)
    maker = _maker(scenes)
    one, again, other = (maker(_copy(plain), centres, index) for index in (5, 5, 6))
    assert torch.equal(one.after, again.after)
    assert torch.equal(one.target, again.target)
    assert not torch.equal(one.after, other.after)


def test_content_takes_the_light_it_is_pasted_into() -> None:
    rng = np.random.default_rng(0)
    content = rng.normal(0.2, 0.05, (2, 40, 40)).astype(np.float32)
    given = Light(content.mean(axis=(1, 2)), content.std(axis=(1, 2)))
    wanted = Light(np.array([0.1, 0.3], np.float32), np.array([0.03, 0.08], np.float32))
    moved = relit(content, given, wanted)
    np.testing.assert_allclose(moved.mean(axis=(1, 2)), wanted.mean, atol=1e-5)
    np.testing.assert_allclose(moved.std(axis=(1, 2)), wanted.deviation, rtol=1e-3)


# Reflectance of concrete, grass, bare soil and water in B03, B04, B08, B11.
_GROUND = {
    "concrete": (0.18, 0.19, 0.22, 0.25),
    "grass": (0.07, 0.05, 0.35, 0.18),
    "water": (0.05, 0.03, 0.02, 0.01),
}


@pytest.mark.parametrize("bands", [("B03", "B04", "B08", "B11"), ("B03", "B04", "B08"), ("B03", "B04")])
def test_concrete_is_more_built_up_than_grass_or_water(bands: tuple[str, ...]) -> None:
    index = {
        name: float(built_up(np.array(values, np.float32)[: len(bands), None, None], bands)[0, 0])
        for name, values in _GROUND.items()
    }
    assert max(index, key=lambda name: index[name]) == "concrete"


def test_built_up_content_is_preferred(make_scene: MakeScene) -> None:
    """One scene of grass, one of concrete: pastes are of concrete unless any will do."""
    rng = np.random.default_rng(0)
    scenes = []
    for name, level in (("grass", (0.05, 0.07, 0.05, 0.35)), ("concrete", (0.17, 0.18, 0.19, 0.22))):
        image = (np.array(level)[:, None, None] + 0.01 * rng.standard_normal((4, 96, 96))).astype(np.float16)
        scenes.append(
            LabelledScene(name, image, image.copy(), np.zeros((96, 96), np.uint8), np.ones((96, 96), np.bool_))
        )
    share = {}
    for built in (0.0, 1.0):
        maker = _maker(scenes, built_up=built)
        donors = [maker._donor(_SIZE, np.random.default_rng(seed)) for seed in range(60)]
        share[built] = np.mean([donor.before[3].mean() < 0.3 for donor in donors])
    assert 0.3 < share[0.0] < 0.7
    assert share[1.0] > 0.85
