"""The Onera Satellite Change Detection set (OSCD) in the folder layout of its own download.

Caye Daudt, Le Saux, Boulch, Gousseau, "Urban Change Detection for Multispectral Earth Observation Using Convolutional
Neural Networks", IGARSS 2018.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from changedet.errors import NotFoundError, SceneError
from changedet.grid import Window
from changedet.read import open_pair
from changedet.read.align import window_of
from changedet.read.coregister import estimate_shift

_CHANGED = 2


@dataclass(frozen=True, slots=True)
class LabelledScene:
    """A pair in memory with its truth.

    Attributes:
        name: of the city.
        before: reflectance, float16 (bands, H, W).
        after: reflectance, float16 (bands, H, W).
        changed: bool (H, W), True = changed.
        valid: bool (H, W), True = valid at both dates.
    """

    name: str
    before: NDArray[np.float16]
    after: NDArray[np.float16]
    changed: NDArray[np.bool_]
    valid: NDArray[np.bool_]


def city_folders(root: str | Path) -> dict[str, tuple[Path, Path]]:
    """Return city → (folder with imgs_1 and imgs_2, label file) of all labelled cities under `root`.

    Raises:
        NotFoundError: there is none.
    """
    labels = {path.stem.removesuffix("-cm"): path for path in sorted(Path(root).glob("*Labels/*/cm/*-cm.tif"))}
    cities = {folder.parent.name: folder.parent for folder in sorted(Path(root).glob("*Images/*/imgs_1"))}
    found = {name: (folder, labels[name]) for name, folder in cities.items() if name in labels}
    if not found:
        raise NotFoundError(
            f"no OSCD cities under {root}",
            expected="the folders '… - Images' and '… - Train Labels' of the set's own download",
        )
    return found


def read_city(folder: Path, label: Path, bands: tuple[str, ...]) -> LabelledScene:
    """Read one city as `changedet run --coregister` would, with its labels.

    Raises:
        SceneError: the label grid is not the before grid.
    """
    with open_pair(folder / "imgs_1", folder / "imgs_2", bands=bands) as pair:
        shift = estimate_shift(pair)
        with pair.shifted((shift.row, shift.col)) as registered:
            height, width = registered.geobox.shape
            chip = registered.read(Window(0, 0, height, width))
            rows, cols = window_of(pair.before.geobox, registered.geobox).slices
            expected = pair.before.geobox.shape
    truth = read_labels(label)
    if truth.shape != tuple(expected):
        raise SceneError(f"{label} has {truth.shape} px", expected=f"the before grid, {tuple(expected)} px")
    half = chip.before.astype(np.float16), chip.after.astype(np.float16)
    return LabelledScene(folder.name, *half, truth[rows, cols], chip.valid)


def read_labels(label: Path) -> NDArray[np.bool_]:
    """Return a city's labels, bool (H, W), True = changed; the file has 1 for unchanged and 2 for changed."""
    with warnings.catch_warnings():
        # The set's label files have no georeference: their pixels are those of the before grid, as `read_city` checks.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(label) as dataset:
            values = dataset.read(1)
    changed: NDArray[np.bool_] = values == _CHANGED
    return changed
