from collections import Counter

import numpy as np
import pytest

from changedet.learn.hard import PRESSURE, Centre, HardPlaces

# Lattices of 3 x 2 and 1 x 2 cells of 10 px.
_SHAPES = [(25, 20), (10, 13)]


def _cells(hard: HardPlaces, draws: int) -> Counter[tuple[int, int, int]]:
    rng = np.random.default_rng(1)
    drawn = [hard.draw(rng) for _ in range(draws)]
    for scene, row, col in drawn:
        assert 0 <= row < _SHAPES[scene][0]
        assert 0 <= col < _SHAPES[scene][1]
    return Counter((scene, row // 10, col // 10) for scene, row, col in drawn)


def test_places_are_drawn_by_the_rank_of_their_loss() -> None:
    hard = HardPlaces(_SHAPES, cell=10)
    every = [Centre(0, row, col) for row in (5, 15, 24) for col in (0, 19)] + [Centre(1, 9, 0), Centre(1, 0, 12)]
    losses = [0.3, 0.1, 7.0, 0.2, 0.0, 0.5, 0.05, 0.6]
    hard.record(list(zip(every, losses, strict=True)))
    assert hard.visited == 1
    counts = _cells(hard, 4000)
    order = np.argsort(losses)[::-1]
    shares = [counts[every[i].scene, every[i].row // 10, every[i].col // 10] / 4000 for i in order]
    falling = PRESSURE ** (-np.arange(8) / 8)
    assert shares == pytest.approx(list(falling / falling.sum()), abs=0.025)


def test_what_was_not_visited_counts_as_hardest() -> None:
    hard = HardPlaces(_SHAPES, cell=10)
    hard.record([(Centre(0, 0, 0), 100.0)])
    assert hard.visited == 1 / 8
    assert hard.losses.isinf().sum() == 7
    assert _cells(hard, 2000)[0, 0, 0] < 2000 / 8 / 4


def test_a_later_visit_replaces_the_loss_and_places_outside_count_for_the_nearest_cell() -> None:
    hard = HardPlaces(_SHAPES, cell=10)
    hard.record([(Centre(1, -7, 25), 0.25), (Centre(0, 40, -3), 0.5), (Centre(0, 22, 2), 0.75)])
    assert hard.losses[7] == 0.25
    assert hard.losses[4] == 0.75
    assert hard.losses.isfinite().sum() == 2


def test_draws_follow_from_the_generator_and_the_losses_alone() -> None:
    one, other = (HardPlaces(_SHAPES, cell=10) for _ in range(2))
    for hard in (one, other):
        hard.record([(Centre(0, 0, 0), 0.5), (Centre(1, 0, 0), 0.25)])
    rng, same = (np.random.default_rng([3, 4]) for _ in range(2))
    assert [one.draw(rng) for _ in range(20)] == [other.draw(same) for _ in range(20)]
