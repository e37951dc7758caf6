from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.errors import ConfigError
from changedet.learn.datasets import LabelledScene
from changedet.learn.sample import Batch, ChipSampler

MakeScene = Callable[..., LabelledScene]


def _sampler(*scenes: LabelledScene, size: int = 32, share: float = 0.5, seed: int = 7) -> ChipSampler:
    return ChipSampler(scenes, size=size, batch=4, changed_share=share, seed=seed)


def _same(one: Batch, other: Batch) -> bool:
    parts = ("before", "after", "target", "valid")
    return all(torch.equal(getattr(one, part), getattr(other, part)) for part in parts)


def _coordinates(size: int) -> LabelledScene:
    """Reflectance encodes row and column; the pixel in the middle is changed."""
    image = (np.indices((size, size)) + 1).astype(np.float16)
    changed = np.zeros((size, size), np.bool_)
    changed[size // 2, size // 2] = True
    return LabelledScene("grid", image, image + 100, changed, np.ones_like(changed))


def test_a_batch_depends_on_seed_and_step_alone(make_scene: MakeScene) -> None:
    scenes = make_scene(seed=0), make_scene(seed=1)
    first, second = _sampler(*scenes), _sampler(*scenes)
    second.draw(1)
    assert _same(first.draw(3), second.draw(3))
    assert not _same(first.draw(3), first.draw(4))
    assert not _same(first.draw(3), _sampler(*scenes, seed=8).draw(3))


def test_the_changed_share_has_change_in_its_middle_half() -> None:
    sampler = _sampler(_coordinates(200))
    for step in range(20):
        target = sampler.draw(step).target[:2]
        assert target.sum(dim=(1, 2, 3)).tolist() == [1, 1]
        rows, cols = target.nonzero()[:, 2:].T
        assert ((rows >= 8) & (rows < 24) & (cols >= 8) & (cols < 24)).all()


def test_the_other_chips_lie_anywhere() -> None:
    scene = _coordinates(200)
    batches = [_sampler(scene, share=0).draw(step) for step in range(60)]
    corners = torch.cat([batch.before[:, :, 16, 16] for batch in batches])
    assert corners.amin() < 30
    assert corners.amax() > 170


def test_a_scene_smaller_than_half_a_chip_lies_in_it_whole_and_not_always_in_one_place() -> None:
    scene = _coordinates(11)
    batch = _sampler(scene, share=0).draw(0)
    assert batch.valid.sum(dim=(1, 2, 3)).tolist() == [121] * 4
    assert len({tuple(chip.nonzero()[0].tolist()) for chip in batch.target}) > 1


def test_what_lies_outside_is_invalid_and_neutral() -> None:
    scene = _coordinates(20)
    batch = _sampler(scene, size=32).draw(0)
    inside = batch.valid
    assert (inside.sum(dim=(1, 2, 3)) <= 400).all()
    for image in (batch.before, batch.after):
        assert torch.equal(image == np.float32(NEUTRAL_REFLECTANCE), ~inside.expand_as(image))
    assert not batch.target[~inside].any()
    assert batch.target.sum() >= 2


def test_images_label_and_validity_are_cut_at_the_same_place() -> None:
    scene = _coordinates(50)
    valid = np.random.default_rng(0).random((50, 50)) < 0.7
    valid[25, 25] = True
    batch = _sampler(replace(scene, valid=valid)).draw(0)
    chip, _, row, col = np.argwhere(batch.before.numpy()[:, :1] > 0.5).T
    at = tuple(batch.before[chip, channel, row, col].numpy().astype(int) - 1 for channel in (0, 1))
    assert np.array_equal(batch.valid[chip, 0, row, col].numpy(), valid[at])
    assert np.array_equal(batch.target[chip, 0, row, col].numpy(), scene.changed[at])
    assert torch.equal(batch.after[chip, 0, row, col], batch.before[chip, 0, row, col] + 100)


def test_refuses_scenes_without_change(make_scene: MakeScene) -> None:
    scene = make_scene()
    with pytest.raises(ConfigError, match="no changed pixel"):
        _sampler(replace(scene, valid=~scene.changed))
