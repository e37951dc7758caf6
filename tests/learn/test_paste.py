from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage

from changedet.learn.datasets.labels import NOT_KNOWN
from changedet.learn.paste import cut_object, paste_changes
from changedet.learn.sample import Batch

_SIZE = 40


def _chip(level: float, *objects: tuple[slice, slice]) -> tuple[torch.Tensor, ...]:
    """A chip of one grey; its objects are 10 times brighter before, 20 times after."""
    changed = torch.zeros(1, _SIZE, _SIZE)
    for place in objects:
        changed[0][place] = 1
    image = torch.full((2, _SIZE, _SIZE), level)
    valid = torch.ones(1, _SIZE, _SIZE, dtype=torch.bool)
    return torch.where(changed > 0, image * 10, image), torch.where(changed > 0, image * 20, image), changed, valid


def _batch(*chips: tuple[torch.Tensor, ...]) -> Batch:
    return Batch(*(torch.stack(parts) for parts in zip(*chips, strict=True)))


def _pasted(batch: Batch, *, feather: int = 0, seed: int = 0) -> Batch:
    return paste_changes(batch, share=1, feather=feather, generator=torch.Generator().manual_seed(seed))


_L_SHAPE = (slice(10, 15), slice(10, 13)), (slice(13, 15), slice(13, 18))


def test_an_object_comes_whole_with_both_dates_and_its_label() -> None:
    batch = _batch(_chip(1.0, *_L_SHAPE), _chip(2.0))
    pasted = _pasted(batch)
    new = pasted.target[1, 0] > 0
    assert new.sum() == batch.target[0].sum() == 25
    assert ndimage.label(new.numpy())[1] == 1
    for channel in range(2):
        assert torch.equal(pasted.before[1, channel], torch.where(new, 10.0, 2.0))
        assert torch.equal(pasted.after[1, channel], torch.where(new, 20.0, 2.0))
    # The chip without an object has nothing to give; what it was given is not passed on.
    assert torch.equal(pasted.before[0], batch.before[0])
    assert torch.equal(pasted.target[0], batch.target[0])


def test_the_feather_fades_into_the_chip_at_both_dates_and_is_unchanged() -> None:
    pasted = _pasted(_batch(_chip(1.0, (slice(20, 24), slice(20, 24))), _chip(2.0)), feather=3)
    new = pasted.target[1, 0] > 0
    distance = torch.from_numpy(ndimage.distance_transform_edt(~new.numpy()))
    weight = (1 - distance / 4).clamp(0, 1).float()
    expected = torch.where(new, 10.0, 2.0 - weight)  # the donor's ground is 1, the chip's 2
    torch.testing.assert_close(pasted.before[1, 0], expected)
    torch.testing.assert_close(pasted.after[1, 1], torch.where(new, 20.0, 2.0 - weight))
    assert new.sum() == 16


@pytest.mark.parametrize("seed", range(10))
def test_only_valid_and_unchanged_places_are_taken(seed: int) -> None:
    receiver = _chip(2.0, (slice(0, 12), slice(0, _SIZE)))
    receiver[3][0, 30:] = False
    batch = _batch(_chip(1.0, (slice(20, 24), slice(20, 25))), receiver)
    pasted = _pasted(batch, feather=1, seed=seed)
    new = (pasted.target[1, 0] > 0) & (batch.target[1, 0] == 0)
    assert new.sum() in (0, 20)
    touched = pasted.before[1, 0] != batch.before[1, 0]
    assert not (touched & ((batch.target[1, 0] > 0) | ~batch.valid[1, 0])).any()
    assert torch.equal(pasted.valid, batch.valid)


def test_where_there_is_no_place_the_chip_stays_as_it_is() -> None:
    full = _chip(2.0, (slice(0, _SIZE), slice(0, _SIZE)))
    batch = _batch(_chip(1.0, (slice(20, 24), slice(20, 25))), full)
    assert torch.equal(_pasted(batch).after[1], batch.after[1])


@pytest.mark.parametrize(
    ("place", "invalid"),
    [
        ((slice(0, 4), slice(20, 24)), None),  # cut by the chip's edge
        ((slice(20, 24), slice(20, 24)), (24, 20)),  # an invalid pixel in its feather
        ((slice(2, 30), slice(2, 30)), None),  # too large
    ],
)
def test_objects_that_are_cut_or_too_large_are_left_alone(
    place: tuple[slice, slice], invalid: tuple[int, int] | None
) -> None:
    chip = _chip(1.0, place)
    if invalid:
        chip[3][0, invalid[0], invalid[1]] = False
    assert cut_object(*(part.numpy() for part in chip), feather=1, rng=np.random.default_rng(0)) is None


def test_pixels_that_nobody_knows_of_are_no_object_and_come_along_with_none() -> None:
    unknown = _chip(1.0, (slice(20, 24), slice(20, 24)))
    unknown[2][unknown[2] > 0] = NOT_KNOWN
    near = _chip(1.0, (slice(20, 24), slice(20, 24)))
    near[2][0, 20:24, 24] = NOT_KNOWN
    for chip in (unknown, near):
        assert cut_object(*(part.numpy() for part in chip), feather=1, rng=np.random.default_rng(0)) is None


def test_a_neighbour_in_the_feather_would_come_along_unlabelled() -> None:
    near = _chip(1.0, (slice(20, 24), slice(20, 24)), (slice(20, 24), slice(26, 30)))
    parts = [part.numpy() for part in near]
    assert cut_object(*parts, feather=1, rng=np.random.default_rng(0)) is not None
    assert cut_object(*parts, feather=3, rng=np.random.default_rng(0)) is None


def test_objects_are_turned_and_placed_anywhere_and_reproducibly() -> None:
    batch = _batch(_chip(1.0, *_L_SHAPE), _chip(2.0))
    labels = [_pasted(batch, seed=seed).target[1, 0] for seed in range(24)]
    shapes = {tuple(label.nonzero().sub(label.nonzero().amin(0)).flatten().tolist()) for label in labels}
    assert len(shapes) == 8
    assert all(not torch.equal(one, other) for one, other in pairwise(labels))
    assert torch.equal(labels[5], _pasted(batch, seed=5).target[1, 0])


def test_a_batch_is_left_as_it_is() -> None:
    batch = _batch(_chip(1.0, *_L_SHAPE), _chip(2.0))
    copy = Batch(*(part.clone() for part in (batch.before, batch.after, batch.target, batch.valid)))
    _pasted(batch)
    assert torch.equal(batch.before, copy.before)
    assert torch.equal(batch.target, copy.target)


def test_an_object_keeps_its_kind() -> None:
    first, second = _chip(1.0, *_L_SHAPE), _chip(2.0)
    first[2].mul_(3)
    pasted = _pasted(_batch(first, second))
    assert pasted.target[1].unique().tolist() == [0, 3]
