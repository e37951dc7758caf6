"""Statistics of a pair that is empty but for a corner."""

import numpy as np

from changedet.detect.sample import moments_of
from changedet.detect.stitch import silent
from changedet.grid import Window
from changedet.read.pair import Chip


def test_moments_are_those_of_the_valid_pixels_wherever_they_lie() -> None:
    """Of 36 blocks 24 are drawn; block 10 is none of them."""
    shape = 6 * 512, 6 * 512
    values = np.random.default_rng(0).random((2, 1, 40, 50), dtype=np.float32)
    for index in range(0, 36, 5):
        place = Window(512 * (index // 6) + 100, 512 * (index % 6) + 200, 40, 50)

        def read(window: Window, place: Window = place) -> Chip:
            dates, valid = np.zeros((2, 1, window.height, window.width), np.float32), np.zeros((512, 512), np.bool_)
            if window.intersect(place) is not None:
                here = place.relative_to(window).slices
                dates[:, :, *here], valid[here] = values, True
            return Chip(dates[0], dates[1], valid, window)

        moments = moments_of(read, shape, 1, silent)
        assert moments.weight == 40 * 50
        np.testing.assert_allclose(moments.mean, values.mean(axis=(1, 2, 3)), rtol=1e-5)
