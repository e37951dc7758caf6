from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from changedet.learn.masks import draw_mask, group, irregular, rectangle, road

SIZE, LARGEST = 144, 40.0
_MIDDLE = np.zeros((SIZE, SIZE), np.bool_)
_MIDDLE[1:-1, 1:-1] = True


def _drawn(shape: Callable[..., np.ndarray], count: int = 200) -> list[np.ndarray]:
    """Draw masks that lie wholly inside, whose shape can be measured."""
    rng = np.random.default_rng(0)
    masks = (shape(SIZE, LARGEST, rng) for _ in range(count))
    return [mask for mask in masks if mask.any() and not (mask & ~_MIDDLE).any()]


def _extent(mask: np.ndarray) -> float:
    """Return the largest distance of two pixels' middles, px."""
    rows, cols = np.nonzero(mask)
    points = np.stack([rows, cols]).astype(float)
    return max(np.ptp(np.array([np.cos(a), np.sin(a)]) @ points) for a in np.linspace(0, np.pi, 36))


@pytest.mark.parametrize("shape", [rectangle, irregular])
def test_one_piece_of_the_size_of_buildings_and_building_sites(shape: Callable[..., np.ndarray]) -> None:
    masks = _drawn(shape)
    assert len(masks) > 50
    assert all(ndimage.label(mask, np.ones((3, 3)))[1] == 1 for mask in masks)
    extents = np.array([_extent(mask) for mask in masks])
    assert extents.max() <= LARGEST * np.sqrt(2) + 1
    # Small ones are as common as large ones.
    assert (extents < 16).mean() > 0.2
    assert (extents > 24).mean() > 0.05


def test_rectangles_fill_the_box_that_turns_with_them() -> None:
    for mask in _drawn(rectangle):
        rows, cols = np.nonzero(mask)
        points = np.stack([rows, cols]).astype(float)
        turned = (np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) for a in np.linspace(0, np.pi / 2, 90))
        boxes = [np.prod(np.ptp(turn @ points, axis=1) + 1) for turn in turned]
        assert mask.sum() > 0.6 * min(boxes)


def test_roads_are_long_and_narrow() -> None:
    masks = _drawn(road)
    assert len(masks) > 20
    for mask in masks:
        width = 2 * ndimage.distance_transform_edt(mask).max()
        assert width <= 8
        assert _extent(mask) > 3 * width


def test_groups_are_several_alike_pieces() -> None:
    pieces = [ndimage.label(mask)[1] for mask in _drawn(group)]
    assert np.mean([count >= 2 for count in pieces]) > 0.9
    assert max(pieces) <= 12


def test_masks_follow_from_the_seed_and_are_never_empty() -> None:
    first, again = ([draw_mask(48, 20.0, np.random.default_rng(seed)) for seed in range(50)] for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert all(mask.any() for mask in first)
    assert len({mask.tobytes() for mask in first}) == 50
