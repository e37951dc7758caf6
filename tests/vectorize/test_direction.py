import numpy as np
import pytest

from changedet.vectorize.direction import directions

# Brighter, darker, greener, less green, the same.
RED = np.array([(1000, 2000), (2000, 1000), (1000, 500), (500, 1000), (800, 800)]) * 1e-4
NEAR_INFRARED = np.array([(2000, 4000), (4000, 2000), (1500, 3500), (3500, 1500), (1600, 1600)]) * 1e-4


def dates(**bands):
    return ({name: values[:, which] for name, values in bands.items()} for which in (0, 1))


def test_each_way_is_told_by_the_change_that_is_larger():
    way = directions(*dates(B04=RED, B08=NEAR_INFRARED), 5)

    assert way.names == ["brighter", "darker", "greener", "less green", None]
    assert way.brightness == pytest.approx([0.1, -0.1, -0.05, 0.05, 0], abs=1e-12)
    assert way.ndvi == pytest.approx([0, 0, 0.75 - 0.2, 0.2 - 0.75, 0], abs=1e-12)


def test_without_infrared_there_is_only_brightness_and_without_bands_nothing():
    way = directions(*dates(B04=RED), 5)
    none = directions({}, {}, 5)

    assert way.names == ["brighter", "darker", "darker", "brighter", None]
    assert np.isnan(way.ndvi).all()
    assert none.names == [None] * 5
    assert np.isnan([none.brightness, none.ndvi]).all()
    assert directions({}, {}, 0).names == []


def test_what_one_date_does_not_show_is_unknown():
    red = RED.copy()
    red[1, 1] = np.nan

    assert directions(*dates(B04=red), 5).names == ["brighter", None, "darker", "brighter", None]
