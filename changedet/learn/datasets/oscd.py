"""The Onera Satellite Change Detection set (OSCD) in the folder layout of its own download.

Caye Daudt, Le Saux, Boulch, Gousseau, "Urban Change Detection for Multispectral Earth Observation Using Convolutional
Neural Networks", IGARSS 2018. 14 cities have published labels for training, 10 for testing, in a folder of their own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from changedet.learn.datasets.labels import Truth
from changedet.learn.datasets.scene import SceneFiles

SPLITS = ("train", "test")
_CHANGED = 2


def changed_of(values: NDArray[np.uint8]) -> Truth:
    """Decode a city's labels (1, H, W): 1 is unchanged, 2 is changed."""
    truth: Truth = (values[0] == _CHANGED).astype(np.uint8)
    return truth


def oscd_scenes(root: Path, split: str | None, *, coregister: bool = True) -> list[SceneFiles]:
    """Return the cities under `root` that have labels in the split, by name.

    The label files have no georeference: their pixels are those of the before grid at 10 m. The two dates are
    registered to no better than 1.2 px, so the shift is removed unless told otherwise.
    """
    kind = f"*{split.capitalize()} Labels" if split else "*Labels"
    labels = {path.stem.removesuffix("-cm"): path for path in sorted(root.glob(f"{kind}/*/cm/*-cm.tif"))}
    cities = {folder.parent.name: folder.parent for folder in sorted(root.glob("*Images/*/imgs_1"))}
    return [
        SceneFiles(name, city / "imgs_1", city / "imgs_2", labels[name], changed_of, coregister=coregister)
        for name, city in cities.items()
        if name in labels
    ]
