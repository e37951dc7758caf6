import json

import numpy as np
import pytest

from changedet.read.displacement import NONE, Displacement

FIELD = Displacement(
    (0.0, 100.0, 200.0, 300.0),
    (0.0, 150.0, 300.0, 450.0),
    tuple(map(tuple, np.random.default_rng(2).normal(size=(4, 4)).tolist())),
    tuple(map(tuple, np.random.default_rng(3).normal(size=(4, 4)).tolist())),
)


@pytest.mark.parametrize("displacement", [NONE, Displacement.constant(0.5, -1.25), FIELD])
def test_it_is_read_back_from_json(displacement: Displacement) -> None:
    assert Displacement.from_json(json.loads(json.dumps(displacement.as_json()))) == displacement


@pytest.mark.parametrize("displacement", [Displacement.constant(0.5, -1.25), FIELD])
def test_on_larger_pixels_it_leads_to_the_same_places(displacement: Displacement) -> None:
    rows, cols = np.random.default_rng(4).uniform(0, 300, (2, 20))
    expected = displacement.at(rows, cols)
    coarse = displacement.on_pixels_of(4).at(rows / 4, cols / 4)
    np.testing.assert_allclose(np.multiply(coarse, 4), expected, atol=1e-9)
