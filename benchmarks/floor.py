"""The floor: the forward pass alone, chips already in memory, in the backend and precision that a run takes.

    python -m benchmarks.floor MODEL HEIGHT WIDTH

Prints JSON: seconds a pixel of a chip of that size, the least of several passes.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from changedet.config import RunConfig
from changedet.detect.backend import open_detector
from changedet.network.shipped import read_card

_PASSES = 4


def main() -> None:
    """Time passes over one chip of noise, after one that is not counted."""
    model, height, width = sys.argv[1:]
    detector = open_detector(model, read_card(model).bands, RunConfig())
    shape = (2, 1, len(detector.bands), int(height), int(width))
    before, after = np.random.default_rng(0).random(shape, dtype=np.float32) / 3
    detector.predict(before, after)
    seconds = []
    for _ in range(_PASSES):
        begun = time.perf_counter()
        detector.predict(before, after)
        seconds.append(time.perf_counter() - begun)
    told = {"backend": detector.backend, "precision": detector.precision, "device": detector.device}
    print(json.dumps({"seconds_per_px": min(seconds) / (shape[-1] * shape[-2]), **told}))


if __name__ == "__main__":
    main()
